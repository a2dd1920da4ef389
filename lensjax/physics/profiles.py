"""Line profiles, normalised to unit flux and integrated over pixels.

All positions and widths are in pixels of the log-wavelength grid; `centre` is the mean of the profile.
"""

import jax
import jax.numpy as jnp
import numpy as np

# Three-point Gauss-Legendre nodes and weights on [-1/2, 1/2]: exact to fifth order over a pixel.
_NODES = np.array([-np.sqrt(0.15), 0.0, np.sqrt(0.15)], np.float32)
_WEIGHTS = np.array([5.0, 8.0, 5.0], np.float32) / 18.0
REACH = 40  # pixels each way from the centre beyond which a profile is taken as zero: 7 times the widest scale


def skew_normal(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """Density 2 phi(x) Phi(alpha x) of the standard skew normal (Azzalini 1985); any shape."""
    phi = jnp.exp(-0.5 * x**2) * np.float32(1 / np.sqrt(2 * np.pi))
    return 2 * phi * jax.scipy.special.ndtr(alpha * x)


def delta(alpha: jax.Array) -> jax.Array:
    """delta = alpha / sqrt(1 + alpha^2), the bounded form of the shape parameter."""
    return alpha / jnp.sqrt(1 + alpha**2)


def blur(omega: jax.Array, alpha: jax.Array, sigma: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scale and shape of a skew normal convolved with a Gaussian of standard deviation `sigma`.

    The family is closed: omega'^2 = omega^2 + sigma^2 and delta' = delta omega / omega'.
    """
    wide = jnp.sqrt(omega**2 + sigma**2)
    narrow = delta(alpha) * omega / wide
    return wide, narrow / jnp.sqrt(jnp.maximum(1 - narrow**2, 1e-6))


def pixel_profile(num_pixels: int, centre: jax.Array, omega: jax.Array, alpha: jax.Array) -> jax.Array:
    """Fraction of the flux of a skew normal in each pixel, shape (num_pixels,).

    Args:
        num_pixels: length P of the grid.
        centre: mean of the profile, pixels, scalar.
        omega: scale, pixels, scalar (the standard deviation where alpha = 0).
        alpha: shape; positive means a sharp blue edge and a red tail. Zero is a Gaussian.
    """
    location = centre - omega * delta(alpha) * np.float32(np.sqrt(2 / np.pi))
    first = jnp.clip(jnp.round(centre).astype(jnp.int32) - REACH, -2 * REACH, num_pixels)
    x = first + jnp.arange(2 * REACH, dtype=jnp.float32) - location
    near = sum(w * skew_normal((x + node) / omega, alpha) for node, w in zip(_NODES, _WEIGHTS, strict=True)) / omega
    padded = jax.lax.dynamic_update_slice(jnp.zeros(num_pixels + 4 * REACH), near, (first + 2 * REACH,))
    return padded[2 * REACH : 2 * REACH + num_pixels]
