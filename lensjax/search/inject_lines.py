"""Lines of known flux and shape for the user's own galaxies, and how their completeness is told."""

import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import grid
from lensjax.sims import lya, noise

TRUTH = ("wave", "snr", "line_flux", "line_sigma", "line_alpha", "peak")
# Column of the injected lines -> (unit, meaning).
AXES = {
    "wave": ("Angstrom", "vacuum wavelength of the line"),
    "snr": ("", "matched-filter S/N of the line: its true profile, the errors of the spectrum"),
    "line_flux": ("1e-17 erg / (s cm2)", "flux of the line"),
    "line_sigma": ("km / s", "scale of its skew normal, before the line-spread function"),
    "line_alpha": ("", "shape of its skew normal; positive = red tail"),
}
MAPS = {  # table -> the axes of its cells
    "WAVE_FLUX": ("wave", "line_flux"),
    "WAVE_SNR": ("wave", "snr"),
    "SIGMA_SNR": ("line_sigma", "snr"),
    "ALPHA_SNR": ("line_alpha", "snr"),
    "SNR": ("snr",),
}
LABELS = {
    "wave": "wavelength (Å)",
    "snr": "S/N of the line",
    "line_flux": "flux (10$^{-17}$ erg s$^{-1}$ cm$^{-2}$)",
    "line_sigma": "scale ω (km/s)",
    "line_alpha": "shape α",
}


def make_inject(config: Any, loglam: np.ndarray) -> Callable[..., tuple[dict, dict]]:
    """inject(keys (N,), example of (N, P) rows, snr (N,)) -> (example with a line each, truth), jitted.

    Shapes as the simulator's skew normals, through each spectrum's own line-spread function; centres anywhere off the
    masks; flux such that the S/N of the true profile under the spectrum's own errors is `snr`. Reported errors grow
    with the counts, as `noise.follow_counts` says. The truth's `possible` is False where no pixel could be a line's.
    """
    wave, mirror_fraction = jnp.asarray(grid.wave(loglam), jnp.float32), config.inject.mirror_fraction
    masked = lya.masked_lines(config)

    def one(key: jax.Array, example: dict[str, jax.Array], snr: jax.Array):
        law = {"line_law": "snr", "snr_range": (snr, snr), "line_profile": "skewnormal"}
        sim = types.SimpleNamespace(**law, line_fraction=2.0, oii_fraction=0.0, mirror_fraction=mirror_fraction)
        good = example["ivar"] > 0
        sigma = jnp.where(good, example["ivar"], 1.0) ** -0.5
        instrument = types.SimpleNamespace(wave=wave, lsf=example["wdisp"])
        galaxy = {"ivar": example["ivar"], "sigma": sigma}
        line = lya.draw_line(key, sim, instrument, galaxy, example["z"], masked)
        flux = jnp.where(good, example["flux"] + line["model"], 0.0)
        ivar = noise.follow_counts(example["ivar"], line["model"], sigma)
        room = good & ~lya.lens_mask(wave, example["z"], masked)
        truth = {"possible": room[lya.EDGE : -lya.EDGE].any(), **{name: line[name] for name in TRUTH}}
        return {**example, "flux": flux, "ivar": ivar}, truth

    return jax.jit(jax.vmap(one))
