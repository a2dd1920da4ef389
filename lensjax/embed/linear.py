"""A linear classifier of embeddings, fitted to the whole sample at once, and how it ranks."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special


class Probe(NamedTuple):
    """logit = vectors @ weight + bias; weight (D,), bias () float32."""

    weight: np.ndarray
    bias: np.ndarray

    def logit(self, vectors: np.ndarray) -> np.ndarray:
        """(n,) of vectors (n, D)."""
        return np.asarray(vectors, np.float32) @ self.weight + self.bias


def probability(probes: list[Probe], vectors: np.ndarray) -> np.ndarray:
    """(n,) float64, the classifiers' mean probability of a lens, of vectors (n, D)."""
    return np.mean([special.expit(probe.logit(vectors).astype(np.float64)) for probe in probes], axis=0)


@functools.partial(jax.jit, static_argnames="iterations")
def _iterates(x: jax.Array, label: jax.Array, l2: float, iterations: int) -> tuple[jax.Array, jax.Array]:
    """Weights (I, D) and biases (I,) after each iteration of L-BFGS on the mean cross-entropy."""

    def loss(params: tuple[jax.Array, jax.Array]) -> jax.Array:
        weight, bias = params
        entropy = optax.losses.sigmoid_binary_cross_entropy(x @ weight + bias, label)
        return entropy.mean() + 0.5 * l2 * jnp.sum(jnp.square(weight))

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry, _):
        params, state = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = solver.update(grad, state, params, value=value, grad=grad, value_fn=loss)
        params: Any = optax.apply_updates(params, updates)
        return (params, state), params

    start = jnp.zeros(x.shape[1]), jnp.zeros(())
    return jax.lax.scan(step, (start, solver.init(start)), None, length=iterations)[1]


def fit(vectors: np.ndarray, label: np.ndarray, iterations: int, l2: float = 0.0) -> list[Probe]:
    """Classifiers after each iteration, of vectors (n, D) and label (n,) 1 or 0; those that are not finite left out.

    The vectors are brought to mean 0 and scatter 1 for the fit (and `l2` acts on these); the classifiers take them raw.
    """
    vectors = np.asarray(vectors, np.float32)
    centre, scatter = vectors.mean(0), np.maximum(vectors.std(0), 1e-6)
    found = _iterates((vectors - centre) / scatter, np.asarray(label, np.float32), l2, iterations)
    weights, biases = (np.asarray(x) for x in found)
    weights = weights / scatter
    probes = [Probe(w, np.asarray(b - centre @ w, np.float32)) for w, b in zip(weights, biases, strict=True)]
    return [probe for probe in probes if np.isfinite(probe.weight).all() and np.isfinite(probe.bias)]


def select(probes: list[Probe], vectors: np.ndarray, label: np.ndarray, top: int) -> tuple[int, Probe]:
    """(number, the classifier) with the most lenses in the `top` of a validation set; the first of equals.

    Stein et al. (2022), section 3.3.2. vectors (n, D), label (n,).
    """
    logits = np.asarray(vectors, np.float32) @ np.stack([p.weight for p in probes], 1)
    found = [true_positives(logits[:, i], label, top) for i in range(len(probes))]
    best = int(np.argmax(found))
    return best, probes[best]


def true_positives(score: np.ndarray, label: np.ndarray, top: int) -> int:
    """Lenses among the `top` highest scores (n,); of equal scores the earlier counts first."""
    return int((np.asarray(label)[np.argsort(-score, kind="stable")[:top]] > 0.5).sum())


def inspected_curve(score: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(number inspected (n,), completeness (n,)) going down the ranking: Figure 5 of Stein et al. (2022)."""
    found = np.cumsum(np.asarray(label)[np.argsort(-score, kind="stable")] > 0.5)
    return np.arange(1, len(found) + 1), found / max(int(found[-1]), 1)


class Split(NamedTuple):
    """Rows of the objects' table: of training, and of validation."""

    train: np.ndarray
    valid: np.ndarray


def split(
    label: np.ndarray, ratio: float, valid_ratio: float, fraction: float, seed: int, place: np.ndarray | None = None
) -> Split:
    """A random split of label (N,): 1 lens, 0 not, anything else left out.

    `fraction` of each class is for validation. Of the non-lenses, training gets at most `ratio` times its lenses and
    validation `valid_ratio` times its own, infinity being all there are; splits of one seed differ in nothing else.
    place (N,), whole numbers: what has the same is on one side, as a galaxy with and without an arc; None: all differ.
    """
    place = np.arange(len(label)) if place is None else place
    rng = np.random.default_rng(seed)
    lenses, others = (rng.permutation(np.flatnonzero(label == value)) for value in (1, 0))
    held = _held_out(place[lenses], place[others], fraction)
    train, valid = ([rows[np.isin(place[rows], held) == side] for rows in (lenses, others)] for side in (False, True))
    kept = [train[1][: _most(ratio, train)], valid[1][: _most(valid_ratio, valid)]]
    return Split(np.concatenate([train[0], kept[0]]), np.concatenate([valid[0], kept[1]]))


def _held_out(lenses: np.ndarray, others: np.ndarray, fraction: float) -> np.ndarray:
    """Places for validation: `fraction` of the lenses' places, and of the others', the first ones of either.

    Others where lenses are go with these.
    """
    spots, free = (rows[np.sort(np.unique(rows, return_index=True)[1])] for rows in (lenses, others))
    cut, border = (max(round(fraction * len(rows)), 1) for rows in (spots, free))
    held = spots[:cut]
    border -= int(np.isin(free, held).sum())
    return np.concatenate([held, free[~np.isin(free, spots)][: max(border, 0)]])


def _most(ratio: float, sides: list[np.ndarray]) -> int:
    """How many of the non-lenses there may be: `ratio` times the lenses, of [lenses, non-lenses]."""
    return round(min(ratio * len(sides[0]), len(sides[1])))
