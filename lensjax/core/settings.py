"""Configs as JSON: written beside a run, stored in its checkpoints, compared when it is resumed."""

import json
import os
import pathlib
from typing import Any

from ml_collections import config_dict

from lensjax.core.errors import UserError
from lensjax.core.files import write_text

# What a resumed run may not change: it would be another experiment in the same folder.
FROZEN = ("system", "seed", "data", "sim", "model", "loss", "augment", "moco", "optim.name", "train.batch_size")
FROZEN += ("train.start", "train.best_metric", "train.best_mode", "finetune.encoder", "optim.encoder_factor")
DATA = "data.txt"  # in a workdir: which objects it is trained on
# Keys of config.model that say how a machine runs the network: the user's, whatever the weights were trained with.
OF_THE_MACHINE = ("chunk", "dtype")
# What a run had that began before there was such a setting.
ABSENT = {"data.twins": False, "model.guided": True, "loss.focal_weight": 1.0, "loss.teach_weight": 0.0}
ABSENT |= {"loss.soft_weight": 0.0, "loss.prior": 1 / 15, "loss.law": "paper"}
# Of the frozen ones; model.conv and model.pointwise are of runs that began before they were gone.
LOOSE = ("data.dir", "model.conv", "model.pointwise", *(f"model.{name}" for name in OF_THE_MACHINE))


def to_json(config: Any) -> str:
    """Text of a config (ConfigDict or dict), keys sorted."""
    plain = config.to_dict() if isinstance(config, config_dict.ConfigDict) else config
    return json.dumps(plain, indent=2, sort_keys=True)


def from_json(text: str) -> config_dict.ConfigDict:
    """A locked config; lists become tuples, as they are in `configs/`."""
    return config_dict.ConfigDict(_tuples(json.loads(text))).lock()


def _tuples(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def without_folders(config: Any) -> config_dict.ConfigDict:
    """A config to publish: settings that are absolute paths are cut to their last part, but for the continua, which
    inference reads."""

    def cut(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: item if name == "continuum" else cut(item) for name, item in tree.items()}
        return pathlib.Path(tree).name if isinstance(tree, str) and os.path.isabs(tree) else tree

    return from_json(json.dumps(cut(json.loads(to_json(config)))))


def at_home(config: Any) -> Any:
    """The config with the user's home in place of a ~ that begins a setting: shells leave it in --config.KEY=~/x."""

    def expand(tree: Any) -> Any:
        if isinstance(tree, dict):
            return {name: expand(item) for name, item in tree.items()}
        if isinstance(tree, list):
            return [expand(item) for item in tree]
        return os.path.expanduser(tree) if isinstance(tree, str) else tree

    plain = json.loads(to_json(config))
    return config if expand(plain) == plain else from_json(json.dumps(expand(plain)))


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for name, item in tree.items() for k, v in flatten(item, f"{prefix}.{name}".lstrip(".")).items()}


def first_difference(old: Any, new: Any) -> tuple[str, Any, Any] | None:
    """(key, old value, new value) of the first frozen key that differs, or None. Absent values are None."""
    old, new = (ABSENT | flatten(json.loads(to_json(c))) for c in (old, new))
    for key in sorted(old.keys() | new.keys()):
        frozen = any(key == name or key.startswith(name + ".") for name in FROZEN)
        if frozen and key not in LOOSE and old.get(key) != new.get(key):
            return key, old.get(key), new.get(key)
    return None


def of_the_machine(trained: Any, mine: Any) -> Any:
    """config.model as the weights were `trained`, run as the user's own, `mine`, says (`OF_THE_MACHINE`)."""
    model = config_dict.ConfigDict(trained.to_dict())
    model.update({name: mine[name] for name in OF_THE_MACHINE if name in mine and name in trained})
    return model


def check_same_model(trained: Any, mine: Any, where: str) -> None:
    """UserError where config.model says of the weights in `where`, as they were `trained`, other than `mine` does.

    Keys of OF_THE_MACHINE, and the dropout, do not matter, nor those that one of them lacks.
    """
    theirs, ours = trained.to_dict(), mine.to_dict()
    free = (*OF_THE_MACHINE, "dropout")
    different = sorted(key for key in ours if key in theirs and key not in free and ours[key] != theirs[key])
    if different:
        key = different[0]
        raise UserError(f"{where} has config.model.{key} = {theirs[key]!r}, and this run {ours[key]!r}: take theirs.")


def claim_data(workdir: str | os.PathLike, identity: str, writes: bool = True, begun: bool = True) -> None:
    """Write the `identity` of the training data to data.txt; UserError where a `begun` run in it is on other data.

    The split into training and test objects hangs on them all: one that a run was trained on could be tested on.
    """
    path = pathlib.Path(workdir) / DATA
    if begun and path.exists() and path.read_text() != identity:
        raise UserError(
            f"the objects to train on are not those that the run in {workdir} began with: give them, or take another "
            "--workdir."
        )
    if writes and identity:
        write_text(path, identity)


def claim_workdir(workdir: str | os.PathLike, config: Any, writes: bool = True, begun: bool = True) -> None:
    """Write config.json (one process of several `writes`); UserError if the folder holds a run of another config.

    begun: whether that run has trained; one that stopped at a wrong setting has not, and gives way.
    """
    path = pathlib.Path(workdir) / "config.json"
    before = from_json(path.read_text()) if begun and path.exists() else config
    if before.get("system") != config.get("system"):
        raise UserError(
            f"{workdir} holds a run of the system {before.system!r}, and the config is of {config.system!r}: take "
            "another --workdir."
        )
    if difference := first_difference(before, config):
        key, old, new = difference
        raise UserError(
            f"{path} has config.{key} = {old!r} where this run has {new!r}: "
            f"take another --workdir, or set --config.{key} back."
        )
    if writes:
        write_text(path, to_json(config))
