"""Weights of published PyTorch encoders in our trees: torchvision's ResNets, and MoCo checkpoints of them."""

import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.models.resnet2d import DEPTHS

Arrays = dict[str, np.ndarray]
PREFIXES = ("module.encoder_q.", "encoder_q.", "module.", "")  # MoCo's query encoder; wrapped; plain
NORM = {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"}


def read_state(path: str | pathlib.Path) -> Arrays:
    """Arrays of a PyTorch checkpoint (.pth, .tar; needs torch) or of an .npz with the same names.

    Raises UserError where the file or torch is not there, or the file is damaged or of another kind.
    """
    if not pathlib.Path(path).is_file():
        raise UserError(f"no weights at {path}: give a PyTorch checkpoint, or an .npz with its arrays.")
    read = _read_npz if pathlib.Path(path).suffix == ".npz" else _read_torch
    try:
        return read(path)
    except UserError:
        raise
    except Exception as error:  # numpy, zipfile, pickle and torch have their own
        raise UserError(
            f"{path} holds no weights that can be read ({type(error).__name__}): give a state_dict saved by "
            "torch.save, or an .npz with its arrays."
        ) from error


def _read_npz(path: str | pathlib.Path) -> Arrays:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _read_torch(path: str | pathlib.Path) -> Arrays:
    try:
        import torch  # pyright: ignore[reportMissingImports]: optional
    except ModuleNotFoundError as error:
        raise UserError(f"reading {path} needs torch: pip install torch, or save its arrays as .npz.") from error
    stored = torch.load(path, map_location="cpu", weights_only=True)
    stored = stored.get("state_dict", stored)
    return {name: value.numpy() for name, value in stored.items() if hasattr(value, "numpy")}


def convert_encoder(state: Arrays, depth: str) -> tuple[Any, Any]:
    """(params, batch_stats) of `resnet2d.ResNet2D` of that depth with the 7x7 stem, any width.

    state: arrays by torchvision's names, after one of PREFIXES; kernels (out, in, H, W) become (H, W, in, out). The
    last layer (fc) is not used. Raises UserError that names the first array that is missing, or belongs to a further
    block.
    """
    prefix = find_prefix(state)
    known = {theirs for theirs, _, _ in layers(depth)}
    for name in sorted(state):  # a deeper network has all layers of a shallower one, and more
        layer = name.removeprefix(prefix).rpartition(".")[0]
        if name.startswith(f"{prefix}layer") and layer not in known:
            raise UserError(
                f"the checkpoint has {name}, and {depth} no such layer: set config.model.name to its network."
            )
    params: dict[str, Any] = {}
    stats: dict[str, Any] = {}
    for theirs, ours, kind in layers(depth):
        if kind == "conv":
            _put(params, (*ours, "kernel"), _get(state, f"{prefix}{theirs}.weight").transpose(2, 3, 1, 0))
            continue
        for name, leaf in NORM.items():
            tree = params if leaf in ("scale", "bias") else stats
            _put(tree, (*ours, leaf), _get(state, f"{prefix}{theirs}.{name}"))
    return params, stats


def convert_projector(state: Arrays) -> Any | None:
    """Parameters of `resnet2d.Projector` from MoCo v2's two-layer fc, or None where the checkpoint has none."""
    prefix = find_prefix(state)
    if f"{prefix}fc.2.weight" not in state:
        return None
    names = {"hidden": "fc.0", "out": "fc.2"}
    return {
        ours: {"kernel": _get(state, f"{prefix}{theirs}.weight").T, "bias": _get(state, f"{prefix}{theirs}.bias")}
        for ours, theirs in names.items()
    }


def find_prefix(state: Arrays) -> str:
    """What precedes torchvision's names in this checkpoint; UserError where they are not to be found."""
    for prefix in PREFIXES:
        if f"{prefix}conv1.weight" in state:
            return prefix
    raise UserError(
        f"the checkpoint has no conv1.weight, but {', '.join(sorted(state)[:3]) or 'nothing'}: expected the arrays of "
        "a torchvision ResNet."
    )


def layers(depth: str) -> Iterator[tuple[str, tuple[str, ...], str]]:
    """(torchvision's name, path in our tree, "conv" or "norm") of every layer of the encoder."""
    yield "conv1", ("conv_stem",), "conv"
    yield "bn1", ("norm_stem",), "norm"
    bottleneck, stages = DEPTHS[depth]
    for stage, blocks in enumerate(stages, 1):
        for i in range(blocks):
            theirs, ours = f"layer{stage}.{i}", f"stage{stage}_block{i}"
            for j in range(1, 4 if bottleneck else 3):
                yield f"{theirs}.conv{j}", (ours, f"conv{j}"), "conv"
                yield f"{theirs}.bn{j}", (ours, f"norm{j}"), "norm"
            if i == 0 and (stage > 1 or bottleneck):
                yield f"{theirs}.downsample.0", (ours, "conv_shortcut"), "conv"
                yield f"{theirs}.downsample.1", (ours, "norm_shortcut"), "norm"


def _get(state: Arrays, name: str) -> np.ndarray:
    if name not in state:
        raise UserError(f"the checkpoint has no {name}: it is of a network of another depth than config.model.name.")
    return np.asarray(state[name], np.float32)


def _put(tree: dict[str, Any], path: tuple[str, ...], value: np.ndarray) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = value
