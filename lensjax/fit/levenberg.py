"""Least squares by Levenberg-Marquardt, for one example, made to be vmapped over the LAST axis of the data.

Two choices make it fast on every device. Parameters, gradient and normal matrix are tuples of scalars, never small
arrays: under vmap each scalar is a vector over the batch, and the elimination of a 5 x 5 system is a few fused loops.
And the sums over pixels are a `lax.scan` whose carry is those scalars: under `jax.vmap(..., in_axes=-1)` (pixels
first, batch last) each step reads one row of the data and touches nothing else, so no (P, N) array of residuals or
derivatives is ever written. Chunks of one to two thousand examples keep the carry in the cache.

Bounds are kept by projection: a parameter at its bound, pushed outwards, is held for that step. Equal bounds pin a
parameter, which is how profiles of the likelihood are taken. Damping follows the gain ratio (Madsen, Nielsen &
Tingleff 2004, Methods for Non-Linear Least Squares Problems, section 3.2).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from lensjax.fit.templates import solve_small

Scalars = tuple[jax.Array, ...]
# params -> (x -> (value, its derivative by each parameter)), all scalars
Model = Callable[[Scalars], Callable[[jax.Array], tuple[jax.Array, Scalars]]]

FIRST_DAMPING, LOWEST_DAMPING, HIGHEST_DAMPING = 1e-1, 1e-7, 1e7
GOOD_GAIN, POOR_GAIN, EASE, STIFFEN = 0.75, 0.25, 0.2, 8.0
TOLERANCE = 3e-4  # of chi2: what another step is expected to gain when the fit has converged


class Data(NamedTuple):
    """One example: x (P,) abscissa, y (P,) data, ivar (P,) inverse variances; ivar 0 = not fitted."""

    x: jax.Array
    y: jax.Array
    ivar: jax.Array


class Normal(NamedTuple):
    """chi2 (), gradient J^T W r (K scalars; the direction of descent), lower rows of J^T W J (K lists)."""

    chi2: jax.Array
    gradient: Scalars
    matrix: tuple[Scalars, ...]


class Fit(NamedTuple):
    """Where a fit stands: params (K scalars), normal equations there, damping (), converged () bool."""

    params: Scalars
    normal: Normal
    damping: jax.Array
    converged: jax.Array


def forward(function: Callable[[Scalars, jax.Array], jax.Array]) -> Model:
    """Model with forward-mode derivatives from a plain `function(params, x)` of scalars."""

    def model(params: Scalars):
        def at(x):
            units = [tuple(jnp.full_like(p, i == j) for j, p in enumerate(params)) for i in range(len(params))]
            pushed = [jax.jvp(lambda p: function(p, x), (params,), (unit,)) for unit in units]
            return pushed[0][0], tuple(slope for _, slope in pushed)

        return at

    return model


def normal_equations(model: Model, params: Scalars, data: Data) -> Normal:
    """chi2, gradient and normal matrix of one example at `params`."""
    at = model(params)
    num = len(params)

    def add(total: Normal, pixel):
        x, y, ivar = pixel
        value, slope = at(x)
        residual = y - value
        weighted = tuple(ivar * s for s in slope)
        chi2 = total.chi2 + ivar * residual * residual
        gradient = tuple(t + w * residual for t, w in zip(total.gradient, weighted, strict=True))
        rows = tuple(tuple(total.matrix[i][j] + weighted[i] * slope[j] for j in range(i + 1)) for i in range(num))
        return Normal(chi2, gradient, rows), None

    zero = jnp.zeros_like(params[0])
    start = Normal(zero, (zero,) * num, tuple((zero,) * (i + 1) for i in range(num)))
    return jax.lax.scan(add, start, tuple(data))[0]


def _solve(fit: Fit, free: list[jax.Array], moved: list[jax.Array]) -> list[jax.Array]:
    """Damped step of the free parameters, given how far the held ones are `moved`."""
    _, gradient, matrix = fit.normal
    num = len(free)
    rows = [[jnp.where(free[i] & free[j], matrix[i][j], 0.0) for j in range(i + 1)] for i in range(num)]
    right = []
    for i in range(num):
        pulled = sum(matrix[max(i, j)][min(i, j)] * moved[j] for j in range(num) if j != i)
        right.append(jnp.where(free[i], gradient[i] - pulled, moved[i]))
        solid = free[i] & (rows[i][i] > 0)
        rows[i][i] = jnp.where(solid, rows[i][i] * (1 + fit.damping), 1.0)
    return [jnp.where(jnp.isfinite(s), s, 0.0) for s in solve_small(rows, right)]


def _step(fit: Fit, lower: Scalars, upper: Scalars) -> tuple[Scalars, jax.Array]:
    """Trial parameters inside the bounds, and the fall of chi2 that the quadratic model expects of them."""
    chi2, gradient, matrix = fit.normal
    num = len(gradient)
    room = [(low - p, high - p) for p, low, high in zip(fit.params, lower, upper, strict=True)]
    free = [
        ~(((low >= 0) & (g <= 0)) | ((high <= 0) & (g >= 0))) for (low, high), g in zip(room, gradient, strict=True)
    ]
    step = _solve(fit, free, [jnp.zeros_like(chi2)] * num)
    # Where the step leaves the box, its parameters stop at the wall and the others are solved for again.
    inside = [(s >= low) & (s <= high) for s, (low, high) in zip(step, room, strict=True)]
    stopped = [jnp.where(i, 0.0, jnp.clip(s, *r)) for i, s, r in zip(inside, step, room, strict=True)]
    step = _solve(fit, [f & i for f, i in zip(free, inside, strict=True)], stopped)
    moved = [jnp.clip(s, *r) for s, r in zip(step, room, strict=True)]
    expected = jnp.zeros_like(chi2)
    for i in range(num):
        curve = sum((matrix[max(i, j)][min(i, j)] * moved[j] for j in range(num)), jnp.zeros_like(chi2))
        expected = expected + moved[i] * (2 * gradient[i] - curve)
    trial = [jnp.clip(p + m, low, high) for p, m, low, high in zip(fit.params, moved, lower, upper, strict=True)]
    return tuple(trial), expected


def minimise(
    model: Model,
    start: Scalars,
    lower: Scalars,
    upper: Scalars,
    data: Data,
    iterations: int | jax.Array,
    damping: jax.Array | float = FIRST_DAMPING,
    tolerance: float = TOLERANCE,
) -> Fit:
    """Levenberg-Marquardt on one example: exactly `iterations` steps, no branch, nothing raises.

    Args:
        model: see `Model`; `forward` makes one from a plain function.
        start: K scalars.
        lower: K scalars; bounds, which `start` is moved into.
        upper: K scalars; where equal to `lower` the parameter is pinned.
        data: (P,) arrays of one example.
        iterations: steps, each one pass over the pixels; one more pass precedes them. 0 = judge `start` alone.
        damping: () to begin with; that of an earlier `Fit` to go on with it.
        tolerance: converged once a step is expected to lower chi2 by less.

    Returns:
        `Fit` at the lowest chi2 seen. Precision is that of `start` and `data`.
    """
    start = tuple(jnp.clip(p, low, high) for p, low, high in zip(start, lower, upper, strict=True))
    zero = jnp.zeros_like(start[0])
    nothing = Normal(zero, (zero,) * len(start), tuple((zero,) * (i + 1) for i in range(len(start))))
    first = Fit(start, nothing, zero + damping, zero > 0), start, zero

    def iterate(i, state):
        """Judge the trial, take the next step: the first trial is the start, so that all of this is compiled once."""
        fit, trial, expected = state
        normal = normal_equations(model, trial, data)
        gained = fit.normal.chi2 - normal.chi2
        better = (gained >= 0) | (i == 0)  # False where the trial is not finite
        gain = gained / jnp.maximum(expected, 1e-30)
        factor = jnp.where(gain > GOOD_GAIN, EASE, jnp.where(gain < POOR_GAIN, STIFFEN, 1.0))
        damping = jnp.clip(fit.damping * jnp.where(better, factor, STIFFEN), LOWEST_DAMPING, HIGHEST_DAMPING)
        damping = jnp.where(i == 0, fit.damping, damping)
        params, normal = jax.tree.map(lambda new, old: jnp.where(better, new, old), (trial, normal), fit[:2])
        fit = Fit(params, normal, damping, fit.converged)
        trial, expected = _step(fit, lower, upper)
        # A damped step gains about 1 + damping times less than the full one would. The last step is not taken.
        done = (i < jnp.maximum(iterations, 1)) & (expected * (1 + damping) < tolerance)
        return fit._replace(converged=fit.converged | done), trial, expected

    return jax.lax.fori_loop(0, iterations + 1, iterate, first)[0]


def covariance(normal: Normal) -> tuple[Scalars, ...]:
    """Inverse of the normal matrix, K rows of K scalars: no parameter held, whether at a bound or not.

    Take it in float64. A parameter on which the data have no bearing gets an infinite variance.
    """
    num = len(normal.gradient)
    blind = [normal.matrix[i][i] <= 0 for i in range(num)]
    scale = [jnp.where(blind[i], 0.0, 1 / jnp.sqrt(jnp.where(blind[i], 1.0, normal.matrix[i][i]))) for i in range(num)]
    rows = [[normal.matrix[i][j] * scale[i] * scale[j] for j in range(i + 1)] for i in range(num)]
    one, zero = jnp.ones_like(scale[0]), jnp.zeros_like(scale[0])
    for i in range(num):
        rows[i][i] = one + 1e-12
    inverse = []
    for i in range(num):
        column = solve_small(rows, [one if j == i else zero for j in range(num)])
        row = [column[j] * scale[i] * scale[j] for j in range(num)]
        row[i] = jnp.where(blind[i], jnp.inf, row[i])
        inverse.append(tuple(row))
    return tuple(inverse)


def bias(model: Model, params: Scalars, data: Data, spread: tuple[Scalars, ...]) -> Scalars:
    """Bias of the least-squares parameters to second order in the noise (Box 1971, J. R. Statist. Soc. B 33, 171).

    -1/2 C sum_p ivar_p J_p trace(H_p C), with H_p the second derivatives of the model in pixel p. Subtract it.

    Args:
        model: as fitted; differentiable once more.
        params: K scalars, the solution.
        data: (P,) arrays of one example.
        spread: their covariance C.
    """
    num = len(params)
    units = [tuple(jnp.full_like(p, i == j) for j, p in enumerate(params)) for i in range(num)]

    def add(total, pixel):
        x, _, ivar = pixel

        def slopes(p):
            return model(p)(x)[1]

        trace = jnp.zeros_like(x)
        for i in range(num):
            row = jax.jvp(slopes, (params,), (units[i],))[1]
            trace = trace + sum(h * c for h, c in zip(row, spread[i], strict=True))
        slope = slopes(params)
        return tuple(t + ivar * trace * s for t, s in zip(total, slope, strict=True)), None

    pull = jax.lax.scan(add, (jnp.zeros_like(params[0]),) * num, tuple(data))[0]
    zero = jnp.zeros_like(params[0])
    return tuple(-0.5 * sum((c * p for c, p in zip(row, pull, strict=True)), zero) for row in spread)
