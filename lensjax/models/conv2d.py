"""1x1 and 3x3 convolutions of images, maxima, and their gradients, in forms that CPUs are fast at.

A 1x1 convolution is a product of matrices. A 3x3 one is Winograd's with tiles (`winograd`), F(2x2, 3x3) of Lavin & Gray
(2016, CVPR, 4013), which takes 16 products in place of 36: 2 x 2 pixels of the result come from 4 x 4 of the input, by
the equation of one dimension along both axes. Its gradients are of the same form.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.models import winograd

TILES = winograd.transforms(tile=2, taps=3)
LEAST_CHANNELS = 32  # with fewer, the sums cost what the products save
LEAST_PIXELS = 4  # along either axis; below, much of the tiles is padding
PIECE_PIXELS = 9_216  # at most, of a sum over pieces of a batch
Pair = tuple[jax.Array, jax.Array]
Grid = Sequence[Sequence[Any]]  # arrays of one shape, by place along both axes


def conv_1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x (N, H, W, C) times kernel (C, D): (N, H, W, D)."""
    # As rows already here, so that XLA lays down one array for the product and for the gradient's loop.
    rows = x.reshape(-1, x.shape[3])
    return jax.lax.platform_dependent(rows, kernel, cpu=_multiply, default=jnp.matmul).reshape(*x.shape[:3], -1)


def conv_3x3(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolve x (N, H, W, C) with kernel (3, 3, C, D), one row of zeros around: (N, H, W, D).

    On devices other than CPUs, for few channels and for images of few pixels, this is XLA's own convolution.
    """
    if min(kernel.shape[2:]) < LEAST_CHANNELS or min(x.shape[1:3]) < LEAST_PIXELS:
        return native(x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=_convolve, default=native)


def native(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """XLA's convolution of x (N, H, W, C) with kernel (K, K, C, D), K // 2 zeros around, in steps of `stride`."""
    around, layout = len(kernel) // 2, ("NHWC", "HWIO", "NHWC")
    pads = [(around, around)] * 2
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=layout)


def max_pool(x: jax.Array, axis: int) -> jax.Array:
    """Maximum over 3 pixels of x (N, H, W, C) along axis 1 or 2, around every other one, ceil(H / 2) or ceil(W / 2).

    Plain maxima, with whose gradient CPUs are ten times faster than with that of XLA's windows.
    """
    low = jnp.array(-jnp.inf, x.dtype)
    even = jax.lax.pad(x, low, [(0, x.shape[axis] % 2 if i == axis else 0, 0) for i in range(4)])
    pairs = even.reshape(*x.shape[:axis], -1, 2, *x.shape[axis + 1 :])
    first, second = jnp.unstack(pairs, axis=axis + 1)
    before = jax.lax.pad(second, low, [(1, -1, 0) if i == axis else (0, 0, 0) for i in range(4)])
    return jnp.maximum(jnp.maximum(first, second), before)


@jax.custom_vjp
def _multiply(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    return rows @ kernel


def _multiply_forward(rows: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Pair]:
    return rows @ kernel, (rows, kernel)


def _multiply_backward(saved: Pair, gradient: jax.Array) -> Pair:
    rows, kernel = saved
    return gradient @ kernel.T, _sum_pieces(_contract, rows, gradient, PIECE_PIXELS)


_multiply.defvjp(_multiply_forward, _multiply_backward)


@jax.custom_vjp
def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _winograd(x, _along_both(TILES.of_taps, kernel), kernel_axis=0)


def _convolve_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Pair]:
    return _convolve(x, kernel), (x, kernel)


def _convolve_backward(saved: Pair, gradient: jax.Array) -> Pair:
    x, kernel = saved
    of_x = _winograd(gradient, _along_both(TILES.of_taps, kernel[::-1, ::-1]), kernel_axis=1)
    return of_x, _sum_pieces(_of_kernel, x, gradient, PIECE_PIXELS // (x.shape[1] * x.shape[2]))


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _winograd(x: jax.Array, weights: Grid, kernel_axis: int) -> jax.Array:
    """The convolution of x (N, H, W, C) with weights of the 16 places; kernel_axis is that of x's channels in them."""
    count, height, width, _ = x.shape

    def multiply(pixels: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.tensordot(pixels, weight, (3, kernel_axis))

    products = _at_each(multiply, _along_both(TILES.of_pixels, _tiles(x)), weights)
    even = jnp.stack([jnp.stack(row, axis=3) for row in _along_both(TILES.to_result, products)], axis=2)
    tall, _, wide, _, features = even.shape[1:]
    return even.reshape(count, 2 * tall, 2 * wide, features)[:, :height, :width]


def _of_kernel(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Gradient of the kernel (3, 3, C, D) from x (N, H, W, C) and that of the result (N, H, W, D)."""
    even = jnp.pad(gradient, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)))
    pairs = [[even[:, i::2, j::2] for j in range(2)] for i in range(2)]
    products = _at_each(_contract, _along_both(TILES.of_pixels, _tiles(x)), _along_both(TILES.to_result.T, pairs))
    return jnp.stack([jnp.stack(row) for row in _along_both(TILES.of_taps.T, products)])


def _contract(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """(..., C) and (..., D) -> (C, D), a sum over all the rest."""
    rest = tuple(range(x.ndim - 1))
    return jnp.tensordot(x, gradient, (rest, rest))


def _sum_pieces(run: Callable[..., jax.Array], x: jax.Array, gradient: jax.Array, most: int) -> jax.Array:
    """The sum of run(x, gradient) over pieces of `most` rows, or the most below that and half that fill the whole.

    A loop's operands are laid down in memory: else XLA computes them anew, in a slow order, where it transposes them.
    """
    size = next((n for n in range(min(most, len(x) // 2), 1, -1) if len(x) % n == 0), 1)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        return total + run(*(jax.lax.dynamic_slice_in_dim(a, i * size, size) for a in (x, gradient)))

    sums = jax.eval_shape(run, x, gradient)
    return jax.lax.fori_loop(0, len(x) // size, add, jnp.zeros(sums.shape, sums.dtype))


def _tiles(x: jax.Array) -> Grid:
    """The 4 x 4 pixels under each tile of 2 x 2 results: (N, ceil(H / 2), ceil(W / 2), C) for each of the 16 places."""
    tall, wide = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
    zeros = ((0, 0), (1, 2 * tall + 1 - x.shape[1]), (1, 2 * wide + 1 - x.shape[2]), (0, 0))
    padded = jnp.pad(x, zeros)
    return [[padded[:, i : i + 2 * tall : 2, j : j + 2 * wide : 2] for j in range(4)] for i in range(4)]


def _along_both(matrix: np.ndarray, grid: Any) -> Grid:
    """The matrix's sums along either axis of a grid of arrays."""
    rows = [winograd.combine(matrix, list(row)) for row in grid]
    return list(zip(*(winograd.combine(matrix, column) for column in zip(*rows, strict=True)), strict=True))


def _at_each(multiply: Callable[..., jax.Array], one: Grid, other: Grid) -> Grid:
    return [[multiply(*pair) for pair in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)]
