"""The traditional search for absorption doublets: running median, matched filter, a least S/N for either line.

The recipe of the catalogues that were made without a network: a running median as the continuum (Zhu & Menard 2013,
ApJ 770, 130), doublet kernels of several widths, and a significance that each line has to reach. The *practical* one
has the continuum of the networks instead (`tasks.absorption.fit_continuum`), and asks nothing of single lines: the
strongest classical rival.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import robust
from lensjax.physics import grid, lines, quasar
from lensjax.tasks import absorbers, absorption, classify, companions

OK, NO_DATA = 0, 1
STATUS = {OK: "", NO_DATA: "no good pixel in the search window"}
ALIAS = 14  # pixels: a doublet read one line too early or too late is no other
STEP = 12  # pixels between two medians; linear between them
Prediction = dict[str, jax.Array]


def running_median(flux: jax.Array, good: jax.Array, width: int) -> jax.Array:
    """Median of the good pixels within `width` of each pixel of flux (P,), on every STEP-th pixel, linear between."""
    pixels = flux.shape[0]
    centres = np.arange(0, pixels + STEP, STEP)
    rows = np.clip(centres[:, None] + np.arange(width) - width // 2, 0, pixels - 1)
    inside = (centres[:, None] + np.arange(width) - width // 2 == rows) & good[rows]
    coarse = jax.vmap(lambda x, mask: robust.quantile(x, mask, 0.5))(flux[rows], inside)
    return jnp.interp(jnp.arange(pixels, dtype=jnp.float32), centres.astype(np.float32), coarse)


def significance(
    example: dict[str, jax.Array], constants: dict[str, jax.Array], loglam: np.ndarray, settings: Any, practical: bool
) -> tuple[jax.Array, jax.Array]:
    """S/N (P,) of a doublet whose 2796 is on the pixel, 0 where none is looked for; and where one is, bool (P,).

    example: flux, ivar (P,), z of one quasar. constants: of `absorption.make_features`; read if practical. settings:
    config.search.doublet_filter.
    """
    good = example["ivar"] > 0
    mask = good & quasar.search_window(jnp.asarray(grid.wave(loglam), jnp.float32), example["z"])
    if practical:
        model, ivar, _ = absorption.fit_continuum(example, constants, loglam)
    else:
        model = running_median(example["flux"], good, settings.median_pixels)
        scale = robust.noise_scale(example["flux"] - model, jnp.where(mask, example["ivar"], 0.0))
        ivar = example["ivar"] / scale**2
    sums = absorption.line_sums(model - example["flux"], ivar)
    snr = jnp.where(mask, absorption.doublet_snr(*sums, absorption.SEPARATION), 0.0)
    if practical:
        return snr, mask
    first = absorption.line_snr(*sums).max(0)
    second = companions.shifted(first, (absorption.SEPARATION,))[0]
    both = (first >= settings.line_snr[0]) & (second >= settings.line_snr[1])
    return jnp.where(both, snr, 0.0), mask


def decide(snr: jax.Array, mask: jax.Array, loglam: np.ndarray, settings: Any) -> Prediction:
    """The best doublets of one spectrum, each with the logit S/N - threshold.

    Returns logit, score, wave (A, vacuum, of the best 2796), z_source (its z_abs), snr, waves, logits, status.
    """
    guide = jnp.where(mask, 0.5 * jnp.minimum(snr, 40.0) ** 2, -jnp.inf)  # squares beyond that are one in float32
    best, position, _ = absorbers.peaks(guide, ALIAS)
    waves, logits = classify.wavelength(position, loglam), snr[best] - settings.threshold
    status = jnp.where(mask.any(), OK, NO_DATA).astype(jnp.int32)
    first = {"logit": logits[0], "wave": waves[0], "snr": snr[best[0]]}
    derived = {"score": jax.nn.sigmoid(logits[0]), "z_source": waves[0] / lines.MGII[0] - 1}
    return {**first, **derived, "waves": waves, "logits": logits, "status": status}


def make_predict(config: Any, practical: bool = False) -> Callable[[Any, Any, dict[str, jax.Array]], Prediction]:
    """predict(params, model_state, batch) -> predictions (N,), as a network's Task gives; the first two are not read.

    config: data.window, sim.continuum and sim.redshift, model.templates, search.doublet_filter.
    """
    settings, loglam = config.search.doublet_filter, grid.window(*config.data.window)
    constants = absorption.make_constants(config)

    def predict_one(example: dict[str, jax.Array]) -> Prediction:
        return decide(*significance(example, constants, loglam, settings, practical), loglam, settings)

    def predict(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> Prediction:
        del params, model_state
        return jax.vmap(predict_one)({name: batch[name] for name in ("flux", "ivar", "z")})

    return predict
