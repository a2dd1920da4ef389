"""Neighbours of 100,000 x 2048 embeddings inside +-0.5 mag, k = 999, exact: beside faiss, on the same queries.

faiss has no window, so it searches either everything (IndexFlatIP), or the union of the windows of each block of
queries; it is not asked to fill up what lies outside a query's own window. Queries are blocks of like magnitude, spread
over the survey: a rate needs no more. All against all is timed with --full.

faiss runs as its wheel does. The OpenBLAS in it chooses by the CPU's model, and on one that it does not know may take
products without AVX (Prescott): the kind it took is printed, and OPENBLAS_CORETYPE=SKYLAKEX gives it those of AVX-512.
"""

import argparse
import pathlib
import time

import common
import faiss
import numpy as np
import threadpoolctl

from lensjax.embed import bands

COUNT, DIMENSIONS, K, WINDOW = 100_000, 2048, 999, 0.5
SLOPE = 0.4  # of log10 counts with magnitude: the window then keeps 37 % of the pairs
BLOCKS = 6  # blocks of queries that are measured


def survey(count: int) -> bands.Sorted:
    """Clustered unit vectors, magnitudes with exponential counts below 20."""
    rng = np.random.default_rng(0)
    mag = np.sort(20 + np.log10(rng.uniform(size=count)) / SLOPE).astype(np.float32)
    vectors = rng.standard_normal(out=bands.aligned((count, DIMENSIONS)), dtype=np.float32)
    vectors += 0.7 * rng.standard_normal((200, DIMENSIONS), dtype=np.float32)[rng.integers(0, 200, count)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return bands.Sorted(vectors, *bands.windows(mag, WINDOW))


def blocks(objects: bands.Sorted) -> list[np.ndarray]:
    """Rows of the queries."""
    starts = ((np.arange(BLOCKS) + 0.5) / BLOCKS * (len(objects.unit) - bands.TILE)).astype(int)
    return [np.arange(start, start + bands.TILE) for start in starts]


def ours(objects: bands.Sorted, rows: np.ndarray) -> bands.Found:
    return bands.neighbours_of(objects, objects.unit[rows], (objects.low[rows], objects.high[rows]), K, rows)


def union(objects: bands.Sorted, rows: np.ndarray) -> np.ndarray:
    """By faiss over the union of the windows, where a block's own windows are nearly the union."""
    first, last = objects.low[rows].min(), objects.high[rows].max()
    return faiss.knn(objects.unit[rows], objects.unit[first:last], K + 1, faiss.METRIC_INNER_PRODUCT)[1] + first


def everything(index, objects: bands.Sorted, rows: np.ndarray) -> np.ndarray:
    return index.search(objects.unit[rows], K + 1)[1]


def check(objects: bands.Sorted, rows: np.ndarray) -> float:
    """Share of our neighbours that faiss finds too, asked inside each query's exact window."""
    found, index = ours(objects, rows), faiss.IndexFlatIP(DIMENSIONS)
    first, last = int(objects.low[rows].min()), int(objects.high[rows].max())
    index.add(objects.unit[first:last])
    shares = []
    for i in range(0, len(rows), 64):
        inside = faiss.IDSelectorRange(int(objects.low[rows[i]]) - first, int(objects.high[rows[i]]) - first)
        near = index.search(objects.unit[rows[i : i + 1]], K + 1, params=faiss.SearchParameters(sel=inside))[1] + first
        shares.append(len(set(near[0]) & set(found.rows[i])) / K)
    return float(np.mean(shares))


def products_of_faiss() -> str:
    """Version and kind of the OpenBLAS that came with faiss."""
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["internal_api"] == "openblas"]
    own = [pool for pool in pools if pathlib.Path(pool["filepath"]).parent.name.startswith("faiss")]
    return "; ".join(f"OpenBLAS {pool['version']}, {pool['architecture']}" for pool in own) or "no OpenBLAS of its own"


def all_rate(objects: bands.Sorted) -> float:
    """Queries a second of all against all."""
    start = time.perf_counter()
    for _ in bands.all_neighbours(objects, K):
        pass
    return len(objects.unit) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--full", action="store_true", help="time all against all too: minutes")
    args = parser.parse_args()
    objects = survey(args.count)
    kept = (objects.high - objects.low).mean() / len(objects.unit)
    memory = bands.memory_of_all(objects, K) / 2**30
    print(f"{args.count} x {DIMENSIONS}, k = {K}: the window keeps {kept:.0%} of the pairs; all against all holds")
    print(
        f"{memory:.2f} GiB of candidates beside {objects.unit.nbytes / 2**30:.2f} GiB of vectors, which may be on disk"
    )
    print(f"products of faiss {faiss.__version__}: {products_of_faiss()}")
    index = faiss.IndexFlatIP(DIMENSIONS)
    index.add(objects.unit)
    chosen = blocks(objects)
    number = sum(map(len, chosen))

    def rate(search) -> float:
        return common.rate(lambda: [search(rows) for rows in chosen], number, 0.0)

    rates = common.interleave(
        {
            "ours, on demand": lambda: rate(lambda rows: ours(objects, rows)),
            "faiss, union of the windows": lambda: rate(lambda rows: union(objects, rows)),
            "faiss, IndexFlatIP without a window": lambda: rate(lambda rows: everything(index, objects, rows)),
        },
        rounds=2,
    )
    peers = [name for name in rates if name.startswith("faiss")]
    print(f"neighbours shared with faiss inside the exact windows: {check(objects, chosen[1]):.6f}")
    for peer in peers:
        print(f"ours on demand / {peer}: {rates['ours, on demand'] / rates[peer]:.2f}")
    if args.full:
        speed = all_rate(objects)
        print(f"all against all: {speed:,.0f} queries/s")
        for peer, target in zip(peers, (2.2, 4.0), strict=True):
            common.claim(f"all against all / {peer}", speed / rates[peer], target, ".2f")


if __name__ == "__main__":
    main()
