"""Build a data set once, whatever kills or races the build."""

import contextlib
import io
import pathlib
import shutil
import sys

from lensjax.core.files import naming_full
from lensjax.core.locks import locked


def prepare(builder) -> pathlib.Path:
    """Builds the set of a TFDS builder unless it is there, and returns its folder.

    A build writes into `incomplete.*` and renames it at the end, so the folder is whole or absent; one that is there
    is only read. What killed builds left behind is removed. Two processes that want the same set take turns; the second
    finds it built.
    """
    folder = pathlib.Path(builder.data_dir)
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        for stale in folder.parent.glob(f"incomplete.*_{folder.name}"):
            shutil.rmtree(stale)
        print(f"building {folder}", file=sys.stderr)
        with contextlib.redirect_stdout(io.StringIO()), naming_full(folder):  # the library announces a download
            builder.download_and_prepare()
    return folder
