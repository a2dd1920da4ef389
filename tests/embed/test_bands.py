"""Neighbours inside a magnitude window: exact, against brute force and faiss, however the tiles fall."""

import faiss
import jax
import numpy as np
import pytest
import threadpoolctl

from lensjax.embed import bands

RNG = np.random.default_rng(0)


def objects(count, dimensions=12, window=0.5, spread=1.0):
    """Clustered unit vectors of objects with a survey-like run of magnitudes."""
    mag = np.sort(20 - RNG.exponential(spread, count))
    centres = RNG.normal(size=(30, dimensions))
    x = centres[RNG.integers(0, 30, count)] + 0.5 * RNG.normal(size=(count, dimensions))
    unit = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return bands.Sorted(unit, *bands.windows(mag, window))


def brute_force(given, k):
    similarity = given.unit @ given.unit.T
    rows = np.arange(len(similarity))
    outside = (rows < given.low[:, None]) | (rows >= given.high[:, None])
    similarity[outside | np.eye(len(rows), dtype=bool)] = -np.inf
    order = np.argsort(-similarity, axis=1)[:, :k]
    return order, np.take_along_axis(similarity, order, 1)


def everything(given, k):
    parts = list(bands.all_neighbours(given, k))
    assert [part[0].start for part in parts] == list(range(0, len(given.unit), bands.TILE))
    return bands.Found(*(np.concatenate([getattr(found, f) for _, found in parts]) for f in ("rows", "similarity")))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    monkeypatch.setattr(bands, "TILE", 64)


@pytest.mark.parametrize(
    ("count", "k", "window"), [(500, 7, 0.3), (500, 7, 0.0), (333, 40, 0.05), (64, 3, 0.5), (5, 9, 1)]
)
def test_all_against_all_is_brute_force(count, k, window):
    given = objects(count, window=window)
    rows, similarity = brute_force(given, k)
    found = everything(given, k)
    kept = min(k, count)
    np.testing.assert_allclose(found.similarity[:, :kept], similarity, atol=1e-6)
    assert np.all(found.rows[:, :kept][np.isfinite(similarity)] >= 0)
    assert np.all(found.rows[np.isneginf(found.similarity)] == -1)
    same = [set(a[np.isfinite(s)]) == set(b[b >= 0]) for a, s, b in zip(rows, similarity, found.rows, strict=True)]
    assert np.mean(same) > 0.99  # equal similarities may change places at the end


def test_each_set_is_faisss():
    given = objects(900)
    found = everything(given, 20)
    index = faiss.IndexFlatIP(given.unit.shape[1])
    index.add(given.unit)
    for i in range(0, 900, 37):
        inside = faiss.IDSelectorRange(int(given.low[i]), int(given.high[i]))
        _, rows = index.search(given.unit[i : i + 1], 21, params=faiss.SearchParameters(sel=inside))
        assert set(rows[0]) - {-1, i} == set(found.rows[i][found.rows[i] >= 0])


def test_on_demand_is_the_same_as_all_against_all():
    given = objects(700)
    found = everything(given, 15)
    rows = np.array([0, 30, 31, 350, 699])
    one = bands.neighbours_of(given, given.unit[rows], (given.low[rows], given.high[rows]), 15, rows)
    np.testing.assert_array_equal(one.rows, found.rows[rows])
    np.testing.assert_allclose(one.similarity, found.similarity[rows], atol=1e-6)


def test_a_stranger_may_have_any_neighbour():
    given = objects(200, window=0)
    span = np.zeros(1, int), np.full(1, 200)
    out = bands.neighbours_of(given, given.unit[17:18], span, 3)
    assert out.rows[0, 0] == 17 and out.similarity[0, 0] == pytest.approx(1, abs=1e-6)


def test_a_misleading_sample_costs_time_not_exactness(monkeypatch):
    """Thresholds far too high, and far too low."""
    given = objects(400)
    expected = brute_force(given, 10)[1]
    for threshold in (0.999, -2.0):
        wrong = lambda objects, queries, span, k, t=threshold: np.full(len(queries), t, np.float32)  # noqa: E731
        monkeypatch.setattr(bands, "_thresholds", wrong)
        np.testing.assert_allclose(everything(given, 10).similarity, expected, atol=1e-6)


def test_windows_are_symmetric_whatever_the_rounding():
    mag = np.sort(RNG.uniform(15, 20, 3000)).astype(np.float32)
    mag[1000:1010] = mag[1000]
    low, high = bands.windows(mag, 0.3)
    sees = (np.arange(3000) >= low[:, None]) & (np.arange(3000) < high[:, None])
    np.testing.assert_array_equal(sees, sees.T)


def test_the_sample_leaves_few_rows_to_do_again():
    given = objects(4000)
    rows = slice(2000, 2064)
    threshold = bands._thresholds(given, given.unit[rows], (given.low[rows], given.high[rows]), 100)
    above = ((given.unit[rows] @ given.unit.T) > threshold[:, None]) & (np.arange(4000) < given.high[rows, None])
    above &= np.arange(4000) >= given.low[rows, None]
    assert np.mean(above.sum(1) > 100) > 0.9
    assert np.median(above.sum(1)) < 400


def test_memory_is_that_of_a_window():
    narrow, wide = (bands.memory_of_all(objects(5000, window=w), 50) for w in (0.01, 5.0))
    assert narrow < wide / 5


def test_packed_entries_sort_by_value_then_by_the_earlier_column_and_come_back():
    values = np.array([0.5, -0.25, 0.0, 1.0, -1.0, 0.5, 1e-30, -0.0], np.float32)
    columns = np.array([7, 0, 3, 2**31 - 1, 5, 2, 9, 1])
    keys = bands.pack(values, columns)
    assert np.all(keys > bands.NONE)
    order = np.argsort(keys)[::-1]
    np.testing.assert_array_equal(order, [3, 5, 0, 6, 2, 7, 1, 4])
    found = bands.unpack(np.append(keys, bands.NONE))
    np.testing.assert_array_equal(found.similarity, np.append(values, -np.inf).astype(np.float32))
    np.testing.assert_array_equal(found.rows, np.append(columns, -1))


def test_queries_far_apart_are_not_compared_with_what_lies_between():
    given = objects(2000, window=0.02)
    rows = np.array([3, 700, 701, 1990])
    found = bands.neighbours_of(given, given.unit[rows], (given.low[rows], given.high[rows]), 5, rows)
    expected = brute_force(given, 5)[1][rows]
    np.testing.assert_allclose(found.similarity, expected, atol=1e-6)
    between = int(given.high[701]) + 64
    assert between + 64 < given.low[1990]
    assert bands._strips(given.low[rows], given.high[rows], between, 2000) == []


def test_strips_cover_each_pair_once_and_little_else():
    given = objects(1000, window=0.3)
    seen = np.zeros((1000, 1000), int)
    own = np.arange(1000)
    for start in range(0, 1000, 64):
        rows = slice(start, min(start + 64, 1000))
        for first in range(start, int(given.high[rows].max()), 64):
            for part, columns in bands._strips(own[rows] + 1, given.high[rows], first, 1000):
                seen[rows][part, columns] += 1
    wanted = (own > own[:, None]) & (own < given.high[:, None])
    assert seen.max() == 1 and seen[wanted].all()
    assert seen.sum() < 1.3 * wanted.sum()


def test_xla_reads_aligned_vectors_in_place():
    vectors = bands.aligned((64, 12))
    vectors[:] = RNG.normal(size=vectors.shape)
    assert jax.device_put(vectors, jax.devices("cpu")[0]).unsafe_buffer_pointer() == vectors.ctypes.data


def test_numpy_has_its_threads_back():
    def threads():
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]

    before = threads()
    search = bands.all_neighbours(objects(300), 3)
    next(search)
    assert set(threads()) == {1}
    search.close()
    assert threads() == before
