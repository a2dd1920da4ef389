"""The task "is there a line, and where?": features, network, loss and prediction of one spectrum system."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.core.chunks import Rows, map_chunks, mean_chunks, on_cpu
from lensjax.core.errors import UserError
from lensjax.core.task import State, Task
from lensjax.models import init_variables, make_model
from lensjax.physics import filters, grid, lines
from lensjax.tasks import losses, teacher
from lensjax.tasks.features import make_features

OBSERVED = ("flux", "ivar", "z")  # of what a survey gives; nothing of a mock's truth reaches the network
# Two kinds of line that config.model.kinds can tell apart -> 1 for the first, from the truth of a batch.
KINDS = {
    "skew": lambda batch: batch["line_alpha"] > 0,  # red tail, as Lyman-alpha; or blue
    "oii": lambda batch: batch["kind"] < 1.5,  # Lyman-alpha; or [OII] of a nearer galaxy
}
CENTROID = 3  # pixels each way that refine the brightest pixel
Features = Callable[[dict[str, jax.Array], Any], dict[str, jax.Array]]
Objective = Callable[..., tuple[jax.Array, dict[str, jax.Array]]]
Describe = Callable[..., dict[str, jax.Array]]


def make_task(
    config: Any,
    features: tuple[Features, Any] | None = None,
    objective: Objective | None = None,
    describe: Describe | None = None,
) -> Task:
    """The Task of config: features of the observed arrays, then `config.model`, then `config.loss`.

    features: (function of (example, constants) -> {"x": (P, C), or fewer rows, of several pixels each, "snr": (P,)} for
    one example, constants); default, `tasks.features.make_features(config)`. A "mask" (P,) among its outputs replaces
    ivar > 0. The constants are kept in model_state["constants"], so that a checkpoint holds all that prediction needs.
    objective: (what the network returns, mask (N, P), rows, batch of which they are a part) -> (loss, metrics), whose
    mean over equal parts is that of the batch; default, `make_objective(config)`.
    describe: (what the network returns, snr (N, P), mask (N, P)) -> dict of (N, ...) that a prediction holds beside
    logit and score; default, `make_describe(config)`: the best line.
    """
    extract, constants = features or make_features(config)
    objective, describe = objective or make_objective(config), describe or make_describe(config)
    module = make_model(config.model)
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

        def of_rows(params: Any, rows: Rows, key: jax.Array) -> tuple[jax.Array, Any]:
            x, snr, mask = prepare(_observed(rows), fixed)
            out, moved = module.apply(
                {"params": params, **moving}, x, snr, mask, train=True, mutable=list(moving), rngs={"dropout": key}
            )
            value, metrics = objective(out, mask, rows, batch)
            return value, (moved, metrics)

        chunk = 0 if moving else on_cpu(config.train.chunk)  # running statistics are those of the whole batch
        value, (moved, metrics) = mean_chunks(of_rows, chunk)(params, batch, key)
        return value, ({**moved, "constants": fixed}, state.extra, metrics)

    def predict_chunk(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        fixed, moving = _split(model_state)
        x, snr, mask = prepare(batch, fixed)
        out = module.apply({"params": params, **moving}, x, snr, mask)
        scores = {"logit": out["logit"], "score": jax.nn.sigmoid(out["logit"])}
        return {**describe(out, snr, mask), **scores}

    def predict(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        run = functools.partial(predict_chunk, params, model_state)
        return map_chunks(run, _observed(batch), on_cpu(config.model.chunk))

    return Task(init, loss, predict)


def locate(guide: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(index of the largest value, centroid of the softmax within `CENTROID` pixels of it) of guide (P,).

    The centroid is a fractional pixel; guide is a log likelihood ratio, so the softmax is a posterior.
    """
    best = filters.highest(guide)
    offset = jnp.arange(-CENTROID, CENTROID + 1)
    near = jnp.clip(best + offset, 0, guide.shape[0] - 1)
    inside = near == best + offset
    weight = jax.nn.softmax(jnp.where(inside & jnp.isfinite(guide[near]), guide[near], -1e9))
    return best, best + jnp.sum(weight * offset)


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


def make_describe(config: Any) -> Describe:
    """describe(out, snr (N, P), mask (N, P)) -> wave (A), z_source, snr of the best line, and with kinds its kind."""
    loglam, kinds = grid.window(*config.data.window), config.model.get("kinds", "")

    def describe(out: dict[str, jax.Array], snr: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
        guide = out.get("pixel_logit", jnp.where(mask, snr, -jnp.inf))
        best, position = jax.vmap(locate)(guide)
        wave = wavelength(position, loglam)
        kind = {"kind": jax.nn.sigmoid(out["kind_logit"])} if kinds else {}
        rest = jnp.where(kind["kind"] > 0.5, lines.LYA, lines.OII) if kinds == "oii" else lines.LYA
        best_snr = jnp.take_along_axis(snr, best[:, None], axis=1)[:, 0]
        return {**kind, "wave": wave, "z_source": wave / rest - 1, "snr": best_snr}

    return describe


def wavelength(position: jax.Array, loglam: Any) -> jax.Array:
    """Vacuum wavelength (A, float32) of fractional pixels, any shape, of the window loglam (P,)."""
    return jnp.asarray(10.0 ** loglam[0], jnp.float32) * 10.0 ** (position * grid.STEP)


def pixel_position(wave: jax.Array, loglam: Any) -> jax.Array:
    """Fractional pixel of vacuum wavelengths (A), any shape, in the window loglam (P,); far below 0 for a wave of 0.

    The ratio to the first pixel keeps the logarithm's float32 error below 1e-3 pixel.
    """
    return jnp.log10(jnp.maximum(wave / np.float32(10.0 ** loglam[0]), 0.1)) / grid.STEP


def make_objective(config: Any) -> Objective:
    """objective(out, mask (N, P), rows, batch) -> (loss, metrics).

    Focal loss, plus `loss.locate_weight` times the localisation loss of a network that has pixel logits, plus
    `loss.kind_weight` times the cross-entropy of the line's kind. With `loss.teach_weight` the distance to the odds
    that the simulator knows (tasks/teacher.py) is added, with `loss.soft_weight` beside it the cross-entropy with the
    probability they mean, and the focal loss has `loss.focal_weight`. UserError for unknown kinds, and for what cannot
    be taught.
    """
    loss, loglam, kinds = config.loss, grid.window(*config.data.window), config.model.get("kinds", "")
    if kinds and kinds not in KINDS:
        raise UserError(f"config.model.kinds is {kinds!r}: expected nothing, or one of {', '.join(KINDS)}.")

    odds = teacher.make_odds(config) if loss.get("teach_weight") else None
    if loss.get("soft_weight") and not odds:
        raise UserError("config.loss.soft_weight is of taught odds: set config.loss.teach_weight too, however small.")

    def objective(out: Rows, mask: jax.Array, rows: Rows, batch: Rows) -> tuple[jax.Array, Rows]:
        logit, label = out["logit"], rows["label"].astype(jnp.float32)
        share = jnp.mean(batch["label"].astype(jnp.float32))
        focal = losses.focal(logit, label, loss.gamma)
        value = loss.get("focal_weight", 1.0) * focal
        metrics = {"focal": focal, "accuracy": jnp.mean((logit > 0) == (label > 0.5))}
        if "pixel_logit" in out:
            target = losses.pixel_target(pixel_position(rows["wave"], loglam), mask)
            metrics["locate"] = losses.localisation(out["pixel_logit"], target, label, share)
            value = value + loss.locate_weight * metrics["locate"]
        if odds:
            of_pixels, of_spectra = odds(rows, mask)
            metrics["odds"] = jnp.mean(teacher.distance(logit, of_spectra, teacher.RANGE))
            pixels = jnp.mean(mask * teacher.distance(out["pixel_logit"], of_pixels, teacher.PIXEL_RANGE))
            value = value + loss.teach_weight * (metrics["odds"] + teacher.PIXEL_SHARE * pixels)
            if loss.get("soft_weight"):
                metrics["soft"] = teacher.soft(logit, of_spectra, loss.prior, config.sim.line_fraction)
                value = value + loss.soft_weight * metrics["soft"]
        if kinds:
            metrics["kind"] = losses.kind(out["kind_logit"], KINDS[kinds](rows), label, share)
            value = value + loss.kind_weight * metrics["kind"]
        return value, metrics

    return objective
