"""From a config and a workdir to a scorer: a network with its weights, or the traditional filter."""

import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from lensjax.core import checkpoint, settings, sharding
from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.search import systems
from lensjax.sims.continua import SHIPPED
from lensjax.tasks import make_task
from lensjax.tasks.classify import OBSERVED

RELEASED = pathlib.Path(__file__).parents[2] / "weights"
OF_THE_WEIGHTS = ("system", "data", "sim", "model", "loss")  # parts of the config that weights bring along
MESSAGES: dict[int, str] = {0: ""}


class Scorer(NamedTuple):
    """What a search needs to know of a method.

    predict(batch) -> dict of (N,) arrays with logit, score, wave, snr, and perhaps kind, z_source, status; of a scorer
    that tells several lines, also waves and logits (N, K).
    loglam: (P,) float64 window of the batches. identity: text that changes when the method or its weights do.
    messages: status code -> sentence. config: the user's with the parts that the weights bring along, which hits are
    measured and judged by; None: the user's own.
    """

    predict: Callable[[dict[str, np.ndarray]], dict[str, jax.Array]]
    loglam: np.ndarray
    identity: str
    messages: dict[int, str]
    config: Any = None


def make_scorer(config: Any, workdir: str | pathlib.Path) -> Scorer:
    """The scorer that config.search.scorer names. UserError for a wrong name."""
    makers = {
        "network": lambda: network(config, workdir),
        "matched_filter": lambda: traditional(config, practical=False),
        "practical_filter": lambda: traditional(config, practical=True),
    }
    name = config.search.scorer
    if name not in makers:
        raise UserError(f"config.search.scorer is {name!r}: expected one of {', '.join(makers)}.")
    return makers[name]()


def find_weights(config: Any, workdir: str | pathlib.Path) -> pathlib.Path:
    """The workdir where it has checkpoints or weights, else the released ones; UserError where there are none.

    Released are those of the config's variant where it has its own, weights/SYSTEM_VARIANT, or of the system.
    """
    own = RELEASED / f"{config.system}_{config.variant}"
    released = own if own.is_dir() else RELEASED / config.system
    for folder in (pathlib.Path(workdir), released):
        if checkpoint.has_weights(folder):
            return folder
    raise UserError(
        f"no checkpoint in {workdir} and no released weights in {released}: train first (--mode=train with the same "
        "--workdir), or search with --config.search.scorer=matched_filter."
    )


def restore(config: Any, workdir: str | pathlib.Path) -> tuple[config_dict.ConfigDict, Any, Any]:
    """(config, params, model_state) for inference: data, simulator and model as the weights were trained, the rest as
    the user asks."""
    path = find_weights(config, workdir)
    stored, params, model_state = checkpoint.restore_for_inference(path)
    if stored.system != config.system:
        raise UserError(
            f"{path} holds weights of the system {stored.system!r}, and the config is of {config.system!r}."
        )
    print(f"weights: {path}", file=sys.stderr)
    if tuple(stored.data.window) != tuple(config.data.window):
        low, high = stored.data.window
        print(f"weights: of {low:g}-{high:g} A, whatever config.data.window says", file=sys.stderr)
    merged: Any = config_dict.ConfigDict(config.to_dict())
    with merged.unlocked():
        for name in OF_THE_WEIGHTS:
            merged[name] = stored[name]
        merged.model = settings.of_the_machine(stored.model, config.model)
        merged.sim = config_dict.ConfigDict(config.sim.to_dict() | stored.sim.to_dict())  # older weights lack new keys
        merged.sim.continuum = find_continua(stored.sim.continuum, config.sim.continuum, path)
    return merged.lock(), params, model_state


def find_continua(trained: str, asked: str, weights: pathlib.Path) -> str:
    """The continua that weights were trained with, or, where their file is no more at its place, those asked for."""
    if trained in SHIPPED or pathlib.Path(trained).is_file():
        return trained
    if asked in SHIPPED:
        raise UserError(
            f"{weights} was trained with the continua {trained!r}, and there is no such file: give its place as "
            "--config.sim.continuum=FILE."
        )
    return asked


class Member(NamedTuple):
    """One network of an ensemble: config, prediction (params, model_state, batch) -> dict, and its arrays."""

    config: Any
    predict: Callable
    params: Any
    model_state: Any


def load_member(config: Any, workdir: str | pathlib.Path) -> Member:
    """The network of `workdir`, or of released weights; UserError for arrays that do not fit its config."""
    config, params, model_state = restore(config, workdir)
    task = make_task(config)
    expected = jax.eval_shape(task.init, jax.random.key(0))[:2]
    checkpoint.check_same((params, model_state), expected, str(workdir))
    return Member(config, task.predict, params, model_state)


def network(config: Any, workdir: str | pathlib.Path) -> Scorer:
    """The trained network of the workdir, or the released one, alone or averaged with those of config.search.ensemble.

    UserError for a member that is not there, or of another window.
    """
    for path in config.search.ensemble:
        if not checkpoint.has_weights(pathlib.Path(path)):
            raise UserError(
                f"config.search.ensemble names {path!r}, where no checkpoint and no {checkpoint.WEIGHTS_NAME} is: give "
                "workdirs of trainings, or folders of released weights."
            )
    members = [load_member(config, path) for path in (workdir, *config.search.ensemble)]
    window = tuple(members[0].config.data.window)
    for path, member in zip(config.search.ensemble, members[1:], strict=True):
        if tuple(member.config.data.window) != window:
            raise UserError(
                f"{path} was trained on {tuple(member.config.data.window)} Angstrom, the first network on {window}: an "
                "ensemble needs one window."
            )
    params, model_state = ([getattr(m, name) for m in members] for name in ("params", "model_state"))
    identity = checkpoint.digest({"params": params, "model_state": model_state})
    if config.search.temperature:
        identity = f"{identity} at temperature {config.search.temperature:g}"
    predict = combine([m.predict for m in members], config.search.temperature)
    return _compiled(members[0].config, predict, params, model_state, identity, MESSAGES)


def combine(predicts: list[Callable], temperature: float) -> Callable:
    """(list of params, list of model_state, batch) -> the prediction of several networks as one.

    The logit is the mean of theirs (Lakshminarayanan et al. 2017, with the geometric mean of the odds), over
    `temperature` unless that is 0 (Guo et al. 2017); everything else is that of the member whose logit is highest.
    The logits of several lines in a spectrum, where there are some, are moved by as much, and divided likewise.
    """

    def predict(params: list, model_state: list, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        outs = [each(p, s, batch) for each, p, s in zip(predicts, params, model_state, strict=True)]
        logits = jnp.stack([out["logit"] for out in outs])
        surest = jnp.argmax(logits, axis=0), jnp.arange(logits.shape[1])
        shared = set(outs[0]).intersection(*outs)
        of_surest = {name: jnp.stack([out[name] for out in outs])[surest] for name in shared}
        mean, scale = logits.mean(0), temperature or 1.0
        if "logits" in of_surest:
            of_surest["logits"] = (of_surest["logits"] + (mean - of_surest["logit"])[:, None]) / scale
        return {**of_surest, "logit": mean / scale, "score": jax.nn.sigmoid(mean / scale)}

    return predict


def traditional(config: Any, practical: bool) -> Scorer:
    """The matched filter: no weights, all of it is in the config."""
    system = systems.of(config)
    predict = system.make_predict(config, practical)
    return _compiled(config, predict, {}, {}, system.identity(config), system.STATUS)


def _compiled(
    config: Any, predict: Callable, params: Any, model_state: Any, identity: str, messages: dict[int, str]
) -> Scorer:
    mesh = sharding.make_mesh()
    sharding.check_batch_size(mesh, config.search.batch_size, "search.batch_size")
    params, model_state = jax.device_put((params, model_state), sharding.replicated(mesh))
    compiled = sharding.compile_predict(predict, mesh)

    def score(batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
        observed = {name: x for name, x in batch.items() if name in OBSERVED}  # the rest stays on the host
        return compiled(params, model_state, sharding.shard_batch(mesh, observed))

    return Scorer(score, grid.window(*config.data.window), identity, messages, config)
