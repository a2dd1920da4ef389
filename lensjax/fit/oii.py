"""The rival of every Lyman-alpha line: the doublet [OII] 3727, 3729 of a nearer galaxy, fitted to the same pixels.

225 km/s apart, with a ratio that atomic physics bounds, and as many parameters as the skew normal of `lya`. Its other
lines are in `companions`.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import levenberg, skewnormal, staged
from lensjax.fit.levenberg import Data, Scalars
from lensjax.fit.lya import ANGSTROM_PER_PIXEL, HALF_WIDTH, MAX_OFFSET, cut
from lensjax.physics import grid, lines

RATIOS = (0.35, 1.5)  # 3729 over 3727: high and low density limits (Osterbrock & Ferland 2006, section 5.6)
WIDTHS = (0.7, 4.0)  # standard deviation of each component, pixels
OFFSETS = tuple(np.log10(np.array(lines.OII_DOUBLET) / lines.OII) / grid.STEP)  # pixels from the mean


def doublet(params: Scalars, x: jax.Array) -> jax.Array:
    """Model of `levenberg.forward`: (flux, constant, place of 3728.48, log width, share of 3729) at pixel x."""
    flux, constant, mean, log_width, share = params
    variance = jnp.exp(2 * log_width) + skewnormal.PIXEL_VARIANCE
    parts = [jnp.exp(-0.5 * (x - mean - np.float32(offset)) ** 2 / variance) for offset in OFFSETS]
    return flux * ((1 - share) * parts[0] + share * parts[1]) * jax.lax.rsqrt(2 * np.pi * variance) + constant


@functools.cache
def bank(half: int) -> tuple[np.ndarray, np.ndarray]:
    """Start templates: (mean, log width, share) (K, 3), and their profiles (K, 2 half + 1), float32."""
    low, high = shares()
    mesh = np.meshgrid(np.arange(-8, 8.5, 0.5), np.log([1.0, 1.4, 2.0, 2.8]), [low, 0.42, high], indexing="ij")
    rows = np.stack([axis.ravel() for axis in mesh], axis=1)
    mean, log_width, share = rows.T[:, :, None]
    variance, x = np.exp(2 * log_width) + skewnormal.PIXEL_VARIANCE, np.arange(-half, half + 1) - mean
    parts = [np.exp(-0.5 * (x - offset) ** 2 / variance) for offset in OFFSETS]
    profiles = ((1 - share) * parts[0] + share * parts[1]) / np.sqrt(2 * np.pi * variance)
    return rows.astype(np.float32), profiles.astype(np.float32)


def shares() -> tuple[float, float]:
    """Bounds of 3729's share of the doublet's flux."""
    return RATIOS[0] / (1 + RATIOS[0]), RATIOS[1] / (1 + RATIOS[1])


def start(data: Data) -> Scalars:
    """The best template of the bank, with its closed-form flux and constant."""
    shapes, templates = bank(data.x.shape[0] // 2)
    with jax.default_matmul_precision("highest"):
        s_t, s_tt, s_ty = templates @ data.ivar, templates**2 @ data.ivar, templates @ (data.ivar * data.y)
    s_1, s_y = jnp.maximum(jnp.sum(data.ivar), 1e-30), jnp.sum(data.ivar * data.y)
    square, cross = s_tt - s_t * s_t / s_1, s_ty - s_t * (s_y / s_1)
    seen = square > 1e-3 * s_tt
    flux = jnp.where(seen, jnp.maximum(cross, 0.0) / jnp.where(seen, square, 1.0), 0.0)
    best = jnp.argmax(flux * cross)
    mean, log_width, share = (jnp.asarray(column)[best] for column in shapes.T)
    return flux[best], (s_y - flux[best] * s_t[best]) / s_1, mean, log_width, share


@functools.cache
def problem(half: int = HALF_WIDTH) -> staged.Problem:
    """The doublet as `staged.solve` takes it."""
    lower, upper = (-1e6, -1e6, -MAX_OFFSET), (1e6, 1e6, MAX_OFFSET)
    widths = tuple(float(np.log(width)) for width in WIDTHS)
    bounds = ((*lower, widths[0], shares()[0]), (*upper, widths[1], shares()[1]))
    return staged.Problem(levenberg.forward(doublet), start, *bounds, tuple(map(float, range(-half, half + 1))))


def fit_doublet(flux: np.ndarray, ivar: np.ndarray, position: np.ndarray, loglam: np.ndarray) -> dict[str, np.ndarray]:
    """Fit the doublet on a constant to the pixels that `lya.fit_lines` fits, with as many parameters.

    Args:
        flux, ivar, position, loglam: as of `lya.fit_lines`.

    Returns:
        (N,) arrays: oii_flux (1e-17 erg/s/cm2), oii_wave (A, of 3728.48), z_oii, oii_ratio (3729 over 3727),
        oii_sigma (pixels, of each component), oii_chi2.
    """
    y, weight = cut(flux, position), cut(ivar, position)
    solution = staged.solve(problem(), np.where(weight > 0, y, 0), weight)
    total, _, mean, log_width, share = solution.params
    centre = np.asarray(loglam)[0] + np.rint(position) * grid.STEP
    wave = 10 ** (centre + mean * grid.STEP)
    return {
        "oii_flux": total * 10**centre * ANGSTROM_PER_PIXEL,
        "oii_wave": wave,
        "z_oii": wave / lines.OII - 1,
        "oii_ratio": share / (1 - share),
        "oii_sigma": np.exp(log_width),
        "oii_chi2": solution.chi2,
    }
