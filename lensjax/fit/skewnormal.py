"""The skew-normal line on a constant: its model in well-behaved parameters, and a bank of templates to start from.

The parameters are (flux, constant, mean, log width, skewness), flux and constant in the unit of the data, positions in
pixels; width is the standard deviation and skewness the standardised third moment: the centred parameters of Azzalini
(1985, Scand. J. Statist. 12, 171). In (location, scale, alpha) the normal matrix is singular at alpha = 0 and the three
are degenerate everywhere else; in the centred ones it is regular from alpha = 0 to the half-normal.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit.levenberg import Data, Scalars
from lensjax.physics import filters

CUBE = 2 / (4 - np.pi)  # skewness = v^3 / CUBE / (1 + v^2)^1.5 ... with v the mean in units of the width
MAX_ALPHA = 25.0  # as Shu et al. 2016
ALMOST_GAUSSIAN = 1e-5  # skewness below which the derivative is taken here: the shape is not differentiable at 0
PIXEL_VARIANCE = 1 / 12  # of a pixel, in pixels squared
BANK_ALPHAS = (-6.0, -1.5, 1.5, 6.0)
BANK_WIDTHS = (1.2, 1.8, 2.6, 3.8, 5.5)  # pixels
DOUBTFUL = 1.0  # of chi2, between the best templates of either sign: below it one start in twenty misses the minimum
BANK_OFFSETS = tuple(np.arange(-6.0, 7.0))  # pixels from the hit


def skewness(alpha):
    """Standardised third moment of a skew normal of shape `alpha` (numpy or JAX), within +-0.9953."""
    v = alpha * np.sqrt(2 / np.pi) / (1 + alpha**2) ** 0.5
    return v**3 / CUBE / (1 - v**2) ** 1.5


def shape(gamma):
    """Shape alpha of a skew normal of standardised third moment `gamma`, the inverse of `skewness` (numpy)."""
    v = np.cbrt(CUBE * np.asarray(gamma, np.float64))
    return v * np.sqrt(np.pi / 2) / np.sqrt(np.maximum(1 - (np.pi / 2 - 1) * v**2, 1e-12))


def _raw(log_width: jax.Array, gamma: jax.Array) -> Scalars:
    """(location - mean, log scale, alpha) of the profile averaged over pixels.

    A pixel adds 1/12 to the variance and nothing to the third moment; its fourth cumulant, -1/120, is neglected: 5e-4
    of the peak at the width of the line-spread function.
    """
    width = jnp.sqrt(jnp.exp(2 * log_width) + PIXEL_VARIANCE)
    v = jnp.sign(gamma) * jnp.cbrt(CUBE * jnp.abs(gamma)) * jnp.exp(log_width) / width
    alpha = v * np.sqrt(np.pi / 2) / jnp.sqrt(1 - (np.pi / 2 - 1) * v**2)
    return -width * v, jnp.log(width) + 0.5 * jnp.log1p(v**2), alpha


def line(params: Scalars):
    """Model of `levenberg.minimise`: flux times the pixel-averaged skew normal plus a constant, with derivatives."""
    flux, constant, mean, log_width, gamma = params
    side = jnp.where(gamma < 0, -ALMOST_GAUSSIAN, ALMOST_GAUSSIAN)
    gamma = jnp.where(jnp.abs(gamma) < ALMOST_GAUSSIAN, side, gamma)
    one, none = jnp.ones_like(gamma), jnp.zeros_like(gamma)
    (offset, log_scale, alpha), by_width = jax.jvp(_raw, (log_width, gamma), (one, none))
    _, by_gamma = jax.jvp(_raw, (log_width, gamma), (none, one))
    per_scale = jnp.exp(-log_scale)

    def at(x: jax.Array):
        z = (x - mean - offset) * per_scale
        t = alpha * z
        bell = jnp.exp(-0.5 * z * z) * (per_scale * np.sqrt(0.5 / np.pi))
        density = bell * (1 + jax.lax.erf(t * np.sqrt(0.5)))
        edge = bell * jnp.exp(-0.5 * t * t) * np.sqrt(2 / np.pi)
        fall = z * density - alpha * edge  # minus the derivative by z
        raw = (flux * per_scale * fall, flux * (z * fall - density), flux * (z * edge))
        slopes = [raw[0] * by[0] + raw[1] * by[1] + raw[2] * by[2] for by in (by_width, by_gamma)]
        return flux * density + constant, (density, jnp.ones_like(density), raw[0], *slopes)

    return at


@functools.cache
def bank(half: int) -> tuple[np.ndarray, np.ndarray]:
    """Start templates: shapes (K, 3) as (mean, log width, skewness), and their profiles (K, 2 half + 1), float32."""
    from scipy.stats import skewnorm

    x = np.arange(-half, half + 1)
    rows, profiles = [], []
    for alpha in BANK_ALPHAS:
        unit = skewnorm(alpha)
        for width in BANK_WIDTHS:
            scale = width / unit.std()
            for mean in BANK_OFFSETS:
                rows.append((mean, np.log(width), skewness(alpha)))
                profiles.append(skewnorm.pdf(x, alpha, mean - scale * unit.mean(), scale))
    return np.array(rows, np.float32), np.array(profiles, np.float32)


def starts(data: Data) -> tuple[Scalars, Scalars, jax.Array]:
    """The best template of the bank and the best of the other skewness, each as the five parameters, flux and constant
    in closed form; and by how much chi2 of the second is worse, scalar.

    It settles the sign of the skewness, which Levenberg-Marquardt alone seldom changes. Three matrix products for a
    whole batch. `data.x` must be -half ... half.
    """
    shapes, templates = bank(data.x.shape[0] // 2)
    with jax.default_matmul_precision("highest"):
        s_t, s_tt, s_ty = templates @ data.ivar, templates**2 @ data.ivar, templates @ (data.ivar * data.y)
    s_1 = jnp.maximum(jnp.sum(data.ivar), 1e-30)
    s_y = jnp.sum(data.ivar * data.y)
    square = s_tt - s_t * s_t / s_1
    cross = s_ty - s_t * (s_y / s_1)
    seen = square > 1e-3 * s_tt  # else no good pixel under the template, or none beside it
    flux = jnp.where(seen, jnp.maximum(cross, 0.0) / jnp.where(seen, square, 1.0), 0.0)
    gain, half = flux * cross, len(shapes) // 2  # the bank begins with the blue tails
    blue, red = filters.highest(gain[:half]), half + filters.highest(gain[half:])
    redder = gain[red] > gain[blue]
    best, mirrored = jnp.where(redder, red, blue), jnp.where(redder, blue, red)

    def params(place) -> Scalars:
        mean, log_width, gamma = (jnp.asarray(column)[place] for column in shapes.T)
        return flux[place], (s_y - flux[place] * s_t[place]) / s_1, mean, log_width, gamma

    return params(best), params(mirrored), gain[best] - gain[mirrored]


def start(data: Data) -> Scalars:
    """The better sign of the skewness, see `starts`."""
    return starts(data)[0]


def second(data: Data) -> tuple[Scalars, jax.Array]:
    """The other sign, and whether the bank leaves it in doubt, bool: the minimum may then lie on that side."""
    _, mirrored, gap = starts(data)
    return mirrored, gap < DOUBTFUL
