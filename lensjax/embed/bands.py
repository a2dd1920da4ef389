"""Exact nearest neighbours by cosine among objects of like magnitude: products of tiles along the diagonal of a band.

Objects are sorted by magnitude, so that those within the window of any of them are consecutive. Tiles of the matrix of
similarities are computed one at a time; an entry is kept where it exceeds its row's threshold, estimated from a sample
so that a little more than k entries do. Where all objects are queries, each tile also serves as its transpose. A tile
on an edge of the band is computed in strips, without most of what lies outside. Rows that end with too few entries are
searched again in full, so the result is exact whatever the sample said.

While some cores or a GPU compute the product of a tile, others pick the entries of another. The products are XLA's: on
some CPUs nearly twice as fast as those of numpy, which does what is left over of a shape of its own.
"""

import collections
import concurrent.futures
import contextlib
import functools
import math
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
import threadpoolctl

from lensjax.core import sharding

TILE = 1024  # rows of a product, and of what is held together
AHEAD = 2  # tiles for each thread, in work or waiting
ALIGNMENT = 64  # bytes; XLA copies what lies otherwise for each product
SLACK = 3.5  # standard deviations by which the sample's rank is lowered: fewer rows are searched again


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


def aligned(shape: tuple[int, int]) -> np.ndarray:
    """float32 with anything in it, where XLA on a CPU reads it in place, as it does a memory-mapped .npy file."""
    memory = np.empty(4 * math.prod(shape) + ALIGNMENT, np.uint8)
    return memory[-memory.ctypes.data % ALIGNMENT :][: 4 * math.prod(shape)].view(np.float32).reshape(shape)


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
    """Entries as int64 that sort as their values do, of equal ones the earlier column last.

    values (...) float32, columns (...) below 2^31. One array is sorted and moved twice as fast as two.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.int32)
    ordered = bits ^ ((bits >> 31) & MAGNITUDE_BITS)  # negative numbers sort backwards by their bits
    return ordered.astype(np.int64) << 32 | (~columns.astype(np.int32)).view(np.uint32)


def unpack(keys: np.ndarray) -> Found:
    """Undoes `pack`, of keys (...) int64; of NONE row -1 and -inf."""
    ordered = (keys >> 32).astype(np.int32)
    values = (ordered ^ ((ordered >> 31) & MAGNITUDE_BITS)).view(np.float32)
    return Found(~keys.astype(np.int32), values)


MAGNITUDE_BITS = np.int32(2**31 - 1)  # of a float32: all but the sign
NONE = pack(np.array([-np.inf]), np.array([-1]))[0]  # the key where there is no entry: below those of all cosines


class Entries(NamedTuple):
    """How many entries there are in each row (n,), and their keys (h,), those of one row after those of another."""

    count: np.ndarray
    keys: np.ndarray

    @classmethod
    def above(cls, threshold: np.ndarray, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> Self:
        """Those of some (h,) that are above their row's threshold (n,)."""
        kept = np.flatnonzero(values > threshold[rows])
        small = rows[kept].astype(np.min_scalar_type(len(threshold)))  # 16 bits are sorted by radix
        kept = kept[np.argsort(small, kind="stable")]
        return cls(np.bincount(rows[kept], minlength=len(threshold)), pack(values[kept], columns[kept]))


class Candidates:
    """Entries above each row's threshold, of n rows: at least the k best, and no more than n (k + TILE) and a tile."""

    def __init__(self, threshold: np.ndarray, k: int):
        self.k, self.threshold = k, threshold
        self.parts: list[Entries] = []
        self.number = np.zeros(len(threshold), np.int64)

    def add(self, entries: Entries) -> None:
        """More of them."""
        self.parts.append(entries)
        self.number += entries.count
        if self.number.sum() > len(self.threshold) * (self.k + TILE):
            best = self.best()
            self.threshold = np.maximum(self.threshold, unpack(best[:, -1]).similarity)
            self.number = np.count_nonzero(best != NONE, 1)
            self.parts = [Entries(self.number.copy(), best[best != NONE])]

    def best(self) -> np.ndarray:
        """The keys of the k best of every row (n, k), best first, NONE where there are fewer."""
        width = max(self.k, int(self.number.max()))
        table = np.full((len(self.number), width), NONE)
        end = np.arange(len(table)) * width
        for count, keys in self.parts:
            end += count
            table.reshape(-1)[np.repeat(end - np.cumsum(count), count) + np.arange(len(keys))] = keys
        table.partition(width - self.k, axis=1)
        best = table[:, width - self.k :]
        best.sort(axis=1)
        return best[:, ::-1]


class _Queries(NamedTuple):
    """Unit vectors (n, D), their windows low .. high - 1 and own rows (n,), -1 for none, and what has been found."""

    unit: np.ndarray
    low: np.ndarray
    high: np.ndarray
    own: np.ndarray
    candidates: Candidates


def all_neighbours(objects: Sorted, k: int) -> Generator[tuple[slice, Found], None, None]:
    """The k neighbours of every row, a tile of rows after another; each pair is computed once.

    Memory, beside the vectors: 8 (k + TILE) bytes for every row of a window, and a few products.
    """
    waiting: dict[int, _Queries] = {}
    finished: collections.deque[tuple[slice, concurrent.futures.Future[Found]]] = collections.deque()

    def queries(start: int) -> _Queries:
        if start not in waiting:
            rows = slice(start, min(start + TILE, len(objects.unit)))
            span = objects.low[rows], objects.high[rows]
            waiting[start] = _queries(objects, objects.unit[rows], span, k, np.arange(rows.start, rows.stop))
        return waiting[start]

    def pairs() -> Iterator[tuple[_Queries, int, _Queries]]:
        for start in range(0, len(objects.unit), TILE):
            given = queries(start)
            for other in range(start, int(given.high.max()), TILE):
                yield given, other, queries(other)

    with _threads() as pool:
        for (given, other, transposed), hits in _ahead(pool, functools.partial(_hits, objects), pairs()):
            for own, others in hits:
                given.candidates.add(own)
                transposed.candidates.add(others)
            if other + TILE >= given.high.max():
                start = int(given.own[0])
                rows = slice(start, start + len(given.own))
                finished.append((rows, pool.submit(_complete, objects, waiting.pop(start))))
            while finished and (len(finished) > 1 or finished[0][1].done()):
                rows, found = finished.popleft()
                yield rows, found.result()
        for rows, found in finished:
            yield rows, found.result()


def neighbours_of(
    objects: Sorted, unit: np.ndarray, span: tuple[np.ndarray, np.ndarray], k: int, own: np.ndarray | None = None
) -> Found:
    """The k neighbours of unit vectors (n, D), preferably a tile of like magnitude, in the rows span = (low, high).

    own (n,): the query's own row, which is no neighbour; -1 where it has none. Memory: 8 (k + TILE) bytes a query.
    """
    with _threads() as pool:
        queries = _queries(objects, unit, span, k, np.full(len(unit), -1) if own is None else own)
        tiles = range(int(span[0].min()) // TILE * TILE, int(span[1].max()), TILE)
        calls = ((queries, first, None) for first in tiles)
        for _, hits in _ahead(pool, functools.partial(_hits, objects), calls):
            for found, _ in hits:
                queries.candidates.add(found)
        return _complete(objects, queries)


def _queries(
    objects: Sorted, unit: np.ndarray, span: tuple[np.ndarray, np.ndarray], k: int, own: np.ndarray
) -> _Queries:
    return _Queries(unit, *span, own, Candidates(_thresholds(objects, unit, span, k), k))


def _hits(
    objects: Sorted, queries: _Queries, first: int, others: _Queries | None
) -> list[tuple[Entries, Entries | None]]:
    """Of the tile of rows from `first` on, what is above the queries' thresholds, and above those of the `others`,
    whose rows are the tile's columns; then only rows after the query's own, so that a pair is found once."""
    low = np.maximum(queries.low, queries.own + 1) if others else queries.low
    own, total, found = queries.candidates.threshold, len(objects.unit), []
    theirs = others.candidates.threshold if others else np.full(min(TILE, total - first), np.inf, np.float32)
    for part, tile in _strips(low, queries.high, first, total):
        limits = own[part], theirs[tile.start - first : tile.stop - first]
        cosines, hit = _compare(queries.unit[part], objects.unit[tile], *limits)
        hit = _inside(hit, low[part], queries.high[part], queries.own[part], tile.start)
        flat = np.flatnonzero(hit)
        rows, columns = np.divmod(flat.astype(np.uint32), np.uint32(hit.shape[1]))
        rows, columns, values = rows + np.uint32(part.start), columns + np.uint32(tile.start), cosines.reshape(-1)[flat]
        other = None
        if others:
            other = Entries.above(theirs, columns - np.uint32(first), rows + np.uint32(queries.own[0]), values)
        found.append((Entries.above(own, rows, columns, values), other))
    return found


def _strips(low: np.ndarray, high: np.ndarray, first: int, total: int) -> list[tuple[slice, slice]]:
    """Of a tile of rows from `first` on: which queries are to be compared with which rows.

    In quarters of a tile, so that few shapes are compiled; quarters that need the same rows are one.
    """
    end, step = min(first + TILE, total), TILE // 4
    strips: list[tuple[slice, slice]] = []
    for start in range(0, len(low), step):
        part = slice(start, min(start + step, len(low)))
        near = (high[part] > first) & (low[part] < end)
        if not near.any():
            continue
        begin = first + max(int(low[part][near].min()) - first, 0) // step * step
        rows = slice(begin, min(end, first - (first - int(high[part][near].max())) // step * step))
        if strips and strips[-1][1] == rows and strips[-1][0].stop == start:
            part = slice(strips.pop()[0].start, part.stop)
        strips.append((part, rows))
    return strips


def _inside(hit: np.ndarray, low: np.ndarray, high: np.ndarray, own: np.ndarray, first: int) -> np.ndarray:
    """Hits (n, m) among the rows from `first` on, without those outside the query's window and the query itself."""
    end = first + hit.shape[1]
    if low.max() > first or high.min() < end:
        number = np.arange(first, end, dtype=np.int32)
        hit = hit & (number >= low[:, None].astype(np.int32)) & (number < high[:, None].astype(np.int32))
    itself = np.flatnonzero((own >= first) & (own < end))
    if len(itself):
        hit = hit.copy()
        hit[itself, own[itself] - first] = False
    return hit


def _compare(one: np.ndarray, two: np.ndarray, own: np.ndarray, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The cosines (n, m) of unit vectors (n, D) and (m, D), float32, and where they are above one of the limits, (n,)
    and (m,)."""
    if len(one) % (TILE // 4) or len(two) % (TILE // 4):  # a shape of its own to compile
        cosines = one @ two.T
        return cosines, (cosines > own[:, None]) | (cosines > theirs[None])
    cosines, hit = _product(one, two, own, theirs)
    return np.asarray(cosines), np.asarray(hit)


@jax.jit
def _product(one: jax.Array, two: jax.Array, own: jax.Array, theirs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """`_compare`."""
    cosines = jnp.matmul(one, two.T, precision=jax.lax.Precision.HIGHEST)
    return cosines, (cosines > own[:, None]) | (cosines > theirs[None])


def _ahead(pool: concurrent.futures.Executor, work: Callable[..., Any], calls: Iterable[tuple]) -> Iterator[tuple]:
    """(arguments, result) of each call in order, some calls ahead of the consumer."""
    waiting: collections.deque[tuple[tuple, concurrent.futures.Future]] = collections.deque()
    for call in calls:
        waiting.append((call, pool.submit(work, *call)))
        if len(waiting) > AHEAD * sharding.cores():
            arguments, result = waiting.popleft()
            yield arguments, result.result()
    for arguments, result in waiting:
        yield arguments, result.result()


class _OneThreadEach:
    """While any search runs, numpy's products take one thread."""

    def __init__(self) -> None:
        self._lock, self._users = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._limits = threadpoolctl.threadpool_limits(1, "blas")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                self._limits.restore_original_limits()


_ONE_THREAD_EACH = _OneThreadEach()


@contextlib.contextmanager
def _threads() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    """A thread for each core."""
    with _ONE_THREAD_EACH, concurrent.futures.ThreadPoolExecutor(sharding.cores()) as pool:
        yield pool


def _thresholds(objects: Sorted, queries: np.ndarray, span: tuple[np.ndarray, np.ndarray], k: int) -> np.ndarray:
    """(n,) similarity that somewhat more than k objects of each query's window should exceed; -inf for small ones."""
    low, high = span
    first, last = int(low.min()), int(high.max())
    sample = np.unique(np.linspace(first, last - 1, min(TILE, last - first)).astype(np.int64))
    never = np.full(len(queries), np.inf, np.float32), np.full(len(sample), np.inf, np.float32)
    inside = (sample >= low[:, None]) & (sample < high[:, None])
    similarity = np.where(inside, _compare(queries, objects.unit[sample], *never)[0], -np.inf)
    seen, number = inside.sum(1), np.maximum(high - low, 1)
    expected = seen * np.minimum(k / number, 1)
    rank = np.ceil(expected + SLACK * np.sqrt(expected) + 1).astype(np.int64)
    similarity.sort(axis=1)
    at = np.take_along_axis(similarity, np.maximum(len(sample) - rank, 0)[:, None], 1)[:, 0]
    return np.where((rank < seen) & (number > k + TILE), at, -np.inf).astype(np.float32)


def _complete(objects: Sorted, queries: _Queries) -> Found:
    """The k best of each query, those with too few candidates searched again in full."""
    low, high, own, k = queries.low, queries.high, queries.own, queries.candidates.k
    available = high - low - ((own >= low) & (own < high))
    best = queries.candidates.best()
    for i in np.flatnonzero(queries.candidates.number < np.minimum(k, available)):
        keys = pack(objects.unit[low[i] : high[i]] @ queries.unit[i], np.arange(low[i], high[i]))
        if low[i] <= own[i] < high[i]:
            keys[own[i] - low[i]] = NONE
        again = np.sort(keys)[::-1][:k]
        best[i, : len(again)] = again
    return unpack(best)


def memory_of_all(objects: Sorted, k: int) -> int:
    """Bytes that `all_neighbours` needs at its widest window, beside the vectors."""
    width = int((objects.high - np.arange(len(objects.high))).max()) + 2 * TILE
    return 8 * (k + TILE) * math.ceil(width / TILE) * TILE
