"""Checkpoints of a run (Orbax), and the small files of released weights (.npz).

Orbax restores flipped bytes without a word, so the JSON item beside the arrays holds their SHA-256; it is compared on
every restore. The same item holds the config: inference needs the path and nothing else.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import shutil
import warnings
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from flax import traverse_util

from lensjax.core import settings
from lensjax.core.errors import UserError
from lensjax.core.files import naming_full, replacing
from lensjax.core.sharding import any_process, to_host
from lensjax.core.task import State

WEIGHTS_NAME = "weights.npz"
DTYPES = ("float32", "int8")  # that weights are released in
SCALE = ":scale"
UNSAFE = ("[", "\\")  # in a path that Orbax takes for a glob where it joins what the processes wrote
ASIDE = "unreadable"  # folder in that of the checkpoints
SIGNS = {"min": 1.0, "max": -1.0}  # best_mode -> what makes a metric a cost
Weights = tuple[Any, Any]  # params, model_state


def digest(tree: Any) -> str:
    """SHA-256 of the names, dtypes, shapes and bytes of a tree of arrays."""
    total = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        total.update(array.data if array.size else b"")
    return total.hexdigest()


def _digests(state: State) -> dict[str, str]:
    inference = {"params": state.params, "model_state": state.model_state}
    rest = {"step": state.step, "opt_state": state.opt_state, "extra": state.extra}
    return {"inference": digest(inference), "rest": digest(rest)}


class _Preserve:
    """Orbax policy: the two latest steps (one to fall back to), and the best."""

    best: int | None = None

    def should_preserve(self, checkpoints: Any, *, context: Any) -> list[bool]:
        latest = {info.step for info in checkpoints[-2:]}
        return [info.step in latest or info.step == self.best for info in checkpoints]


class Checkpoints:
    """The checkpoints of one run, in `folder`. Use it as a context manager: leaving it waits for the writes.

    best_metric, best_mode ("min" or "max"): which saved metrics make a checkpoint the best one. UserError for a path
    with one of UNSAFE.
    """

    def __init__(self, folder: str | os.PathLike, best_metric: str = "loss", best_mode: str = "min"):
        self._best = {"metric": best_metric, "sign": SIGNS[best_mode]}
        self._policy = _Preserve()
        self.folder = pathlib.Path(folder).absolute()
        if found := [sign for sign in UNSAFE if sign in str(self.folder)]:
            raise UserError(
                f"the path {self.folder} has a {found[0]}, with which Orbax writes checkpoints that cannot be read: "
                "take a --workdir without it."
            )
        options = ocp.CheckpointManagerOptions(preservation_policy=self._policy, cleanup_tmp_directories=True)
        self._manager = ocp.CheckpointManager(self.folder, options=options)
        self._costs = {step: cost(read_meta(self.folder, step)) for step in self._manager.all_steps()}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Wait for the writes: leaving Python without it loses the last checkpoint."""
        with naming_full(self.folder):
            self._manager.wait_until_finished()
            self._manager.close()

    def best_step(self) -> int | None:
        """The step of the best metric; the first of equals; the latest if none was ever evaluated."""
        if not self._costs:
            return None
        step = min(sorted(self._costs), key=lambda s: self._costs[s])
        return step if np.isfinite(self._costs[step]) else max(self._costs)

    def steps(self) -> list[int]:
        """Steps on disk, ascending."""
        return sorted(self._manager.all_steps())

    def save(self, state: State, config: Any, metrics: dict[str, float] | None = None, notes: Any = None) -> None:
        """Write a checkpoint at state.step, in the background. `notes` is JSON that restore_latest hands back."""
        host = to_host(state)
        step = int(host.step)
        plain = json.loads(settings.to_json(config))
        meta = {"config": plain, "metrics": metrics, "notes": notes, "sha256": _digests(host)}
        meta["best"] = self._best
        meta = json.loads(json.dumps(meta))  # a copy: Orbax writes it in the background
        self._costs[step] = cost(meta)
        self._policy.best = self.best_step()
        self._check_room(sum(leaf.nbytes for leaf in jax.tree.leaves(host)), step)
        args = ocp.args.Composite(state=ocp.args.StandardSave(host), meta=ocp.args.JsonSave(meta))
        with naming_full(self.folder):
            self._manager.save(step, args=args, force=True)

    def _check_room(self, size: int, step: int) -> None:
        """UserError where the disk lacks room for `size` bytes: what Orbax makes of it fills the screen."""
        free = shutil.disk_usage(self.folder).free
        if free < size:
            raise UserError(
                f"the checkpoint of step {step} takes {size / 2**20:.1f} MiB, and {self.folder} has {free / 2**20:.1f} "
                "left: make room, and the same command goes on from the checkpoint before."
            )

    def restore_latest(self, abstract: State) -> tuple[State, Any] | None:
        """(state, notes) of the newest undamaged checkpoint, or None if there is none at all.

        abstract: the state as ShapeDtypeStruct with shardings, so that a checkpoint of 4 devices loads on 1.
        A damaged checkpoint is passed over with a warning, and set aside (`ASIDE`), so that its step can be written
        again.
        Raises UserError if every one of them is damaged, or of another model.
        """
        failed = {}
        for step in reversed(self.steps()):
            try:
                state, meta = self._restore(step, abstract)
            except jax.errors.JaxRuntimeError:  # of the device, as when its memory is full: no fault of the file
                raise
            except Exception as error:  # Orbax raises bare Exception, ValueError, JSONDecodeError, by the damage
                failed[step] = _brief(error)
                continue
            self._forget(failed)
            return state, meta["notes"]
        if failed:
            raise UserError(
                f"none of the checkpoints in {self.folder} can be read ({failed[max(failed)]}): "
                "they are damaged or of another model; start in another --workdir."
            )
        return None

    def _restore(self, step: int, abstract: State) -> tuple[State, dict[str, Any]]:
        args = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), meta=ocp.args.JsonRestore())
        out = self._manager.restore(step, args=args)
        state, meta = out["state"], out["meta"]
        if meta["sha256"] != _digests(to_host(state)):
            raise ValueError("its checksum does not match its arrays")
        return state, meta

    def _forget(self, failed: dict[int, str]) -> None:
        for step, reason in failed.items():
            aside = self.folder / ASIDE / str(step)
            warnings.warn(f"checkpoint {step} cannot be read ({reason}): going back one; see {aside}", stacklevel=3)
            if jax.process_index() == 0:
                shutil.rmtree(aside, ignore_errors=True)
                aside.parent.mkdir(exist_ok=True)
                (self.folder / str(step)).rename(aside)
            self._costs.pop(step, None)
        if failed:
            any_process(True)  # waits for all: none may list a folder that is being set aside
            self._manager.reload()


def _brief(error: Exception) -> str:
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}"


def read_meta(folder: str | os.PathLike, step: int) -> dict[str, Any] | None:
    """The JSON item of a checkpoint, or None if it is missing or cut."""
    try:
        return json.loads((pathlib.Path(folder) / str(step) / "meta" / "metadata").read_text())
    except (OSError, ValueError):
        return None


def cost(meta: dict[str, Any] | None) -> float:
    """What ranks a checkpoint, lower is better: its best_metric, signed; infinite where that was not measured."""
    best = (meta or {}).get("best") or {}
    value = ((meta or {}).get("metrics") or {}).get(best.get("metric"))
    return np.inf if value is None or not np.isfinite(value) else best["sign"] * value


def _inference_order(folder: pathlib.Path) -> list[int]:
    """Steps on disk, the best first, the first of equals as in `best_step`, then the newest of those that were not
    evaluated: the order in which inference tries them."""

    def rank(step: int) -> tuple[float, int]:
        value = cost(read_meta(folder, step))
        return value, step if np.isfinite(value) else -step

    return sorted(_steps(folder), key=rank)


def _restore_weights(folder: pathlib.Path, step: int) -> tuple[Any, Any, Any]:
    """(config, params, model_state) as numpy, with no need of the devices that wrote them."""
    meta = read_meta(folder, step)
    if meta is None:
        raise ValueError("its JSON item is missing or damaged")
    where = epath.Path(folder / str(step) / "state")
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as reader:
        tree = reader.metadata(where).tree
        item = {name: tree[name] for name in ("params", "model_state") if name in tree}
        args = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), item)
        request = ocp.args.PyTreeRestore(item, restore_args=args, partial_restore=True)
        out = reader.restore(where, args=request)
    out.setdefault("model_state", {})
    if digest({"params": out["params"], "model_state": out["model_state"]}) != meta["sha256"]["inference"]:
        raise ValueError("its checksum does not match its arrays")
    return settings.from_json(json.dumps(meta["config"])), out["params"], out["model_state"]


def has_weights(folder: pathlib.Path) -> bool:
    """Whether `folder` holds a checkpoint, or weights as mode release writes them."""
    return bool(_steps(folder / "checkpoints")) or (folder / WEIGHTS_NAME).is_file()


def has_begun(workdir: str | os.PathLike) -> bool:
    """Whether a training in `workdir` has left a checkpoint."""
    return bool(_steps(pathlib.Path(workdir) / "checkpoints"))


def restore_for_inference(path: str | os.PathLike) -> tuple[Any, Any, Any]:
    """(config, params, model_state) of a workdir's best checkpoint, or of a released weights file or its folder.

    Falls back to another checkpoint, with a warning, where the best is damaged. Raises UserError if nothing at
    `path` can be used.
    """
    folder = pathlib.Path(path)
    run = next((f for f in (folder / "checkpoints", folder) if _steps(f)), None)
    if run is None:
        return load_weights(folder)
    reasons = []
    for step in _inference_order(run.absolute()):
        try:
            return _restore_weights(run.absolute(), step)
        except Exception as error:  # as in Checkpoints.restore_latest
            reasons.append(_brief(error))
            warnings.warn(f"checkpoint {step} in {run} is damaged ({reasons[-1]}): trying another", stacklevel=2)
    raise UserError(f"none of the checkpoints in {run} can be read ({reasons[0]}): train again in another --workdir.")


def _steps(folder: pathlib.Path) -> list[int]:
    return [int(p.name) for p in folder.iterdir() if p.name.isdigit()] if folder.is_dir() else []


def _weights_file(path: str | os.PathLike) -> pathlib.Path:
    path = pathlib.Path(path)
    file = path / WEIGHTS_NAME if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"no weights at {path}: expected a workdir with checkpoints, a folder with {WEIGHTS_NAME}, or such a file."
        )
    return file


def _flat(weights: Weights) -> dict[str, Any]:
    """{"params/layer/kernel": array, ...}."""
    return dict(traverse_util.flatten_dict({"params": weights[0], "model_state": weights[1]}, sep="/"))


def save_weights(
    path: str | os.PathLike, params: Any, model_state: Any, config: Any, dtype: str = "float32"
) -> pathlib.Path:
    """Write weights that are to be released: one .npz that numpy alone can open, with the config and a checksum.

    path: the file, or a folder (then weights.npz in it). Returns the file. dtype "int8": a quarter of the size; what
    has more than one axis is written as whole numbers from -127 to 127, and beside it, with ":scale" after its name,
    what they are to be multiplied with along the last axis. UserError for another dtype.
    """
    if dtype not in DTYPES:
        raise UserError(f"config.release.dtype is {dtype!r}: expected {' or '.join(DTYPES)}.")
    path = pathlib.Path(path)
    path = path if path.suffix == ".npz" else path / WEIGHTS_NAME
    flat = _flat((to_host(params), to_host(model_state)))
    if dtype == "int8":
        parts = [_in_eight_bits(name, np.asarray(x)) for name, x in flat.items()]
        flat = {name: x for part in parts for name, x in part.items()}
    text = np.array(settings.to_json(config))
    flat |= {"config": text, "sha256": np.array(digest([flat, text]))}
    with replacing(path) as temporary:
        np.savez(temporary, **flat)
    return path


def _in_eight_bits(name: str, x: np.ndarray) -> dict[str, Any]:
    if x.ndim < 2:
        return {name: x}
    scale = np.abs(x).max(axis=tuple(range(x.ndim - 1)), initial=np.finfo(np.float32).tiny) / np.float32(127)
    return {name: np.rint(x / scale).astype(np.int8), name + SCALE: scale}


def _in_full(flat: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Undoes `_in_eight_bits`, as far as it can be."""
    scales = {name: flat.pop(name) for name in list(flat) if name.endswith(SCALE)}
    return flat | {name.removesuffix(SCALE): flat[name.removesuffix(SCALE)] * scale for name, scale in scales.items()}


def load_weights(path: str | os.PathLike) -> tuple[Any, Any, Any]:
    """(config, params, model_state) of a weights file or its folder: a locked ConfigDict, and numpy arrays.

    UserError for a wrong path and for a damaged file.
    """
    file = _weights_file(path)
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            flat = {name: stored[name] for name in stored.files}
        text, sha = flat.pop("config"), str(flat.pop("sha256"))
    except Exception as error:  # zipfile's and numpy's, of a dozen types by the byte that is wrong
        raise UserError(f"{file} is not a whole weights file ({_brief(error)}): download it again.") from error
    if digest([flat, text]) != sha:
        raise UserError(f"{file} is damaged (its checksum does not match its arrays): download it again.")
    tree = traverse_util.unflatten_dict(_in_full(flat), sep="/")
    return settings.from_json(str(text)), tree.get("params", {}), tree.get("model_state", {})


def check_same(found: Weights, expected: Weights, where: str) -> None:
    """UserError that names the first array of `found`, the weights in `where`, that the model does not expect."""
    have, want = ({name: tuple(x.shape) for name, x in _flat(weights).items()} for weights in (found, expected))
    for name in sorted(have.keys() | want.keys()):
        if have.get(name) != want.get(name):
            raise UserError(
                f"{where} is of another model: {name} has shape {have.get(name)} there and {want.get(name)} in "
                "this version's model: use the config and the version of lensjax that wrote it."
            )
