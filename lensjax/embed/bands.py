"""Exact nearest neighbours by cosine among objects of like magnitude: products of tiles along the diagonal of a band.

Objects are sorted by magnitude, so that those within the window of any of them are consecutive. Tiles of the matrix of
similarities are computed one at a time; an entry is kept where it exceeds its row's threshold, estimated from a sample
so that a little more than k entries do. Where all objects are queries, each tile also serves as its transpose. Rows
that end with too few entries are searched again in full, so the result is exact whatever the sample said.

The products are JAX's, dispatched one ahead, so that the device computes while numpy picks entries from the last one.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

TILE = 1024  # rows of a product, and of what is held together
WIDE = 4  # tiles that one product is wide
SLACK = 2.5  # standard deviations by which the sample's rank is lowered: fewer rows are searched again


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


def windows(mag: np.ndarray, window: float) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of sorted magnitudes (N,) and a window each way; 0: no window.

    Magnitudes count as float32, whose sums with the window are exact in float64: i sees j if and only if j sees i.
    """
    if not window:
        return np.zeros(len(mag), np.int64), np.full(len(mag), len(mag))
    exact = np.asarray(mag, np.float32).astype(np.float64)
    half = float(np.float32(window))
    return np.searchsorted(exact, exact - half, "left"), np.searchsorted(exact, exact + half, "right")


class Candidates:
    """Entries above each row's threshold, of n rows: at least the k best, and room for a tile more."""

    def __init__(self, threshold: np.ndarray, k: int):
        self.k, self.threshold = k, threshold
        self.values = np.full((len(threshold), k + TILE), -np.inf, np.float32)
        self.columns = np.full(self.values.shape, -1, np.int32)
        self.fill = np.zeros(len(threshold), np.int64)

    def add(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        """Entries (m,) by ascending row, at most TILE of any row."""
        count = np.bincount(rows, minlength=len(self.fill))
        full = np.flatnonzero(self.fill + count > self.values.shape[1])
        if len(full):
            self._compact(full)
        start = np.cumsum(count) - count
        place = (self.fill - start)[rows] + np.arange(len(rows)) + rows * self.values.shape[1]
        self.values.reshape(-1)[place] = values
        self.columns.reshape(-1)[place] = columns
        self.fill += count

    def _compact(self, rows: np.ndarray) -> None:
        """Keep the k best of these rows, and raise their thresholds to them."""
        values, columns = self._best(rows)
        self.values[rows], self.columns[rows] = -np.inf, -1
        self.values[rows, : self.k], self.columns[rows, : self.k] = values, columns
        self.threshold[rows] = np.maximum(self.threshold[rows], values.min(1))
        self.fill[rows] = np.minimum(self.fill[rows], self.k)

    def _best(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, columns = self.values[rows], self.columns[rows]
        best = np.argpartition(-values, self.k - 1, axis=1)[:, : self.k]
        return np.take_along_axis(values, best, 1), np.take_along_axis(columns, best, 1)

    def found(self) -> Found:
        """The k best of every row."""
        values, columns = self._best(np.arange(len(self.fill)))
        return _ordered(values, columns)


def _ordered(values: np.ndarray, columns: np.ndarray) -> Found:
    order = np.argsort(-values, axis=1)
    return Found(np.take_along_axis(columns, order, 1), np.take_along_axis(values, order, 1))


def all_neighbours(objects: Sorted, k: int) -> Iterator[tuple[slice, Found]]:
    """The k neighbours of every row, a tile of rows after another; each pair is computed once.

    Memory, beside the vectors: 8 (k + TILE) bytes for every row of a window, and a few products.
    """
    total = len(objects.unit)
    waiting: dict[int, Candidates] = {}
    for start in range(0, total, TILE):
        rows = slice(start, min(start + TILE, total))
        own = np.arange(rows.start, rows.stop)
        for columns, product in _products(objects, objects.unit[rows], start, int(objects.high[rows].max())):
            for other, tile in _tiles(columns, product):
                if other not in waiting:
                    here = slice(other, min(other + TILE, total))
                    thresholds = _thresholds(objects, objects.unit[here], _span(objects, here), k)
                    waiting[other] = Candidates(thresholds, k)
                inside = _inside(other, tile.shape[1], _span(objects, rows), own)
                _add_rows(waiting[start], tile, other, inside)
                if other != start:
                    _add_columns(waiting[other], tile, start, inside)
        yield rows, _complete(waiting.pop(start), objects, objects.unit[rows], _span(objects, rows), own)


def neighbours_of(
    objects: Sorted, queries: np.ndarray, span: tuple[np.ndarray, np.ndarray], k: int, own: np.ndarray | None = None
) -> Found:
    """The k neighbours of unit vectors (n, D), preferably a tile of like magnitude, in the rows span = (low, high).

    own (n,): the query's own row, which is no neighbour; -1 where it has none. Memory: 8 (k + TILE) bytes a query.
    """
    own = np.full(len(queries), -1) if own is None else own
    candidates = Candidates(_thresholds(objects, queries, span, k), k)
    for columns, product in _products(objects, queries, int(span[0].min()), int(span[1].max())):
        for other, tile in _tiles(columns, product):
            _add_rows(candidates, tile, other, _inside(other, tile.shape[1], span, own))
    return _complete(candidates, objects, queries, span, own)


@jax.jit
def _cosines(one: jax.Array, two: jax.Array) -> jax.Array:
    """(n, m) of unit vectors (n, D) and (m, D), in float32 on any device."""
    return jnp.matmul(one, two.T, precision=jax.lax.Precision.HIGHEST)


def _products(objects: Sorted, queries: np.ndarray, low: int, high: int) -> Iterator[tuple[slice, np.ndarray]]:
    """(columns, cosines of the queries with these rows) over low .. high and what fills up the tiles at the ends."""
    end, last = min(-(-high // TILE) * TILE, len(objects.unit)), None
    left = jnp.asarray(queries)
    for start in range(low // TILE * TILE, end, WIDE * TILE):
        columns = slice(start, min(start + WIDE * TILE, end))
        dispatched = columns, _cosines(left, np.asarray(objects.unit[columns]))
        if last is not None:
            yield last[0], np.asarray(last[1])
        last = dispatched
    if last is not None:
        yield last[0], np.asarray(last[1])


def _span(objects: Sorted, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    return objects.low[rows], objects.high[rows]


def _tiles(columns: slice, product: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(first column, entries (n, TILE) or what is left at the end) of a product of these columns."""
    for start in range(columns.start, columns.stop, TILE):
        yield start, product[:, start - columns.start : start - columns.start + TILE]


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


def _above(tile: np.ndarray, threshold: np.ndarray, inside: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) (m,) of a tile's entries above a threshold that broadcasts against it, by ascending row."""
    hit = tile > threshold
    if inside is not None:
        hit &= inside
    return np.divmod(np.flatnonzero(hit), tile.shape[1])


def _add_rows(candidates: Candidates, tile: np.ndarray, first: int, inside: np.ndarray | None) -> None:
    """Entries of the tile, whose columns begin at `first`, above the thresholds of its rows."""
    rows, columns = _above(tile, candidates.threshold[:, None], inside)
    candidates.add(rows, columns + first, tile[rows, columns])


def _add_columns(candidates: Candidates, tile: np.ndarray, first: int, inside: np.ndarray | None) -> None:
    """Entries of the tile's transpose, whose columns begin at `first`."""
    rows, columns = _above(tile, candidates.threshold, inside)
    order = np.argsort(columns.astype(np.uint16), kind="stable")  # a radix sort
    rows, columns = rows[order], columns[order]
    candidates.add(columns, rows + first, tile[rows, columns])


def _thresholds(objects: Sorted, queries: np.ndarray, span: tuple[np.ndarray, np.ndarray], k: int) -> np.ndarray:
    """(n,) similarity that somewhat more than k objects of each query's window should exceed; -inf for small ones."""
    low, high = span
    first, last = int(low.min()), int(high.max())
    sample = np.unique(np.linspace(first, last - 1, min(TILE, last - first)).astype(np.int64))
    similarity = np.array(_cosines(jnp.asarray(queries), objects.unit[sample]))
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
        similarity = objects.unit[low[i] : high[i]] @ queries[i]
        if low[i] <= own[i] < high[i]:
            similarity[own[i] - low[i]] = -np.inf
        kept = min(candidates.k, int(available[i]))
        best = np.argpartition(-similarity, kept - 1)[:kept]
        again = _ordered(similarity[best][None], best[None] + low[i])
        found.rows[i, :kept], found.similarity[i, :kept] = again.rows[0], again.similarity[0]
    return found


def memory_of_all(objects: Sorted, k: int) -> int:
    """Bytes that `all_neighbours` needs at its widest window, beside the vectors."""
    width = int((objects.high - np.arange(len(objects.high))).max()) + 2 * TILE
    return 8 * (k + TILE) * math.ceil(width / TILE) * TILE
