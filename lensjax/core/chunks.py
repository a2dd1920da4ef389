"""A batch in chunks of rows, one after another, so that what a network computes of them stays in the CPU's cache."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lensjax.core.sharding import on_each_device, sharing

Rows = dict[str, jax.Array]  # (N, ...) each
Loss = Callable[[Any, Rows, jax.Array], tuple[jax.Array, Any]]


def on_cpu(chunk: int) -> int:
    """chunk where JAX's default devices are CPUs, else 0: others are fastest with all rows at once."""
    return chunk if jax.default_backend() == "cpu" else 0


def map_chunks(run: Callable[[Any], Any], batch: Rows, chunk: int) -> Any:
    """run(batch) in pieces of `chunk` rows, one after another.

    run must treat rows independently. chunk 0, or one not below the batch's rows, is one piece. A last piece that is
    short is padded with copies of the first rows.
    """
    size = next(iter(batch.values())).shape[0]
    if chunk == 0 or chunk >= size:
        return run(batch)
    pieces = -(-size // chunk)
    rows = jnp.arange(pieces * chunk) % size

    def fold(x: jax.Array) -> jax.Array:
        x = x if len(rows) == size else x[rows]
        return x.reshape(pieces, chunk, *x.shape[1:])

    out = jax.lax.map(run, jax.tree.map(fold, batch))
    return jax.tree.map(lambda x: x.reshape(pieces * chunk, *x.shape[2:])[:size], out)


def mean_chunks(loss: Loss, chunk: int) -> Loss:
    """The mean of loss(params, rows, key) -> (scalar, dict of scalars) over pieces of the N rows, as such a function.

    The gradient by params is taken piece by piece, together with the loss, so that no more than the activations of one
    piece are kept; there is none by rows, and none of second order. Each piece has a key of its own, and `chunk` rows,
    or the most below that of which a whole number fills the batch. chunk 0, or one not below the batch's rows, is
    `loss` itself. Devices that share the batch go through pieces of their own; where those cannot be shared evenly, all
    are taken at once.
    """

    def run(params: Any, rows: Rows, key: jax.Array) -> tuple[jax.Array, Any]:
        size = next(iter(rows.values())).shape[0]
        pieces = next((n for n in range(1, size + 1) if size % n == 0 and size // n <= chunk), 1)
        if pieces == 1:
            return loss(params, rows, key)
        folded = {name: x.reshape(pieces, size // pieces, *x.shape[1:]) for name, x in rows.items()}
        return _mean(loss, params, folded, jax.random.split(key, pieces))

    return run


def _mean(loss: Loss, params: Any, pieces: Rows, keys: jax.Array) -> tuple[jax.Array, Any]:
    """Mean of loss(params, piece, key) over the leading axis of pieces and keys; its gradient waits for the caller."""
    if len(keys) % sharing():
        every = jax.vmap(loss, in_axes=(None, 0, 0))(params, pieces, keys)
        return jax.tree.map(lambda x: x.mean(axis=0), every)

    def total(run: Callable[..., Any], params: Any) -> Any:
        def of_device(params: Any, share: tuple[Rows, jax.Array]) -> tuple[tuple[()], Any]:
            def add(sums: Any, piece: tuple[Rows, jax.Array]) -> tuple[Any, None]:
                return jax.tree.map(jnp.add, sums, run(params, *piece)), None

            like = jax.eval_shape(run, params, *jax.tree.map(lambda x: x[0], share))
            zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
            sums, _ = jax.lax.scan(add, zeros, share)
            return (), jax.tree.map(lambda x: x / len(share[1]), sums)

        return on_each_device(of_device, params, (pieces, keys))[1]

    @jax.custom_vjp
    def mean(params: Any) -> tuple[jax.Array, Any]:
        return total(loss, params)

    def forward(params: Any) -> tuple[tuple[jax.Array, Any], Any]:
        return total(jax.value_and_grad(loss, has_aux=True), params)

    def backward(gradient: Any, cotangent: tuple[jax.Array, Any]) -> tuple[Any]:
        return (jax.tree.map(lambda x: x * cotangent[0], gradient),)

    mean.defvjp(forward, backward)
    return mean(params)
