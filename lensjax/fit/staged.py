"""Many fits at once, on the host: cheap steps for all, more for those that need them, float64 for the last.

float32 is enough to walk to the minimum, but not to invert a normal matrix: a good half per cent of the errors would
be NaN. So every fit takes its last step, and gets its covariance, in float64, which is switched on for these calls
alone; those that are not done by then go on in float64.
"""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import levenberg
from lensjax.fit.levenberg import Data, Model, Scalars

CHUNK = 2000  # examples of one call: their running sums stay in the cache
SIZES = (64, 500)  # of the calls with less to do
WORKERS = 2  # threads; XLA leaves the interpreter free
ROUNDS = (5, 4, 6, 12)  # steps in float32: for all, then for those left, for those left still, ...
DUEL = 3  # rounds after which a fit and its second start are compared, and one of them goes on
PRECISE_ROUNDS = (0, 10, 40)  # the same in float64
CONVERGED, AT_BOUND, UNCONVERGED, NO_DATA = 0, 1, 2, 3


class Problem(NamedTuple):
    """What is fitted to every example; hashable, so that it is compiled once.

    Attributes:
        model: see `levenberg.Model`.
        start: `start(data)` -> K scalars.
        lower: K floats; equal to `upper` where a parameter is pinned.
        upper: K floats.
        x: P floats, the abscissa that all share.
        second: `second(data)` -> K scalars, and whether to fit from there too and keep the better; None = never.
    """

    model: Model
    start: Callable[[Data], Scalars]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    x: tuple[float, ...]
    second: Callable[[Data], tuple[Scalars, jax.Array]] | None = None


class Solution(NamedTuple):
    """Of N fits, float64: params (K, N), covariance (K, K, N), information (K, K, N) its inverse, chi2 (N,), dof (N,)
    int, status (N,) int: 0 converged, 1 converged with a parameter at a bound, 2 not converged (parameters are the
    best seen), 3 fewer good pixels than parameters, or none that bear on one (its error is infinite).
    """

    params: np.ndarray
    covariance: np.ndarray
    information: np.ndarray
    chi2: np.ndarray
    dof: np.ndarray
    status: np.ndarray


def batched(one: Callable) -> Callable:
    """One example -> many, batch last, compiled."""
    return jax.jit(jax.vmap(one, in_axes=-1, out_axes=-1))


def fill(values: tuple[float, ...], like: jax.Array) -> Scalars:
    """Floats as scalars of the type of `like`."""
    return tuple(jnp.asarray(value, like.dtype) for value in values)


@functools.cache
def _first(model: Model, start: Callable[[Data], Scalars], second: Callable | None) -> Callable:
    """(y, ivar, x, lower, upper) -> params (K, N), damping, converged, chi2 (N,): the start, and the first round;
    then, where there is a `second` start, its parameters (K, N) and whether it is wanted (N,).
    """

    def one(y, ivar, x, lower, upper):
        data = Data(x, y, ivar)
        fit = levenberg.minimise(model, start(data), tuple(lower), tuple(upper), data, ROUNDS[0])
        stands = jnp.stack(fit.params), fit.damping, fit.converged, fit.normal.chi2
        if second is None:
            return stands
        other, wanted = second(data)
        return (*stands, jnp.stack(other), wanted)

    return jax.jit(jax.vmap(one, in_axes=(-1, -1, None, None, None), out_axes=-1))


@functools.cache
def _further(model: Model, inverse: bool) -> Callable:
    """(params, damping, y, ivar, x, lower, upper, iterations) -> params, damping, converged, chi2 of one more round;
    then, where `inverse` is set, covariance and information (K, K, N). Compiled once for any number of steps and any
    bounds.
    """

    def one(params, damping, y, ivar, x, lower, upper, iterations):
        data = Data(x, y, ivar)
        fit = levenberg.minimise(model, tuple(params), tuple(lower), tuple(upper), data, iterations, damping)
        stands = jnp.stack(fit.params), fit.damping, fit.converged, fit.normal.chi2
        return (*stands, *_inverse(fit.normal)) if inverse else stands

    return jax.jit(jax.vmap(one, in_axes=(-1,) * 4 + (None,) * 4, out_axes=-1))


def _inverse(normal: levenberg.Normal) -> tuple[jax.Array, jax.Array]:
    """Covariance (K, K) and its inverse."""
    spread = jnp.stack([jnp.stack(row) for row in levenberg.covariance(normal)])
    places = range(len(normal.gradient))
    rows = [[normal.matrix[max(i, j)][min(i, j)] for j in places] for i in places]
    return spread, jnp.stack([jnp.stack(row) for row in rows])


def in_chunks(
    function: Callable, arrays: tuple[np.ndarray, ...], pick: np.ndarray | None = None, double=False, shared: tuple = ()
) -> list:
    """`function` over the last axis of `arrays`, or over the places `pick` of it: host arrays, joined.

    Calls have CHUNK examples, or one of SIZES if it holds one worker's share, so that few shapes are
    compiled. What is in `shared` follows the arrays, floats as arrays, integers as they are.
    """
    pick = np.arange(arrays[0].shape[-1]) if pick is None else pick
    share = -(-len(pick) // WORKERS)
    size = next((s for s in SIZES if s >= share), CHUNK)
    dtype = np.float64 if double else np.float32

    cast = [a if isinstance(a, int) else np.asarray(a, dtype) for a in shared]

    def call(first: int) -> list[np.ndarray]:
        places = pick[np.minimum(np.arange(first, first + size), len(pick) - 1)]
        with jax.enable_x64(double):
            results = function(*(np.take(a, places, axis=-1).astype(dtype) for a in arrays), *cast)
            return [np.asarray(r)[..., : len(pick) - first] for r in jax.tree.leaves(results)]

    if len(pick) == 0:
        with jax.enable_x64(double):
            shapes = jax.eval_shape(function, *(jax.ShapeDtypeStruct((*a.shape[:-1], 0), dtype) for a in arrays), *cast)
        return [np.zeros(s.shape, s.dtype) for s in jax.tree.leaves(shapes)]
    with ThreadPoolExecutor(WORKERS) as pool:
        parts = list(pool.map(call, range(0, len(pick), size)))
    return [np.concatenate(p, axis=-1) for p in zip(*parts, strict=True)]


def solve(problem: Problem, y: np.ndarray, ivar: np.ndarray) -> Solution:
    """Fit every example.

    Args:
        problem: the model, its start, its bounds, the abscissa (P,).
        y: (P, N) data, batch last.
        ivar: (P, N) inverse variances; 0 = not fitted.
    """
    y, ivar = np.ascontiguousarray(y, np.float32), np.ascontiguousarray(ivar, np.float32)
    shared = (problem.x, problem.lower, problem.upper)
    stands = in_chunks(_first(problem.model, problem.start, problem.second), (y, ivar), shared=shared)
    walk, precise = _further(problem.model, inverse=False), _further(problem.model, inverse=True)
    if problem.second:
        *stands, second, wanted = stands
        stands = _duel(stands, second, np.flatnonzero(wanted), walk, y, ivar, shared)
    for iterations in ROUNDS[DUEL if problem.second else 1 :]:
        _go_on(stands, walk, y, ivar, False, (*shared, iterations))
    stands = in_chunks(precise, (stands[0], stands[1], y, ivar), double=True, shared=(*shared, PRECISE_ROUNDS[0]))
    for iterations in PRECISE_ROUNDS[1:]:
        _go_on(stands, precise, y, ivar, True, (*shared, iterations))
    params, _, done, chi2, spread, information = stands
    dof = (ivar > 0).sum(0) - len(params)
    return Solution(params, spread, information, chi2, dof, _status(problem, params, done, spread, dof))


def _duel(stands: list, second: np.ndarray, again: np.ndarray, walk: Callable, y, ivar, shared: tuple) -> list:
    """The fits after DUEL rounds: where `second` (K, N) was tried, at the places `again`, the better of the two."""
    fresh = np.full(len(again), levenberg.FIRST_DAMPING), np.zeros(len(again), bool), np.full(len(again), np.inf)
    both = [np.concatenate(pair, axis=-1) for pair in zip(stands, (second[:, again], *fresh), strict=True)]
    y, ivar = (np.concatenate([a, a[:, again]], axis=-1) for a in (y, ivar))
    for iterations in ROUNDS[1:DUEL]:
        _go_on(both, walk, y, ivar, False, (*shared, iterations))
    num = stands[0].shape[-1]
    best, better = np.arange(num), both[3][num:] < both[3][again]
    best[again[better]] = num + np.flatnonzero(better)
    return [a[..., best] for a in both]


def _go_on(
    stands: list[np.ndarray], further: Callable, y: np.ndarray, ivar: np.ndarray, double: bool, shared: tuple
) -> None:
    """Another round, in place, for the fits that have not converged."""
    left = np.flatnonzero(~stands[2])
    if len(left):
        parts = in_chunks(further, (stands[0], stands[1], y, ivar), left, double, shared)
        for whole, part in zip(stands, parts, strict=True):
            whole[..., left] = part


def _status(problem: Problem, params, done, spread, dof) -> np.ndarray:
    lower, upper = np.array(problem.lower)[:, None], np.array(problem.upper)[:, None]
    edge = 1e-6 * (upper - lower)
    stuck = (((params <= lower + edge) | (params >= upper - edge)) & (upper > lower)).any(0)
    status = np.where(done, np.where(stuck, AT_BOUND, CONVERGED), UNCONVERGED)
    blind = ~np.isfinite(np.diagonal(spread)).all(-1)
    return np.where((dof < 0) | blind, NO_DATA, status)
