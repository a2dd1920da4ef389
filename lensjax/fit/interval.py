"""68 % interval of the skewness of a line, from the profile of its likelihood, with a calibrated threshold.

The textbook interval, where chi2 minimised over all other parameters exceeds its minimum by less than 1, holds the
truth in 50 to 82 % of lines at low S/N: the likelihood is not parabolic and ends at the bound. So the threshold is that
of Feldman & Cousins (1998, Phys. Rev. D 57, 3873): at every shape and fitted S/N the value which 68.3 % of simulated
lines of that very shape stay below. It makes the interval right for each shape, whatever the prior.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import levenberg, skewnormal, staged
from lensjax.fit.levenberg import Data, Scalars

# Threshold of chi2 by log(1 + |alpha|) = 0 ... log(26) (rows) and the logarithm of the fitted S/N = 2.5 ... 64
# (columns), in equal steps: 68.3 % quantiles of simulated lines, 140,000 a row, by the laws of `benchmarks/fits.py`,
# which can redo it.
THRESHOLDS = (
    (0.82, 1.16, 1.60, 1.91, 2.00, 1.84, 1.52, 1.28, 1.09, 1.06, 1.04, 1.04, 0.97, 1.04, 0.95, 1.00),
    (0.76, 1.16, 1.58, 1.84, 1.94, 1.79, 1.50, 1.27, 1.15, 1.06, 1.03, 1.01, 0.99, 1.03, 1.01, 1.00),
    (0.79, 1.12, 1.53, 1.77, 1.79, 1.64, 1.45, 1.25, 1.13, 1.05, 1.08, 1.05, 1.03, 1.05, 1.03, 0.94),
    (0.70, 1.07, 1.39, 1.54, 1.58, 1.49, 1.33, 1.22, 1.17, 1.09, 1.04, 1.06, 1.02, 1.02, 0.97, 1.00),
    (0.57, 0.86, 1.08, 1.22, 1.20, 1.15, 1.11, 1.06, 1.03, 1.04, 1.02, 0.99, 1.04, 1.02, 1.00, 0.99),
    (0.48, 0.71, 0.87, 0.94, 0.86, 0.84, 0.77, 0.79, 0.80, 0.80, 0.82, 0.85, 0.89, 0.90, 0.94, 0.99),
    (0.37, 0.55, 0.62, 0.65, 0.55, 0.53, 0.49, 0.48, 0.52, 0.55, 0.59, 0.61, 0.65, 0.69, 0.69, 0.76),
    (0.33, 0.42, 0.54, 0.47, 0.35, 0.30, 0.26, 0.27, 0.30, 0.30, 0.32, 0.34, 0.40, 0.43, 0.43, 0.51),
    (0.35, 0.48, 0.43, 0.39, 0.28, 0.20, 0.16, 0.16, 0.14, 0.13, 0.13, 0.12, 0.14, 0.11, 0.09, 0.08),
)
FIRST_SNR, LAST_SNR = 2.5, 64.0
LEVEL = 0.683
PROBES, STEPS, WALK = 5, 6, 4  # of the search for each end: places of the grid, refinements; steps of each fit
GROWTH = 4.0  # of the distance from the best fit in one step


def threshold(gamma: jax.Array, snr: jax.Array) -> jax.Array:
    """Excess of chi2 that bounds the 68 % interval, for a true skewness `gamma` and a fitted S/N; scalars."""
    v = jnp.cbrt(skewnormal.CUBE * jnp.abs(gamma))
    alpha = v * np.sqrt(np.pi / 2) / jnp.sqrt(jnp.maximum(1 - (np.pi / 2 - 1) * v**2, 1e-6))
    rows, columns = len(THRESHOLDS), len(THRESHOLDS[0])
    row = jnp.log1p(alpha) * ((rows - 1) / np.log1p(skewnormal.MAX_ALPHA))
    column = jnp.log(jnp.maximum(snr, 1.0) / FIRST_SNR) * ((columns - 1) / np.log(LAST_SNR / FIRST_SNR))
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


def end(
    problem: staged.Problem, params: Scalars, error: jax.Array, snr: jax.Array, data: Data, side: jax.Array
) -> jax.Array:
    """Lower (side -1) or upper (+1) end of the interval of the skewness, within the bounds; scalar.

    Args:
        problem: gives the bounds.
        params: best fit.
        error: of the skewness, from the covariance: the first guess.
        snr: of the fitted line.
        data: of one line.
        side: scalar, -1 or 1.
    """
    lower, upper = staged.fill(problem.lower, data.y), staged.fill(problem.upper, data.y)
    best, gamma = levenberg.normal_equations(skewnormal.line, params, data).chi2, params[-1]
    wall = jnp.where(side > 0, upper[-1], lower[-1])
    reach = jnp.abs(wall - gamma)

    def depth(distance, near):
        """How deep inside the interval a place is: 0 at the best fit, 1 at the end; and the fit there."""
        here = gamma + side * distance
        near, chi2 = pinned(near, here, data, WALK, lower, upper)
        return jnp.sqrt(jnp.maximum(chi2 - best, 0.0) / threshold(here, snr)), near

    def probe(i, state):
        inside, outside, near = state
        distance = reach * (i + 1) / PROBES
        ratio, near = depth(distance, near)
        return jnp.where(ratio < 1, distance, inside), jnp.where(ratio < 1, reach, jnp.minimum(outside, distance)), near

    def search(_, state):
        inside, outside, distance, near = state
        ratio, near = depth(distance, near)
        inside = jnp.where(ratio < 1, jnp.maximum(inside, distance), inside)
        outside = jnp.where(ratio < 1, outside, jnp.minimum(outside, distance))
        guess = jnp.minimum(distance / jnp.maximum(ratio, 1 / GROWTH), reach)
        beyond = (guess > outside) | (guess < inside)
        return inside, outside, jnp.where(beyond, 0.5 * (inside + outside), guess), near

    # The outermost place inside, first on a coarse grid: thresholds fall with the shape, and the likelihood may dip.
    inside, outside, near = jax.lax.fori_loop(0, PROBES, probe, (jnp.zeros_like(gamma), reach, params))
    guess = jnp.clip(jnp.where(jnp.isfinite(error), error, reach), 0.02, 1.0)
    first = jnp.where(inside > 0, 0.5 * (inside + outside), jnp.minimum(guess, outside))
    near = tuple(jnp.where(inside > 0, far, close) for far, close in zip(near, params, strict=True))
    _, _, distance, _ = jax.lax.fori_loop(0, STEPS, search, (inside, outside, first, near))
    return gamma + side * distance


@functools.cache
def ends(problem: staged.Problem):
    """Compiled, batch last: (params (K, N), error (N,), snr (N,), y (P, N), ivar) -> lower (N,), upper (N,)."""

    def one(params, error, snr, y, ivar):
        data = Data(jnp.asarray(problem.x, y.dtype), y, ivar)
        sides = jnp.array([-1, 1], y.dtype)  # a loop, so that the search is compiled once
        return tuple(jax.lax.map(lambda side: end(problem, tuple(params), error, snr, data, side), sides))

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
