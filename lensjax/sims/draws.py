"""Laws that mocks are drawn from: uniform or normal numbers in, properties out."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri

from lensjax.physics import bands

WIDEST = 3.0  # standard deviations of any normal law


def between(limits, u):
    """Uniform in a range."""
    return limits[0] + (limits[1] - limits[0]) * u


def between_log(limits, u):
    """Uniform in the logarithm in a range of positive numbers."""
    return limits[0] * (limits[1] / limits[0]) ** u


def draw(key, *shape: int) -> tuple[jax.Array, jax.Array]:
    """Uniform numbers of that shape, and the same ones as standard normals cut at `WIDEST`: use either of each."""
    u = jax.random.uniform(key, shape, minval=1e-6)
    return u, jnp.clip(ndtri(u), -WIDEST, WIDEST)


def normal(law, g):
    """Normal of a (mean, scatter) from standard normals."""
    return law[0] + law[1] * g


def blue_colours(gr_law, rz_law, g, g2) -> tuple[jax.Array, jax.Array]:
    """g-r and r-z of galaxies that form stars, from standard normals: r-z follows g-r, with a scatter of its own."""
    gr = normal(gr_law, g)
    return gr, rz_law[0] + rz_law[1] * gr + rz_law[2] * g2


def lognormal(laws, g) -> jax.Array:
    """location + scale exp(shape g); laws: (shape, location, scale), or one for each g: Stein et al. (2022), eq. B3."""
    shape, location, scale = np.asarray(laws, np.float32).T
    return location + scale * jnp.exp(shape * g)


def counts(limits, slope: float, u):
    """Magnitude in a range where numbers grow by 10^slope a magnitude."""
    low, high = (10.0 ** (slope * limit) for limit in limits)
    return jnp.log10(between((low / high, 1.0), u)) / slope + limits[1]


def annulus(limits, u):
    """Radius of a place in an annulus, every area as likely."""
    return jnp.sqrt(between((limits[0] ** 2, limits[1] ** 2), u))


def polar(radius, turn):
    """x and y of a radius and an angle, of one turn from 0 to 1."""
    return radius * jnp.cos(2 * np.float32(np.pi) * turn), radius * jnp.sin(2 * np.float32(np.pi) * turn)


def grz(mag_r, gr, rz) -> jax.Array:
    """Fluxes (..., 3), nanomaggies, of an r magnitude and two colours (...)."""
    return bands.flux(jnp.stack([mag_r + gr, mag_r, mag_r - rz], axis=-1))


def choose(weights, u) -> jax.Array:
    """Index drawn with the given weights."""
    edges = np.cumsum(np.asarray(weights, np.float32)) / np.sum(np.asarray(weights, np.float32))
    return jnp.sum(u > edges[:-1])


def two_piece(u: jax.Array, percentiles: tuple[float, float, float]) -> jax.Array:
    """Lognormal quantile with the given 5, 50 and 95 %, its width on either side of the median its own."""
    low, middle, high = np.log(percentiles)
    x = jnp.clip(ndtri(u), -2.5, 2.5)
    return jnp.exp(middle + x * jnp.where(x < 0, middle - low, high - middle) / np.float32(1.6449))
