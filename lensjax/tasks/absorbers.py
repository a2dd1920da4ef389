"""The task "which Mg II absorbers are there?": up to MOST in a spectrum, each with its place and its own score."""

from typing import Any

import jax
import jax.numpy as jnp

from lensjax.core.task import Task
from lensjax.models.heads import marginalise
from lensjax.physics import grid, lines
from lensjax.tasks import absorption, classify, losses

OWN = 5  # pixels each way of its 2796 that belong to an absorber
APART = 8  # pixels each way within which no second absorber is looked for
MOST = 4  # absorbers that are told of a spectrum

Batch = dict[str, jax.Array]


def make_task(config: Any) -> Task:
    """The Task of config: `absorption.make_features`, config.model, focal loss of the strongest and of the rest."""
    return classify.make_task(config, absorption.make_features(config), make_objective(config), make_describe(config))


def slot_positions(batch: Batch, loglam: Any) -> tuple[jax.Array, jax.Array]:
    """Fractional pixel (N, S) of each true absorber's 2796, and whether there is one in the slot (N, S)."""
    z = batch["z_abs"]
    return classify.pixel_position(lines.MGII[0] * (1 + z), loglam), z > 0


def near_others(position: jax.Array, there: jax.Array, pixels: int) -> jax.Array:
    """True (S, N, P) where another absorber than that of the slot is within OWN pixels. position, there: (N, S)."""
    place = jnp.arange(pixels, dtype=jnp.float32)
    near = (jnp.abs(place[None, None] - position[..., None]) <= OWN) & there[..., None]  # (N, S, P)
    count = near.sum(1, keepdims=True) - near
    return jnp.moveaxis(count > 0, 1, 0)


def make_objective(config: Any) -> classify.Objective:
    """objective(out, mask (N, P), rows, batch) -> (loss, metrics).

    The focal loss of "any absorber". Of a network with pixel logits also, with `loss.rest_weight`, that of "any besides
    the strongest", whose pixels are left out: it is what keeps the strongest's other lines, and its doublet read one
    line too early, from being absorbers of their own; and with `loss.locate_weight` the localisation of every true
    absorber among the pixels that are no other's, so that a strong one does not outvote a weak one.
    """
    loss, loglam = config.loss, grid.window(*config.data.window)

    def objective(out: Batch, mask: jax.Array, rows: Batch, batch: Batch) -> tuple[jax.Array, Batch]:
        logit, label = out["logit"], rows["label"].astype(jnp.float32)
        value = losses.focal(logit, label, loss.gamma)
        metrics = {"focal": value, "accuracy": jnp.mean((logit > 0) == (label > 0.5))}
        if "pixel_logit" not in out:
            return value, metrics
        pixels = out["pixel_logit"]
        position, there = slot_positions(rows, loglam)
        others = near_others(position, there, mask.shape[1])
        number = jnp.mean(jnp.sum(slot_positions(batch, loglam)[1], axis=1, dtype=jnp.float32))  # of a spectrum
        places = [
            losses.localisation(jnp.where(near, -1e9, pixels), losses.pixel_target(place, mask & ~near), slot, number)
            for near, place, slot in zip(others, position.T, there.T.astype(jnp.float32), strict=True)
        ]
        metrics["locate"] = sum(places, jnp.float32(0))
        strongest = jnp.abs(jnp.arange(mask.shape[1])[None] - position[:, :1]) <= OWN
        rest = marginalise(pixels, mask & ~(strongest & there[:, :1]))
        second = there[:, 1].astype(jnp.float32) if there.shape[1] > 1 else jnp.zeros_like(label)
        metrics["rest"] = losses.focal(rest, second, loss.gamma)
        return value + loss.locate_weight * metrics["locate"] + loss.rest_weight * metrics["rest"], metrics

    return objective


def make_describe(config: Any) -> classify.Describe:
    """describe(out, snr (N, P), mask (N, P)) -> the best MOST absorbers, best first.

    waves, logits (N, MOST): observed wavelength (A, vacuum) of 2796 and logit of each; wave, snr (N,): of the best.
    z_source (N,): the best one's z_abs. A network without pixel logits has one absorber, at the filter's peak.
    """
    loglam = grid.window(*config.data.window)

    def describe(out: Batch, snr: jax.Array, mask: jax.Array) -> Batch:
        guide = out.get("pixel_logit", jnp.where(mask, snr, -jnp.inf))
        best, position, evidence = jax.vmap(peaks)(guide)
        if "pixel_logit" in out:
            logits = evidence - jnp.log(jnp.float32(guide.shape[1]))
        else:
            logits = jnp.where(jnp.arange(MOST)[None] == 0, out["logit"][:, None], -jnp.inf)
        waves = classify.wavelength(position, loglam)
        peak_snr = jnp.take_along_axis(snr, best[:, :1], axis=1)[:, 0]
        wave = waves[:, 0]
        return {"waves": waves, "logits": logits, "wave": wave, "z_source": wave / lines.MGII[0] - 1, "snr": peak_snr}

    return describe


def peaks(guide: jax.Array, apart: int = APART) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The MOST highest peaks of guide (P,), no two within `apart` pixels: pixel, centroid, evidence (MOST,) each.

    guide: log likelihood ratio of each pixel, very negative where it is masked. evidence: log of its sum over OWN
    pixels each way.
    """
    place = jnp.arange(guide.shape[0])
    offset = jnp.arange(-OWN, OWN + 1)
    found = []
    for _ in range(MOST):
        best, position = classify.locate(guide)
        near = best + offset
        inside = (near >= 0) & (near < guide.shape[0])
        evidence = jax.nn.logsumexp(jnp.where(inside, guide[jnp.clip(near, 0, guide.shape[0] - 1)], -jnp.inf))
        found.append((best, position, evidence))
        guide = jnp.where(jnp.abs(place - best) <= apart, -jnp.inf, guide)
    best, position, evidence = (jnp.stack(values) for values in zip(*found, strict=True))
    return best, position, evidence
