"""The other lines of a background galaxy, pixel by pixel: what they say if the line here is its [OII].

On a grid of constant log wavelength every line of a galaxy is a fixed number of pixels from its [OII], at any
redshift. So the matched-filter S/N of the companions is that of the same spectrum, shifted.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.models.heads import half_square
from lensjax.physics import filters, grid, lines

REST = (lines.HBETA, *lines.OIII, lines.HALPHA)
SHIFTS = tuple(round(math.log10(rest / lines.OII) / grid.STEP) for rest in REST)  # pixels redward of [OII]
FILTER = 1  # of features.FILTERS: a narrow one, as the lines are
PRESENT = 0.6  # how often a companion is bright enough to matter
PRIOR_WIDTH = 17.0  # of its S/N, as for the line itself: see `heads.PixelHead`
LINEAR_SNR = 5.0  # beyond which one place has no more than a linear vote, as in the head


def shifted(values: jax.Array, shifts: tuple[int, ...]) -> list[jax.Array]:
    """values (..., P) as seen `shifts` pixels redward of each pixel (blueward if negative); 0 beyond the ends."""
    num, start = values.shape[-1], max(0, -min(shifts))
    longer = filters.lengthen(jax.lax.optimization_barrier(values), start, max(0, *shifts))
    return [longer[..., start + shift : start + shift + num] for shift in shifts]


def beside(snr: jax.Array, mask: jax.Array, shifts: tuple[int, ...] = SHIFTS) -> tuple[jax.Array, jax.Array]:
    """S/N of the companions (K, P), 0 where there are no data, and the log odds (P,) that they give to the line here.

    Each companion is there with chance PRESENT and a flat prior of its S/N, or is not: a line adds about S^2 / 2, an
    absence costs log(1 - PRESENT), a place without data nothing.

    snr, mask: (P,), of a narrow filter, and true where the pixel is good. shifts: pixels to each companion, by default
    those of [OII].
    """
    known = jnp.where(mask, snr, 0.0)
    line = half_square(known, LINEAR_SNR) + np.float32(math.log(PRESENT * math.sqrt(2 * math.pi) / PRIOR_WIDTH))
    odds = jnp.where(mask, jnp.logaddexp(np.float32(math.log(1 - PRESENT)), line), 0.0)
    return jnp.stack(shifted(known, shifts)), functools.reduce(jnp.add, shifted(odds, shifts))


def joint_snr(snr: jax.Array, odds: jax.Array) -> jax.Array:
    """S/N (P,) of a line that is as often [OII] with companions as it is alone: its likelihood is the mean of both.

    snr: (P,) of the line alone. odds: (P,) of `beside`. With a linear vote beyond LINEAR_SNR, as the companions have,
    or a bright Halpha would outweigh the [OII] that it proves.
    """
    both = half_square(snr, LINEAR_SNR) + jnp.logaddexp(0.0, odds) - np.float32(math.log(2))
    bright = both > 0.5 * LINEAR_SNR**2
    return jnp.where(
        bright, both / LINEAR_SNR + 0.5 * LINEAR_SNR, jnp.sqrt(2 * jnp.clip(both, 1e-6, 0.5 * LINEAR_SNR**2))
    )
