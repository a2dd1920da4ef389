"""1x1 and 3x3 convolutions of images, maxima, and their gradients, in forms that CPUs are fast at.

A 1x1 convolution is a product of matrices. A 3x3 one is Winograd's with tiles (`winograd`), F(2x2, 3x3) of Lavin & Gray
(2016, CVPR, 4013), which takes 16 products in place of 36: 2 x 2 pixels of the result come from 4 x 4 of the input, by
the equation of one dimension along both axes. Its gradients are of the same form, that of the kernel with tiles of 3 or
4 where they fill the image. In steps of 2, and for images of few pixels, it is a sum of products of matrices, one for
each pixel of the kernel, over the results for which that pixel is not in the zeros around: of 3 x 3 pixels, 49 of 81.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.models import winograd

TILE, TAPS = 2, 3
LARGE_TILES = (4, 3)  # of the kernel's gradient, the first that fills the image, else TILE
LEAST_CHANNELS = 32  # with fewer, the sums cost what the products save
LEAST_PIXELS = 4  # along either axis; below, much of the tiles is padding
PIECE_PIXELS = 2_304  # at most, of a sum over pieces of a batch
Pair = tuple[jax.Array, jax.Array]
Grid = Sequence[Sequence[Any]]  # arrays of one shape, by place along both axes


def conv_1x1(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x (N, H, W, C) times kernel (C, D): (N, H, W, D)."""
    # As rows already here, so that XLA lays down one array for the product and for the gradient's loop.
    rows = x.reshape(-1, x.shape[3])
    product = jax.lax.platform_dependent(rows, kernel, cpu=_multiply, default=jnp.matmul)
    return product.reshape(*x.shape[:3], kernel.shape[1])


def conv_3x3(x: jax.Array, kernel: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve x (N, H, W, C) with kernel (3, 3, C, D), one row of zeros around, in steps of `stride`: as `native`.

    On devices other than CPUs, and for few channels, it is that.
    """
    plain = functools.partial(native, stride=stride)
    if min(kernel.shape[2:]) < LEAST_CHANNELS:
        return plain(x, kernel)
    in_tiles = stride == 1 and min(x.shape[1:3]) >= LEAST_PIXELS
    products = _convolve if in_tiles else functools.partial(_by_pixels, stride=stride)
    return jax.lax.platform_dependent(x, kernel, cpu=products, default=plain)


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


def _by_pixels(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """As `native`, a product for each pixel of the kernel."""
    height, width = x.shape[1:3]

    def reach(pixel: int, size: int) -> tuple[slice, tuple[int, int]]:
        """The rows or columns of x that lie under a pixel of the kernel, and how many results before and after do not
        see one there."""
        before, results = -(min(pixel - 1, 0) // stride), -(-size // stride)
        number = min((size - pixel) // stride + 1, results) - before
        first = before * stride + pixel - 1
        return slice(first, first + (number - 1) * stride + 1, stride), (before, results - before - number)

    def product(i: int, j: int) -> jax.Array:
        (rows, tall), (columns, wide) = reach(i, height), reach(j, width)
        return jnp.pad(conv_1x1(x[:, rows, columns], kernel[i, j]), ((0, 0), tall, wide, (0, 0)))

    return functools.reduce(jnp.add, (product(i, j) for i in range(3) for j in range(3)))


@jax.custom_vjp
def _multiply(rows: jax.Array, kernel: jax.Array) -> jax.Array:
    return rows @ kernel


def _multiply_forward(rows: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Pair]:
    return rows @ kernel, (rows, kernel)


def _multiply_backward(saved: Pair, gradient: jax.Array) -> Pair:
    rows, kernel = saved
    # Laid down in memory: else XLA computes them anew, in a slow order, where it transposes them.
    rows, gradient = jax.lax.optimization_barrier((rows, gradient))
    return gradient @ kernel.T, _contract(rows, gradient)


_multiply.defvjp(_multiply_forward, _multiply_backward)


@jax.custom_vjp
def _convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _winograd(x, kernel, kernel_axis=0)


def _convolve_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Pair]:
    return _convolve(x, kernel), (x, kernel)


def _convolve_backward(saved: Pair, gradient: jax.Array) -> Pair:
    x, kernel = saved
    of_x = _winograd(gradient, kernel[::-1, ::-1], kernel_axis=1)
    return of_x, _sum_pieces(_of_kernel, x, gradient, PIECE_PIXELS // (x.shape[1] * x.shape[2]))


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _winograd(x: jax.Array, kernel: jax.Array, kernel_axis: int) -> jax.Array:
    """The convolution of x (N, H, W, C) with the kernel (3, 3, ...), whose axis of x's channels is kernel_axis + 2."""
    count, height, width, _ = x.shape
    change = winograd.transforms(TILE, TAPS)

    def multiply(pixels: jax.Array, weight: jax.Array) -> jax.Array:
        return jnp.tensordot(pixels, weight, (3, kernel_axis))

    pixels, weights = _along_both(change.of_pixels, _tiles(x, TILE)), _along_both(change.of_taps, kernel)
    products = _at_each(multiply, pixels, weights)
    even = jnp.stack([jnp.stack(row, axis=3) for row in _along_both(change.to_result, products)], axis=2)
    tall, _, wide, _, features = even.shape[1:]
    return even.reshape(count, TILE * tall, TILE * wide, features)[:, :height, :width]


def _of_kernel(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """Gradient of the kernel (3, 3, C, D) from x (N, H, W, C) and that of the result (N, H, W, D)."""
    tile = next((n for n in LARGE_TILES if x.shape[1] % n == x.shape[2] % n == 0), TILE)
    change = winograd.transforms(tile, TAPS)
    even = jnp.pad(gradient, ((0, 0), (0, -x.shape[1] % tile), (0, -x.shape[2] % tile), (0, 0)))
    results = [[even[:, i::tile, j::tile] for j in range(tile)] for i in range(tile)]
    pixels = _along_both(change.of_pixels, _tiles(x, tile))
    products = _at_each(_contract, pixels, _along_both(change.to_result.T, results))
    return jnp.stack([jnp.stack(row) for row in _along_both(change.of_taps.T, products)])


def _contract(x: jax.Array, gradient: jax.Array) -> jax.Array:
    """(..., C) and (..., D) -> (C, D), a sum over all the rest."""
    rows, others = x.reshape(-1, x.shape[-1]), gradient.reshape(-1, gradient.shape[-1])
    if rows.shape[1] <= others.shape[1]:
        return jnp.tensordot(rows, others, (0, 0))
    # XLA transposes the first operand: the narrower is the first, and a barrier keeps it from being put back.
    return jax.lax.optimization_barrier(jnp.tensordot(others, rows, (0, 0))).T


def _sum_pieces(run: Callable[..., jax.Array], x: jax.Array, gradient: jax.Array, most: int) -> jax.Array:
    """The sum of run(x, gradient) over pieces of `most` rows, or the most below that and half that fill the whole.

    A loop's operands are laid down in memory: else XLA computes them anew, in a slow order, where it transposes them.
    """
    size = next((n for n in range(min(most, len(x) // 2), 1, -1) if len(x) % n == 0), 1)

    def add(i: jax.Array, total: jax.Array) -> jax.Array:
        return total + run(*(jax.lax.dynamic_slice_in_dim(a, i * size, size) for a in (x, gradient)))

    sums = jax.eval_shape(run, x, gradient)
    return jax.lax.fori_loop(0, len(x) // size, add, jnp.zeros(sums.shape, sums.dtype))


def _tiles(x: jax.Array, tile: int) -> Grid:
    """The pixels under each tile of results: (N, ceil(H / tile), ceil(W / tile), C) for each of (tile + 2)^2 places."""
    tall, wide = -(-x.shape[1] // tile), -(-x.shape[2] // tile)
    zeros = ((0, 0), (1, tile * tall + 1 - x.shape[1]), (1, tile * wide + 1 - x.shape[2]), (0, 0))
    padded, places = jnp.pad(x, zeros), range(tile + 2)
    return [[padded[:, i : i + tile * tall : tile, j : j + tile * wide : tile] for j in places] for i in places]


def _along_both(matrix: np.ndarray, grid: Any) -> Grid:
    """The matrix's sums along either axis of a grid of arrays."""
    rows = [winograd.combine(matrix, list(row)) for row in grid]
    return list(zip(*(winograd.combine(matrix, column) for column in zip(*rows, strict=True)), strict=True))


def _at_each(multiply: Callable[..., jax.Array], one: Grid, other: Grid) -> Grid:
    return [[multiply(*pair) for pair in zip(*rows, strict=True)] for rows in zip(one, other, strict=True)]
