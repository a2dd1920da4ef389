"""68 % interval of the skewness of a line, from the profile of its likelihood, with a calibrated threshold.

The textbook interval, where chi2 minimised over all other parameters exceeds its minimum by less than 1, holds the
truth in 50 to 82 % of lines at low S/N: the likelihood is not parabolic and ends at the bound. So the threshold is that
of Feldman & Cousins (1998, Phys. Rev. D 57, 3873): at every shape and S/N the value which 68.3 % of simulated lines of
that very shape stay below. It makes the interval right for each truth, whatever the prior.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import levenberg, skewnormal, staged
from lensjax.fit.levenberg import Data, Scalars

# Threshold of chi2 by log(1 + |alpha|) = 0 ... log(26) (rows) and S/N = 2 ... 64 (columns), in equal steps:
# 68.3 % quantile of 6000 simulated lines each, width and error by the laws of `benchmarks/fits.py`, which can redo it.
THRESHOLDS = (
    (1.14, 1.50, 1.77, 1.79, 1.59, 1.22, 1.12, 1.00, 1.01, 1.06, 1.01),
    (1.14, 1.46, 1.70, 1.78, 1.54, 1.21, 1.10, 1.02, 1.00, 0.94, 1.03),
    (1.13, 1.38, 1.59, 1.64, 1.49, 1.22, 1.05, 1.05, 1.07, 1.01, 1.00),
    (1.04, 1.24, 1.42, 1.38, 1.33, 1.24, 1.11, 1.03, 1.07, 1.08, 1.01),
    (0.88, 1.00, 1.10, 1.08, 1.04, 1.04, 1.03, 1.02, 0.98, 0.97, 0.99),
    (0.70, 0.79, 0.81, 0.77, 0.73, 0.74, 0.81, 0.87, 0.87, 0.94, 0.98),
    (0.54, 0.61, 0.54, 0.50, 0.44, 0.49, 0.52, 0.59, 0.66, 0.70, 0.75),
    (0.48, 0.46, 0.42, 0.32, 0.27, 0.27, 0.28, 0.35, 0.39, 0.45, 0.54),
    (0.46, 0.46, 0.40, 0.27, 0.15, 0.13, 0.15, 0.15, 0.12, 0.12, 0.10),
)
FIRST_SNR, LAST_SNR = 2.0, 64.0
FOUND_BY_NOISE = 4.0  # by which noise raises (S/N)^2 of the best fit: one for each parameter but the constant
STEPS, WALK, FAR_WALK = 6, 4, 12  # of the search for each end; of each fit on the way; of that at the bound
GROWTH = 4.0  # of the distance from the best fit in one step


def threshold(gamma: jax.Array, snr: jax.Array) -> jax.Array:
    """Excess of chi2 that bounds the 68 % interval, for a true skewness `gamma` and a fitted S/N; scalars."""
    v = jnp.cbrt(skewnormal.CUBE * jnp.abs(gamma))
    alpha = v * np.sqrt(np.pi / 2) / jnp.sqrt(jnp.maximum(1 - (np.pi / 2 - 1) * v**2, 1e-6))
    rows, columns = len(THRESHOLDS), len(THRESHOLDS[0])
    row = jnp.log1p(alpha) * ((rows - 1) / np.log1p(skewnormal.MAX_ALPHA))
    true_snr = jnp.sqrt(jnp.maximum(snr**2 - FOUND_BY_NOISE, 1.0))
    column = jnp.log(true_snr / FIRST_SNR) * ((columns - 1) / np.log(LAST_SNR / FIRST_SNR))
    places = [jnp.clip(row, 0, rows - 1), jnp.clip(column, 0, columns - 1)]
    return jax.scipy.ndimage.map_coordinates(jnp.asarray(THRESHOLDS, snr.dtype), places, order=1)


def pinned(params: Scalars, gamma: jax.Array, data: Data, iterations: int, lower: Scalars, upper: Scalars):
    """Best fit at a given skewness: (params, chi2)."""
    start = (*params[:-1], gamma)
    fit = levenberg.minimise(
        skewnormal.line, start, (*lower[:-1], gamma), (*upper[:-1], gamma), data, iterations, damping=1e-2
    )
    return fit.params, fit.normal.chi2


def excess(problem: staged.Problem, params: Scalars, gamma: jax.Array, data: Data) -> jax.Array:
    """By how much the best fit at skewness `gamma` is worse in chi2 than the fit `params`; scalar."""
    lower, upper = staged.fill(problem.lower, data.y), staged.fill(problem.upper, data.y)
    best = levenberg.normal_equations(skewnormal.line, params, data).chi2
    return pinned(params, gamma, data, 12, lower, upper)[1] - best


def end(problem: staged.Problem, params: Scalars, error: jax.Array, snr: jax.Array, data: Data, side: int) -> jax.Array:
    """Lower (side -1) or upper (+1) end of the interval of the skewness, within the bounds; scalar.

    Args:
        problem: gives the bounds.
        params: best fit.
        error: of the skewness, from the covariance: the first guess.
        snr: of the fitted line.
        data: of one line.
        side: -1 or 1.
    """
    lower, upper = staged.fill(problem.lower, data.y), staged.fill(problem.upper, data.y)
    best, gamma = levenberg.normal_equations(skewnormal.line, params, data).chi2, params[-1]
    wall = upper[-1] if side > 0 else lower[-1]
    reach = jnp.abs(wall - gamma)
    zero = jnp.zeros_like(gamma)

    def search(_, state):
        inside, outside, distance, near = state
        here = gamma + side * distance
        near, chi2 = pinned(near, here, data, WALK, lower, upper)
        ratio = jnp.sqrt(jnp.maximum(chi2 - best, 0.0) / threshold(here, snr))
        inside = jnp.where(ratio < 1, jnp.maximum(inside, distance), inside)
        outside = jnp.where(ratio < 1, outside, jnp.minimum(outside, distance))
        guess = jnp.minimum(distance / jnp.maximum(ratio, 1 / GROWTH), reach)
        beyond = (guess > outside) | (guess < inside)
        return inside, outside, jnp.where(beyond, 0.5 * (inside + outside), guess), near

    # The bound first: what lies between is then inside too, even where the likelihood dips.
    at_wall = (pinned(params, wall, data, FAR_WALK, lower, upper)[1] - best) < threshold(wall, snr)
    guess = jnp.clip(jnp.where(jnp.isfinite(error), error, reach), 0.02, 1.0)
    state = jnp.where(at_wall, reach, zero), reach, jnp.where(at_wall, reach, jnp.minimum(guess, reach)), params
    _, _, distance, _ = jax.lax.fori_loop(0, STEPS, search, state)
    return gamma + side * distance


@functools.cache
def ends(problem: staged.Problem):
    """Compiled, batch last: (params (K, N), error (N,), snr (N,), y (P, N), ivar) -> lower (N,), upper (N,)."""

    def one(params, error, snr, y, ivar):
        data = Data(jnp.asarray(problem.x, y.dtype), y, ivar)
        return tuple(end(problem, tuple(params), error, snr, data, side) for side in (-1, 1))

    return staged.batched(one)


@functools.cache
def excesses(problem: staged.Problem, raw: bool = False):
    """Compiled, batch last: (params (K, N), gamma (N,), snr (N,), y (P, N), ivar) -> `excess` (N,) over `threshold`.

    Its square root, with the sign of (fitted - gamma), is the pull of the shape. `raw`: not divided.
    """

    def one(params, gamma, snr, y, ivar):
        data = Data(jnp.asarray(problem.x, y.dtype), y, ivar)
        return excess(problem, tuple(params), gamma, data) / (1.0 if raw else threshold(gamma, snr))

    return staged.batched(one)
