"""Quasars with one doublet that nobody could miss, in half of the spectra: for tests of what finds them."""

import functools

import jax

from configs import mgii
from lensjax.data.batches import make_simulator


@functools.cache
def bright_quasars():
    """The config of the mocks, and 64 of them."""
    config = mgii.get_config("smoke")
    config.sim.update({"absorber_law": "snr", "snr_range": (13.0, 20.0), "dirt": 0.0, "max_absorbers": 1})
    return config, jax.jit(jax.vmap(make_simulator(config)))(jax.random.split(jax.random.key(3), 64))
