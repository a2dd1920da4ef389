"""Point-spread functions by their Fourier transforms, which are 1 at the origin: blurring conserves the flux."""

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.core.errors import UserError
from lensjax.physics.bands import FWHM

# (2 / Gamma(beta - 1)) (s / 2)^(beta - 1) K_(beta - 1)(s) is a polynomial times exp(-s) for half-integer orders.
MOFFAT = {2.5: (1.0, 1.0), 3.5: (1.0, 1.0, 1 / 3), 4.5: (1.0, 1.0, 2 / 5, 1 / 15)}
SHAPES = ("gaussian", *(f"moffat{beta}" for beta in MOFFAT))


def transfer(shape: str, fwhm, frequency) -> jax.Array:
    """Fourier transform of a round PSF.

    Args:
        shape: one of SHAPES, "gaussian" or "moffat" with its beta: I(r) ~ (1 + r^2 / a^2)^-beta.
        fwhm: full width at half maximum, arcsec.
        frequency: cycles per arcsec, any shape.

    Returns:
        Real transfer function, 1 at frequency 0.
    """
    if shape not in SHAPES:
        raise UserError(f"the PSF is {shape!r}: expected one of {', '.join(SHAPES)}")
    if shape == "gaussian":
        return jnp.exp(-2 * (np.float32(np.pi / FWHM) * fwhm * frequency) ** 2)
    beta = float(shape.removeprefix("moffat"))
    s = frequency * fwhm * np.float32(np.pi / np.sqrt(2 ** (1 / beta) - 1))  # 2 pi a frequency
    polynomial = jnp.zeros_like(s)
    for coefficient in reversed(MOFFAT[beta]):
        polynomial = polynomial * s + coefficient
    return polynomial * jnp.exp(-s)
