"""Mg II absorbers of known strength for the user's own quasars, and how their completeness is told."""

import types
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import grid, lines
from lensjax.sims import absorption as gas
from lensjax.sims import mgii
from lensjax.tasks import absorption

TRUTH = ("wave", "snr", "z_abs", "ew_2796")
AXES = {
    "wave": ("Angstrom", "vacuum wavelength of 2796 as observed"),
    "z_abs": ("", "redshift of the absorber"),
    "ew_2796": ("Angstrom", "equivalent width of 2796 in the absorber's frame"),
    "snr": ("", "S/N of the doublet: its true profile, the errors of the spectrum"),
}
MAPS = {
    "Z_EW": ("z_abs", "ew_2796"),
    "Z_SNR": ("z_abs", "snr"),
    "EW_SNR": ("ew_2796", "snr"),
    "WAVE_EW": ("wave", "ew_2796"),
    "EW": ("ew_2796",),
    "SNR": ("snr",),
}
LABELS = {
    "wave": "wavelength of 2796 (Å)",
    "z_abs": "z of the absorber",
    "ew_2796": "W 2796 (Å)",
    "snr": "S/N of the doublet",
}


def make_inject(config: Any, loglam: np.ndarray) -> Callable[..., tuple[dict, dict]]:
    """inject(keys (N,), example of (N, P) rows, snr (N,)) -> (example with an absorber each, truth), jitted.

    Shapes by the curve of growth, as the simulator's, through each spectrum's own line-spread function; anywhere in the
    search window; W2796 as config.inject.ew_2796 says, whatever the spectrum: were W chosen by S/N, weak absorbers
    would be in bright quasars alone, and their completeness that of these. So `snr` is not read. The flux that is left
    keeps its own noise, and gets back what the absorption took of it. The truth's `possible` is False where no pixel
    of the spectrum could be an absorber's.
    """
    wave, ew_range = jnp.asarray(grid.wave(loglam), jnp.float32), config.inject.ew_2796
    apart = np.log10(np.array(lines.MGII) / lines.MGII[0]).astype(np.float32) / np.float32(grid.STEP)

    def one(key: jax.Array, example: dict[str, jax.Array], snr: jax.Array):
        del snr
        keys = jax.random.split(key)
        good = example["ivar"] > 0
        sigma = jnp.where(good, example["ivar"], 1.0) ** -0.5
        level = absorption.running_mean(example["flux"], example["ivar"], jnp.full_like(sigma, 1e4))
        sim = types.SimpleNamespace(absorber_law="ew", width_law="growth", ew_range=ew_range, max_absorbers=1)
        sim.least_pixel_snr, sim.more_absorbers, sim.associated_fraction, sim.absorber_fraction = 0.0, 0.0, 0.0, 2.0
        observed = {"continuum": jnp.maximum(level, 0.05 * sigma), "sigma": sigma, "ivar": example["ivar"]}
        instrument = types.SimpleNamespace(wave=wave, lsf=example["wdisp"])
        slots = mgii.draw_absorbers(keys[0], sim, instrument, observed, example["z"])
        rendering = gas.make_rendering(example["wdisp"], loglam)
        width, depth = (jnp.full(2, slots[name][0]) for name in ("width", "depth"))
        places, depths = slots["pixel"][0] + apart, depth * jnp.array([1.0, gas.SECOND])
        seen = jnp.exp(gas.add_lines(jnp.zeros(wave.shape), rendering, places, width / mgii.ANGSTROM, depths))
        noise = sigma * jnp.sqrt(1 - seen**2) * jax.random.normal(keys[1], wave.shape)
        flux = jnp.where(good, example["flux"] * seen + noise, 0.0)
        true_snr = jnp.sqrt(jnp.sum(jnp.where(good, (level * (1 - seen) / sigma) ** 2, 0.0)))
        z_abs = slots["z_abs"][0]
        truth = {
            "possible": slots["there"][0],
            "wave": lines.MGII[0] * (1 + z_abs),
            "snr": true_snr,
            "z_abs": z_abs,
            "ew_2796": slots["ew"][0],
        }
        return {**example, "flux": flux}, truth

    return jax.jit(jax.vmap(one))
