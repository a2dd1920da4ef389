"""The traditional search: template fit, masks, rescaled errors, matched filter (Bolton 2004; Shu et al. 2016).

A scorer in its own right, with the predictions of a network. The *traditional* filter follows Shu et al. (2016, ApJ
833, 264) step by step. The *practical* one rejects lone-pixel spikes, which cosmic rays leave in real spectra, and
masks no more of the window than the networks do (`sims.lya.lens_mask`): the strongest classical rival.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import robust, templates
from lensjax.physics import filters, grid, lines
from lensjax.sims import continua
from lensjax.sims.lya import lens_mask, masked_lines

OK, TOO_MANY_HITS, NO_DATA = 0, 1, 2
STATUS = {
    OK: "",
    TOO_MANY_HITS: "the matched filter dropped it: more hits than config.search.matched_filter.max_hits",
    NO_DATA: "no good pixel is left after the masks",
}
Prediction = dict[str, jax.Array]


def load_basis(config: Any) -> templates.Basis:
    """The first `num_templates` vectors of the library that config.sim.continuum names."""
    library = continua.read_library(config.sim.continuum)
    vectors = np.asarray(library.vectors[: config.search.matched_filter.num_templates], np.float32)
    return templates.Basis(library.loglam0, vectors)


def mask_lines(z: jax.Array, loglam: np.ndarray, half_width: float) -> jax.Array:
    """Pixels within `half_width` of a line of the foreground galaxy at redshift z, or of the sky.

    Args:
        z: () redshift.
        loglam: (P,) window.
        half_width: pixels.

    Returns:
        (P,) bool, True = masked.
    """
    pixel = np.arange(len(loglam), dtype=np.float32)
    sky = np.zeros(len(loglam), bool)
    for place in grid.pixel(np.array(lines.SKY_LINES), loglam):
        sky |= np.abs(pixel - place) <= half_width
    rest = grid.pixel(np.array([*lines.LENS_EMISSION, *lines.EMPIRICAL_REST]), loglam).astype(np.float32)
    shift = jnp.log10(1.0 + z) / grid.STEP
    masked = jnp.asarray(sky)
    for place in rest:
        masked |= jnp.abs(pixel - (place + shift)) <= half_width
    return masked


def lone_pixels(flux: jax.Array, ivar: jax.Array, kernel: np.ndarray, fraction: float) -> jax.Array:
    """Where one pixel alone supplies more than `fraction` of the filter's signal: (P,) bool.

    The narrowest true line (LSF sigma 1 px under a kernel of 2.2) gets 44 % of its signal from its brightest pixel.
    """
    half, num = len(kernel) // 2, flux.shape[-1]
    signal = jnp.pad(flux * ivar, (half, half))
    parts = [float(weight) * signal[j : j + num] for j, weight in enumerate(kernel)]
    largest, total = parts[0], parts[0]
    for part in parts[1:]:
        largest, total = jnp.maximum(largest, part), total + part
    return largest > fraction * jnp.maximum(total, 0.0)


def count_blocks(flags: jax.Array) -> jax.Array:
    """Number of contiguous runs of True in (P,) flags, () int32."""
    starts = flags & ~jnp.pad(flags, (1, 0))[:-1]
    return jnp.sum(starts, dtype=jnp.int32)


def significance(
    example: dict[str, jax.Array],
    basis: templates.Basis,
    loglam: np.ndarray,
    settings: Any,
    practical: bool,
    own_lines: Sequence[float] = lines.LENS_LINES,
) -> jax.Array:
    """S/N of a line of the search's kernel on every pixel of one spectrum.

    Args:
        example: flux (P,) 1e-17 erg/s/cm2/A, ivar (P,), z () redshift of the foreground galaxy.
        basis: rest-frame templates of the continuum.
        loglam: (P,) window.
        settings: config.search.matched_filter.
        practical: reject lone-pixel spikes, and mask the lens galaxy's own lines alone.
        own_lines: those of the lens galaxy that a practical search masks, Angstrom at rest.

    Returns:
        (P,) S/N, 0 where no good pixel lies under the kernel.
    """
    flux, z = example["flux"], example["z"]
    if practical:
        masked = lens_mask(jnp.asarray(grid.wave(loglam), jnp.float32), z, own_lines)
    else:
        masked = mask_lines(z, loglam, settings.mask_pixels)
    ivar = jnp.where(masked, 0.0, example["ivar"])
    design = templates.make_design(basis, float(loglam[0]), len(loglam), z)
    ivar = jnp.where(jnp.any(design[: len(basis.vectors)] != 0, axis=0), ivar, 0.0)  # where the templates reach
    model, _ = templates.fit_templates(flux, ivar, design)
    residual = flux - model
    ivar = ivar / robust.noise_scale(residual, ivar) ** 2
    width = (grid.wave(loglam) * np.log(10.0) * grid.STEP).astype(
        np.float32
    )  # A per pixel: from here on flux per pixel
    residual, ivar = residual * width, ivar / width**2
    kernel = filters.gaussian_kernel(settings.sigma, settings.taps)
    _, snr = filters.matched_filter(residual, ivar, kernel)
    if practical:
        snr = jnp.where(lone_pixels(residual, ivar, kernel, settings.max_pixel_fraction), 0.0, snr)
    return snr


def decide(snr: jax.Array, loglam: np.ndarray, settings: Any) -> Prediction:
    """The best line of one spectrum and its score, sigmoid(S/N - threshold): 0.5 exactly at the threshold.

    Spectra with more than `max_hits` separate hits (runs of pixels at or above the threshold) are dropped: they
    score as if their S/N were 0, and say so in `status`.

    Args:
        snr: (P,).

    Returns:
        logit, score (0..1), wave (A, vacuum, of the best pixel), z_source (if that is Lyman-alpha), snr (of it), hits
        (int32), status (see STATUS).
    """
    wave = grid.wave(loglam).astype(np.float32)
    best = filters.highest(snr)
    hits = count_blocks(snr >= settings.threshold)
    status = jnp.where(hits > settings.max_hits, TOO_MANY_HITS, jnp.where(jnp.any(snr != 0), OK, NO_DATA))
    logit = jnp.where(status == OK, snr[best], 0.0) - settings.threshold
    return {
        "logit": logit,
        "score": jax.nn.sigmoid(logit),
        "wave": jnp.asarray(wave)[best],
        "z_source": jnp.asarray(wave)[best] / lines.LYA - 1,
        "snr": snr[best],
        "hits": hits,
        "status": status.astype(jnp.int32),
    }


def make_predict(config: Any, practical: bool = False) -> Callable[[Any, Any, dict[str, jax.Array]], Prediction]:
    """predict(params, model_state, batch) -> predictions (N,), as a network's Task gives; the first two are not read.

    Args:
        config: needs data.window, sim.continuum and search.matched_filter.
        practical: reject lone-pixel spikes.
    """
    settings = config.search.matched_filter
    loglam, basis, own_lines = grid.window(*config.data.window), load_basis(config), masked_lines(config)

    def predict_one(example: dict[str, jax.Array]) -> Prediction:
        snr = significance(example, basis, loglam, settings, practical, own_lines)
        return decide(snr, loglam, settings)

    def predict(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> Prediction:
        del params, model_state
        return jax.vmap(predict_one)({name: batch[name] for name in ("flux", "ivar", "z")})

    return predict
