"""Convolutions with fewer products: the minimal filtering of Winograd (1980), after Lavin & Gray (2016, CVPR, 4013).

`tile` neighbouring pixels y of a result come from tile + taps - 1 pixels d of the input and a kernel g of `taps`:

    y = A^T ((G g) * (B^T d))

takes tile + taps - 1 products where the sum over the taps takes tile * taps. With channels, each product is one of
matrices, (pixels, channels) with (channels, features). The rows of B^T, G and A evaluate polynomials at as many points,
the last of which is infinity (Toom & Cook). Results differ from a plain convolution's by some 1e-5 of their scatter.
"""

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity; with more of them float32 rounds too much
TILE = 4  # of a spectrum
LEAST_CHANNELS, LEAST_CHANNELS_IN_TRAINING = 32, 64  # with fewer, the sums cost what the products save


class Transforms(NamedTuple):
    """B^T (tile + taps - 1, tile + taps - 1), G (tile + taps - 1, taps) and A^T (tile, tile + taps - 1)."""

    of_pixels: np.ndarray
    of_taps: np.ndarray
    to_result: np.ndarray


@functools.cache
def transforms(tile: int, taps: int) -> Transforms:
    """Those of the module's equation. ValueError if tile + taps - 1 is more than 8."""
    points = POINTS[: tile + taps - 2]
    if len(points) < tile + taps - 2:
        raise ValueError(f"tile {tile} + taps {taps} - 1 is more than {len(POINTS) + 1}")

    def powers(number: int) -> np.ndarray:
        at_infinity = [0.0] * (number - 1) + [1.0]
        return np.array([[point**k for k in range(number)] for point in points] + [at_infinity])

    # Any row of B^T may be scaled if that of G is divided by as much; these scales make B^T of integer points integer.
    scale = np.array([math.prod(p - q for q in points if q != p) for p in points] + [1.0])
    of_pixels = np.linalg.inv(powers(tile + taps - 1)).T * scale[:, None]
    return Transforms(np.round(of_pixels * 4) / 4, powers(taps) / scale[:, None], powers(tile).T)  # they are quarters


def combine(matrix: np.ndarray, arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """matrix (I, J) times J arrays of one shape: I sums, without the terms that are zero."""

    def add(row: np.ndarray) -> jax.Array:
        terms = [x if c == 1 else -x if c == -1 else float(c) * x for c, x in zip(row, arrays, strict=True) if c]
        return functools.reduce(jnp.add, terms)

    return [add(row) for row in matrix]


def serves(x: jax.Array, kernel: jax.Array, least: int) -> bool:
    """Whether `conv_1d` can take x (N, P, C) and kernel (K, C, D), and they have `least` channels for it to be fast."""
    taps, *channels = kernel.shape
    enough = x.shape[1] >= 2 * TILE and min(channels) >= least
    return x.dtype == jnp.float32 and enough and 1 < taps <= len(POINTS) + 2 - TILE


def conv_1d(x: jax.Array, kernel: jax.Array, padding: str = "SAME") -> jax.Array:
    """As `layers.conv_1d` in steps of one: x (N, P, C), kernel (K, C, D), K - 1 <= 8 - TILE: (N, Q, D)."""
    (count, pixels, width), taps = x.shape, len(kernel)
    change = transforms(TILE, taps)
    low = (taps - 1) // 2 if padding == "SAME" else 0
    out = pixels if padding == "SAME" else pixels - taps + 1
    tiles = -(-out // TILE)
    reach = tiles - (1 - taps) // TILE  # of the input's pixels, in tiles
    # Laid down once: else XLA computes what x is made of anew for each of the sums.
    x = jax.lax.optimization_barrier(x)
    padded = jnp.pad(x, ((0, 0), (low, max(reach * TILE - low - pixels, 0)), (0, 0)))[:, : reach * TILE]
    folded = padded.reshape(count, reach, TILE, width)
    under = [folded[:, i // TILE : i // TILE + tiles, i % TILE] for i in range(TILE + taps - 1)]
    rows = [x.reshape(-1, width) for x in combine(change.of_pixels, under)]
    products = [a @ b for a, b in zip(rows, combine(change.of_taps, list(kernel)), strict=True)]
    result = jnp.stack(combine(change.to_result, products), axis=1)
    return result.reshape(count, tiles * TILE, -1)[:, :out]
