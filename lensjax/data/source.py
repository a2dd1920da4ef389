"""Published data sets as memory-mapped arrays: built once by TFDS, read once, then indexed like any array.

Random rows of a memory-mapped .npy come about a hundred times faster than records of the published files.
"""

import errno
import importlib
import os
import pathlib
import shutil
from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import create_memmap
from lensjax.core.locks import locked

BLOCK = 1024  # records read at a time
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def load_split(config: Any, split: str) -> dict[str, np.ndarray]:
    """Arrays of a split ("train" or "test") of config.data.dataset: {name: (N, ...) float32, memory-mapped}.

    Builds the set under config.data.dir if it is missing, and its .npy copy in the set's folder; either is whole or
    absent, however the process ends. Raises UserError for an unknown data set or split, and where there is no copy
    and none can be written.
    """
    folder = build(config)
    arrays = folder / "npy" / split
    if not arrays.is_dir():
        try:
            copy_split(folder, split, arrays)
        except OSError as error:
            if error.errno not in FORBIDDEN:
                raise
            raise UserError(
                f"the set in {folder} has no .npy copy of the split {split!r} yet, and none can be written there "
                f"({error.strerror}): load it once where that is allowed, or give a copy of it as config.data.dir."
            ) from error
    return {path.stem: np.load(path, mmap_mode="r") for path in sorted(arrays.glob("*.npy"))}


def build(config: Any) -> pathlib.Path:
    """Folder of the set of this config, built unless it is there."""
    from datasets.prepare import prepare

    name = config.data.dataset
    try:
        module = importlib.import_module(f"datasets.{name}")
    except ModuleNotFoundError as error:
        raise UserError(f"config.data.dataset is {name!r}, and there is no datasets/{name}: check the name.") from error
    try:
        settings = module.builder_config(config)
    except (AttributeError, KeyError):
        raise UserError(
            f"config.data.dataset is {name!r}, which is no data set of the system {config.system!r}."
        ) from None
    return prepare(module.Builder(config=settings, data_dir=os.fspath(config.data.dir)))


def copy_split(folder: pathlib.Path, split: str, target: pathlib.Path) -> None:
    """Write every feature of a split as target/<name>.npy; the folder appears whole, at the end."""
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder)
    if split not in builder.info.splits:
        raise UserError(f"no split {split!r} in {folder}; expected one of {', '.join(builder.info.splits)}.")
    target.parent.mkdir(exist_ok=True)
    unfinished = target.with_name(f".{split}.unfinished")
    with locked(target.with_name(f".{split}.lock")):
        if target.is_dir():  # another process was first
            return
        shutil.rmtree(unfinished, ignore_errors=True)  # left by a killed process
        unfinished.mkdir()
        source = builder.as_data_source(split=split)  # pyright: ignore[reportCallIssue]: wrapped by the library
        _copy(source, builder.info.features, unfinished)
        os.replace(unfinished, target)


def _copy(source: Any, features: Any, folder: pathlib.Path) -> None:
    size = len(source)
    outs = {
        name: create_memmap(folder / f"{name}.npy", np.float32, (size, *feature.shape))
        for name, feature in features.items()
    }
    for start in range(0, size, BLOCK):
        rows = source.__getitems__(range(start, min(start + BLOCK, size)))
        for name, out in outs.items():
            out[start : start + len(rows)] = np.stack([row[name] for row in rows])
    for out in outs.values():
        out.flush()
