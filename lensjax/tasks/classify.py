"""The task "is there a line, and where?": features, network, loss and prediction of one spectrum system."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lensjax.core.errors import UserError
from lensjax.core.task import State, Task
from lensjax.models import init_variables, make_model
from lensjax.physics import grid, lines
from lensjax.tasks import losses

OBSERVED = ("flux", "ivar", "wdisp", "z")  # all that a survey gives; nothing of a mock's truth reaches the network
# Two kinds of line that config.model.kinds can tell apart -> 1 for the first, from the truth of a batch.
KINDS = {
    "skew": lambda batch: batch["line_alpha"] > 0,  # red tail, as Lyman-alpha; or blue
    "oii": lambda batch: batch["kind"] < 1.5,  # Lyman-alpha; or [OII] of a nearer galaxy
}
CENTROID = 3  # pixels each way that refine the brightest pixel
Features = Callable[[dict[str, jax.Array], Any], dict[str, jax.Array]]


def make_task(config: Any, features: tuple[Features, Any] | None = None) -> Task:
    """The Task of config: features of the observed arrays, then `config.model`, then `config.loss`.

    features: (function of (example, constants) -> {"x": (P, C), "snr": (P,)} for one example, constants); default,
    `tasks.features.make_features(config)`. A "mask" (P,) among its outputs replaces ivar > 0. The constants are kept in
    model_state["constants"], so that a checkpoint holds all that prediction needs.
    """
    extract, constants = features or _make_features(config)
    module = make_model(config.model)
    kinds = config.model.get("kinds", "")
    if kinds and kinds not in KINDS:
        raise UserError(f"config.model.kinds is {kinds!r}: expected nothing, or one of {', '.join(KINDS)}.")
    loglam = grid.window(*config.data.window)
    prepare = jax.vmap(_make_prepare(extract), in_axes=(0, None))

    def init(key: jax.Array) -> tuple[Any, Any, Any]:
        shape = {
            name: jax.ShapeDtypeStruct((1,) if name == "z" else (1, len(loglam)), jnp.float32) for name in OBSERVED
        }
        inputs = jax.eval_shape(prepare, shape, constants)
        variables = init_variables(module, key, *jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), inputs))
        params = variables.pop("params")
        return params, {**variables, "constants": jax.tree.map(jnp.asarray, constants)}, {}

    def loss(params: Any, state: State, batch: dict[str, jax.Array], key: jax.Array):
        fixed, moving = _split(state.model_state)
        x, snr, mask = prepare(_observed(batch), fixed)
        out, moving = module.apply(
            {"params": params, **moving}, x, snr, mask, train=True, mutable=list(moving), rngs={"dropout": key}
        )
        value, metrics = _objective(config.loss, out, mask, batch, float(loglam[0]))
        if kinds:
            metrics["kind"] = losses.kind(out["kind_logit"], KINDS[kinds](batch), batch["label"])
            value = value + config.loss.kind_weight * metrics["kind"]
        return value, ({**moving, "constants": fixed}, state.extra, metrics)

    def predict_chunk(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        fixed, moving = _split(model_state)
        x, snr, mask = prepare(batch, fixed)
        out = module.apply({"params": params, **moving}, x, snr, mask)
        guide = out.get("pixel_logit", jnp.where(mask, snr, -jnp.inf))
        best, position = jax.vmap(locate)(guide)
        wave = jnp.asarray(10.0 ** loglam[0], jnp.float32) * 10.0 ** (position * grid.STEP)
        kind = {"kind": jax.nn.sigmoid(out["kind_logit"])} if kinds else {}
        rest = jnp.where(kind["kind"] > 0.5, lines.LYA, lines.OII) if kinds == "oii" else lines.LYA
        return {
            **kind,
            "logit": out["logit"],
            "score": jax.nn.sigmoid(out["logit"]),
            "wave": wave,
            "z_source": wave / rest - 1,
            "snr": jnp.take_along_axis(snr, best[:, None], axis=1)[:, 0],
        }

    def predict(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        run = functools.partial(predict_chunk, params, model_state)
        return map_chunks(run, _observed(batch), config.model.chunk)

    return Task(init, loss, predict)


def locate(guide: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(index of the largest value, centroid of the softmax within `CENTROID` pixels of it) of guide (P,).

    The centroid is a fractional pixel; guide is a log likelihood ratio, so the softmax is a posterior.
    """
    best = jnp.argmax(guide)
    offset = jnp.arange(-CENTROID, CENTROID + 1)
    near = jnp.clip(best + offset, 0, guide.shape[0] - 1)
    inside = near == best + offset
    weight = jax.nn.softmax(jnp.where(inside & jnp.isfinite(guide[near]), guide[near], -1e9))
    return best, best + jnp.sum(weight * offset)


def map_chunks(run: Callable[[Any], Any], batch: dict[str, jax.Array], chunk: int) -> Any:
    """run(batch) in pieces of `chunk` rows, one after another, so that activations stay in the CPU's cache.

    run must treat rows independently. chunk 0, or one not below the batch's rows, is one piece. A last piece that is
    short is padded with copies of the first rows.
    """
    size = next(iter(batch.values())).shape[0]
    if chunk == 0 or chunk >= size:
        return run(batch)
    pieces = -(-size // chunk)
    rows = jnp.arange(pieces * chunk) % size

    def fold(x: jax.Array) -> jax.Array:
        x = x if len(rows) == size else x[rows]
        return x.reshape(pieces, chunk, *x.shape[1:])

    out = jax.lax.map(run, jax.tree.map(fold, batch))
    return jax.tree.map(lambda x: x.reshape(pieces * chunk, *x.shape[2:])[:size], out)


def _make_features(config: Any) -> tuple[Features, Any]:
    from lensjax.tasks.features import make_features

    return make_features(config)


def _make_prepare(extract: Features) -> Callable[[dict[str, jax.Array], Any], tuple[jax.Array, jax.Array, jax.Array]]:
    """(example, constants) -> channels (P, C), matched-filter S/N (P,), mask (P,) of one example."""

    def prepare(example: dict[str, jax.Array], constants: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        out = extract(example, constants)
        return out["x"], out["snr"], out.get("mask", example["ivar"]) > 0

    return prepare


def _observed(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: batch[name] for name in OBSERVED}


def _split(model_state: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """(constants of the features, the network's running statistics)."""
    return model_state["constants"], {name: value for name, value in model_state.items() if name != "constants"}


def _objective(
    loss: Any, out: dict[str, jax.Array], mask: jax.Array, batch: dict[str, jax.Array], loglam0: float
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Focal loss, plus `loss.locate_weight` times the localisation loss of a network that has pixel logits."""
    logit, label = out["logit"], batch["label"].astype(jnp.float32)
    value = losses.focal(logit, label, loss.gamma)
    metrics = {"focal": value, "accuracy": jnp.mean((logit > 0) == (label > 0.5))}
    if "pixel_logit" in out:
        # The ratio to the first pixel keeps the logarithm's float32 error below 1e-3 pixel.
        position = jnp.log10(jnp.maximum(batch["wave"] / 10.0**loglam0, 0.1)) / grid.STEP
        target = losses.pixel_target(position, mask)
        metrics["locate"] = losses.localisation(out["pixel_logit"], target, label)
        value = value + loss.locate_weight * metrics["locate"]
    return value, metrics
