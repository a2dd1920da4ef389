"""Where Mg II absorbers of a quasar are looked for, and the paper's scaling of its flux."""

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import lines

WINDOW = (1550.0, 2800.0)  # A at rest: redward of CIV, blueward of Mg II (Zhao et al. 2019, section 2.1)
# Where the flux is scaled to a median of 1: up to this redshift, between these wavelengths at rest (A).
SCALING = ((1.8, (3020.0, 3100.0)), (2.8, (2150.0, 2250.0)), (4.8, (1420.0, 1500.0)))
OBSERVED, NEAR = (4150.0, 4250.0), 1.0  # A, at redshifts up to NEAR


def search_window(wave: jax.Array, z: jax.Array) -> jax.Array:
    """True (P,) where the 2796 line of an absorber may lie. wave: (P,) A; z: () redshift of the quasar."""
    rest = wave / (1 + z)
    last = wave[-1] * np.float32(lines.MGII[0] / lines.MGII[1])  # both lines are in the spectrum
    return (rest > WINDOW[0]) & (rest < WINDOW[1]) & (wave < last)


def scaling_range(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Ends (A, observed) of the range in which the flux of a quasar at redshift z () is scaled."""
    low, high = (jnp.float32(end) * (1 + z) for end in SCALING[-1][1])
    for limit, ends in reversed(SCALING[:-1]):
        low, high = (jnp.where(z <= limit, end * (1 + z), other) for end, other in zip(ends, (low, high), strict=True))
    return jnp.where(z <= NEAR, OBSERVED[0], low), jnp.where(z <= NEAR, OBSERVED[1], high)


def rescale(flux: jax.Array, ivar: jax.Array, wave: jax.Array, z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The flux over its median in `scaling_range`, less one; 0 outside the search window and in bad pixels. Median ().

    flux, ivar, wave: (P,). The median is of good pixels; 1 where there are none, or where it is not positive. The paper
    does not say that it subtracts one; without, a network sees nothing but the level for tens of thousands of spectra.
    """
    low, high = scaling_range(z)
    inside = (wave >= low) & (wave <= high) & (ivar > 0)
    ordered = jnp.sort(jnp.where(inside, flux, jnp.inf))
    number = jnp.sum(inside)
    middle = 0.5 * (ordered[jnp.maximum(number - 1, 0) // 2] + ordered[number // 2])
    median = jnp.where((number > 0) & (middle > 0), middle, 1.0)
    kept = search_window(wave, z) & (ivar > 0)
    return jnp.where(kept, flux / median - 1, 0.0), median
