"""Exact nearest neighbours by cosine among objects of like magnitude: products of tiles along the diagonal of a band.

Objects are sorted by magnitude, so that those within the window of any of them are consecutive. Tiles of the matrix of
similarities are computed one at a time; an entry is kept where it exceeds its row's threshold, estimated from a sample
so that a little more than k entries do. Where all objects are queries, each tile also serves as its transpose. Rows
that end with too few entries are searched again in full, so the result is exact whatever the sample said.

The products are JAX's, dispatched ahead, so that the device computes while numpy picks entries from the last one.
"""

import collections
import functools
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

TILE = 1024  # rows of a product, and of what is held together
AHEAD = 2  # products that the device works on beyond the one in hand
ALIGNED = 64  # bytes
SLACK = 3.0  # standard deviations by which the sample's rank is lowered: fewer rows are searched again


class Sorted(NamedTuple):
    """Unit vectors (N, D) float32 in order of magnitude, memory-mapped or not, and where each one's window is.

    Neighbours of row i are the rows low[i] to high[i] - 1 but i itself.
    """

    unit: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Found(NamedTuple):
    """The neighbours of some rows, best first: rows (n, k) int32 of the sorted vectors, -1 where there are fewer, and
    their cosines (n, k) float32, -inf there."""

    rows: np.ndarray
    similarity: np.ndarray


def empty_vectors(shape: tuple[int, int]) -> np.ndarray:
    """Room for vectors (N, D) float32 at a multiple of ALIGNED bytes, where a CPU multiplies them without a copy."""
    room = np.empty(4 * math.prod(shape) + ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED
    return room[start : start + 4 * math.prod(shape)].view(np.float32).reshape(shape)


def windows(mag: np.ndarray, window: float) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of sorted magnitudes (N,) and a window each way; 0: no window.

    Magnitudes count as float32, whose sums with the window are exact in float64: i sees j if and only if j sees i.
    """
    if not window:
        return np.zeros(len(mag), np.int64), np.full(len(mag), len(mag))
    exact = np.asarray(mag, np.float32).astype(np.float64)
    half = float(np.float32(window))
    return np.searchsorted(exact, exact - half, "left"), np.searchsorted(exact, exact + half, "right")


def pack(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Entries as uint64 that sort as their values do, of equal ones the earlier column last; none of them is 0.

    values (...) float32, columns (...) below 2^32. One array is sorted and moved twice as fast as two.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    ordered = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))  # negative numbers sort backwards by their bits
    return ordered.astype(np.uint64) << np.uint64(32) | ~columns.astype(np.uint32)


def unpack(keys: np.ndarray) -> Found:
    """Undoes `pack`, of the best first; where a key is 0, there is no entry."""
    ordered = (keys >> np.uint64(32)).astype(np.uint32)
    bits = np.where(ordered >> 31, ordered & np.uint32((1 << 31) - 1), ~ordered)
    empty = keys == 0
    values = np.where(empty, np.float32(-np.inf), bits.view(np.float32))
    return Found(np.where(empty, -1, (~keys.astype(np.uint32)).astype(np.int32)), values)


class Candidates:
    """Entries above each row's threshold, of n rows: at least the k best, and room for a tile more."""

    def __init__(self, threshold: np.ndarray, k: int):
        self.k, self.threshold = k, threshold
        self.keys = np.zeros((len(threshold), k + TILE), np.uint64)
        self.fill = np.zeros(len(threshold), np.int64)

    def add(self, tile: np.ndarray, first: int, inside: np.ndarray | None) -> None:
        """Those of a tile (n, m), whose columns begin at `first`, that are above their row's threshold.

        inside (n, m): which may be; None: all.
        """
        hit = tile > self.threshold[:, None]
        if inside is not None:
            hit &= inside
        flat = np.flatnonzero(hit)
        rows, columns = np.divmod(flat.astype(np.uint32), np.uint32(tile.shape[1]))
        count = np.bincount(rows, minlength=len(self.fill))
        full = np.flatnonzero(self.fill + count > self.keys.shape[1])
        if len(full):
            self._compact(full)
        start = np.cumsum(count) - count
        place = np.repeat(self.fill - start + np.arange(len(count)) * self.keys.shape[1], count) + np.arange(len(flat))
        self.keys.reshape(-1)[place] = pack(tile.reshape(-1)[flat], columns + np.uint32(first))
        self.fill += count

    def _compact(self, rows: np.ndarray) -> None:
        """Keep the k best of these rows, and raise their thresholds to them."""
        best = _best(self.keys[rows], self.k)
        self.keys[rows] = 0
        self.keys[rows, : self.k] = best
        self.threshold[rows] = np.maximum(self.threshold[rows], unpack(best[:, -1]).similarity)
        self.fill[rows] = np.minimum(self.fill[rows], self.k)

    def found(self) -> Found:
        """The k best of every row."""
        return unpack(_best(self.keys, self.k))


def _best(keys: np.ndarray, k: int) -> np.ndarray:
    """The k largest of keys (..., m), largest first."""
    return np.sort(np.partition(keys, keys.shape[-1] - k)[..., -k:])[..., ::-1]


def all_neighbours(objects: Sorted, k: int) -> Iterator[tuple[slice, Found]]:
    """The k neighbours of every row, a tile of rows after another; each pair is computed once.

    Memory, beside the vectors: 8 (k + TILE) bytes for every row of a window, and a few products.
    """
    total = len(objects.unit)
    waiting: dict[int, Candidates] = {}
    for start in range(0, total, TILE):
        rows = slice(start, min(start + TILE, total))
        own, span = np.arange(rows.start, rows.stop), _span(objects, rows)
        for other, tile, turned in _products(objects, objects.unit[rows], start, int(objects.high[rows].max()), True):
            if other not in waiting:
                here = slice(other, min(other + TILE, total))
                waiting[other] = Candidates(_thresholds(objects, objects.unit[here], _span(objects, here), k), k)
            inside = _inside(other, tile.shape[1], span, own)
            waiting[start].add(tile, other, inside)
            if other != start:
                waiting[other].add(turned, start, None if inside is None else inside.T)
        yield rows, _complete(waiting.pop(start), objects, objects.unit[rows], span, own)


def neighbours_of(
    objects: Sorted, queries: np.ndarray, span: tuple[np.ndarray, np.ndarray], k: int, own: np.ndarray | None = None
) -> Found:
    """The k neighbours of unit vectors (n, D), preferably a tile of like magnitude, in the rows span = (low, high).

    own (n,): the query's own row, which is no neighbour; -1 where it has none. Memory: 8 (k + TILE) bytes a query.
    """
    own = np.full(len(queries), -1) if own is None else own
    candidates = Candidates(_thresholds(objects, queries, span, k), k)
    for other, tile, _ in _products(objects, queries, int(span[0].min()), int(span[1].max())):
        candidates.add(tile, other, _inside(other, tile.shape[1], span, own))
    return _complete(candidates, objects, queries, span, own)


@functools.partial(jax.jit, static_argnames="both")
def _cosines(one: jax.Array, two: jax.Array, both: bool = False) -> tuple[jax.Array, ...]:
    """(n, m) of unit vectors (n, D) and (m, D), in float32 on any device; and, if `both`, the transpose."""
    product = jnp.matmul(one, two.T, precision=jax.lax.Precision.HIGHEST)
    return (product, product.T) if both else (product, product[:0])


def _products(
    objects: Sorted, queries: np.ndarray, low: int, high: int, both: bool = False
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(first row of a tile, cosines of the queries with it, their transpose if `both`) over low .. high and what fills
    up the tiles at the ends."""
    end, dispatched = min(-(-high // TILE) * TILE, len(objects.unit)), collections.deque()
    left = _to_device(queries)
    for start in range(low // TILE * TILE, end, TILE):
        tile = _to_device(objects.unit[start : min(start + TILE, end)])
        dispatched.append((start, *_cosines(left, tile, both)))
        if len(dispatched) > AHEAD:
            yield _fetch(*dispatched.popleft())
    while dispatched:
        yield _fetch(*dispatched.popleft())


def _to_device(vectors: np.ndarray) -> jax.Array:
    """A CPU uses rows where they are, if they begin at a multiple of ALIGNED bytes, as in a .npy file they often do."""
    return jax.device_put(vectors, may_alias=True)


def _fetch(start: int, product: jax.Array, turned: jax.Array) -> tuple[int, np.ndarray, np.ndarray]:
    return start, np.asarray(product), np.asarray(turned)


def _span(objects: Sorted, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    return objects.low[rows], objects.high[rows]


def _inside(first: int, width: int, span: tuple[np.ndarray, np.ndarray], own: np.ndarray) -> np.ndarray | None:
    """(n, width) bool, columns from `first` on in a row's window and not the row itself; None where all are."""
    (low, high), end = span, first + width
    itself = np.flatnonzero((own >= first) & (own < end))
    if low.max() <= first and high.min() >= end and not len(itself):
        return None
    number = np.arange(first, end)
    inside = (number >= low[:, None]) & (number < high[:, None])
    inside[itself, own[itself] - first] = False
    return inside


def _thresholds(objects: Sorted, queries: np.ndarray, span: tuple[np.ndarray, np.ndarray], k: int) -> np.ndarray:
    """(n,) similarity that somewhat more than k objects of each query's window should exceed; -inf for small ones."""
    low, high = span
    first, last = int(low.min()), int(high.max())
    sample = np.unique(np.linspace(first, last - 1, min(TILE, last - first)).astype(np.int64))
    similarity = np.array(_cosines(_to_device(queries), objects.unit[sample])[0])
    inside = (sample >= low[:, None]) & (sample < high[:, None])
    similarity[~inside] = -np.inf
    seen, number = inside.sum(1), np.maximum(high - low, 1)
    expected = seen * np.minimum(k / number, 1)
    rank = np.ceil(expected + SLACK * np.sqrt(expected) + 1).astype(np.int64)
    similarity.sort(axis=1)
    at = np.take_along_axis(similarity, np.maximum(len(sample) - rank, 0)[:, None], 1)[:, 0]
    return np.where((rank < seen) & (number > k + TILE), at, -np.inf).astype(np.float32)


def _complete(
    candidates: Candidates, objects: Sorted, queries: np.ndarray, span: tuple[np.ndarray, np.ndarray], own: np.ndarray
) -> Found:
    """The k best of each query, those with too few candidates searched again in full."""
    low, high = span
    available = high - low - ((own >= low) & (own < high))
    found = candidates.found()
    for i in np.flatnonzero(candidates.fill < np.minimum(candidates.k, available)):
        keys = pack(objects.unit[low[i] : high[i]] @ queries[i], np.arange(low[i], high[i]))
        if low[i] <= own[i] < high[i]:
            keys[own[i] - low[i]] = 0
        kept = min(candidates.k, len(keys))
        again = unpack(_best(keys, kept))
        found.rows[i, :kept], found.similarity[i, :kept] = again
    return found


def memory_of_all(objects: Sorted, k: int) -> int:
    """Bytes that `all_neighbours` needs at its widest window, beside the vectors."""
    width = int((objects.high - np.arange(len(objects.high))).max()) + 2 * TILE
    return 8 * (k + TILE) * math.ceil(width / TILE) * TILE
