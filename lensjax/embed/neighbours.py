"""workdir/embeddings in, workdir/neighbours.npz out: for every object, or for those asked for, the most similar ones.

Similarity is the cosine of two embeddings (Stein et al. 2022, eq. 1), and only objects within config.neighbours.window
magnitudes of each other are compared (section 3.2).
"""

import json
import pathlib
import shutil
import zipfile
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import create_memmap, replacing
from lensjax.core.journal import Progress
from lensjax.embed import bands
from lensjax.embed.store import Embeddings

NAME, WORK = "neighbours.npz", "neighbours.work"
GATHER = 16_384  # rows that are normalised and put in order at a time
ROUNDING = 1e-4  # mag


class Search(NamedTuple):
    """Embeddings ready to be searched: `order` (M,) gives the object of each sorted row, `place` (N,) the sorted row of
    each object, -1 for those without embedding or magnitude."""

    objects: bands.Sorted
    order: np.ndarray
    place: np.ndarray


def find_neighbours(config: Any, workdir: str | pathlib.Path) -> pathlib.Path:
    """Write neighbours.npz: query (n,) rows of the objects' table, neighbours (n, k) such rows, -1 where there are
    fewer, similarity (n, k) float32, best first, and settings, JSON.

    config.neighbours.queries: rows to ask for, all where empty. Raises UserError for rows or bands that do not exist.
    The vectors, sorted and of unit length, lie memory-mapped beside the results while this runs.
    """
    settings, embeddings = config.neighbours, Embeddings(workdir)
    asked = as_rows("neighbours", tuple(dict.fromkeys(settings.queries)))  # each once
    work = pathlib.Path(workdir) / WORK
    work.mkdir(exist_ok=True)
    try:
        search = prepare(embeddings, settings, asked, work / "unit.npy")
        queries = asked if len(asked) else np.sort(search.order)
        rows = create_memmap(work / "neighbours.npy", np.int32, (len(queries), settings.k))
        similarity = create_memmap(work / "similarity.npy", np.float32, rows.shape)
        _fill(rows, similarity, search, queries, settings)
        about = {**settings.to_dict(), "objects": embeddings.rows, "fingerprint": embeddings.about["fingerprint"]}
        path = pathlib.Path(workdir) / NAME
        found = {"query": queries, "neighbours": rows, "similarity": similarity}
        _pack(path, {**found, "settings": np.array(json.dumps(about))})
    finally:
        shutil.rmtree(work)
    number = min(settings.k, len(search.order) - 1)
    print(f"{path}: {number} neighbours of {len(queries)} objects, of {len(search.order)} compared")
    return path


def _fill(rows: np.ndarray, similarity: np.ndarray, search: Search, queries: np.ndarray, settings: Any) -> None:
    """Write the neighbours of queries (n,) into rows and similarity (n, k)."""
    target = np.full(len(search.place), -1)  # row of the results of each object
    target[queries] = np.arange(len(queries))
    progress = Progress(-(-len(queries) // bands.TILE), 0, "neighbours")
    for objects, found in _results(search, queries, settings):
        here = target[objects]
        rows[here] = np.where(found.rows >= 0, search.order[found.rows], -1)
        similarity[here] = found.similarity
        progress.advance()
    progress.close()


def prepare(embeddings: Embeddings, settings: Any, asked: np.ndarray, path: pathlib.Path | None = None) -> Search:
    """Unit vectors in order of magnitude, in memory or, with a path, in a file.

    settings: config.neighbours. asked: rows of the objects' table; with any, only what is in a window of theirs is
    read. Raises UserError for rows that do not exist or cannot be compared.
    """
    total = embeddings.rows
    _check_range(asked, total)
    mag = np.zeros(total)
    if settings.window:
        column = f"mag_{settings.band}"
        mag = np.asarray(embeddings.objects([column])[column], np.float64)
    usable = np.isfinite(mag)
    _check_rows(asked, np.where(usable, 0, -1))
    if settings.window and len(asked):
        usable &= _near(mag, mag[asked], settings.window + ROUNDING)
    for rows in _pieces(np.flatnonzero(usable)):
        usable[rows] = np.isfinite(embeddings.take(rows)).all(1)
    order = np.flatnonzero(usable)
    if not len(order) and not settings.window:
        raise UserError(f"no object in {embeddings.folder} has an embedding: its objects.parquet says why (status).")
    if not len(order):
        raise UserError(
            f"no object in {embeddings.folder} has both an embedding and a {settings.band} magnitude: choose another "
            "config.neighbours.band, or compare all with --config.neighbours.window=0."
        )
    order = order[np.argsort(mag[order], kind="stable")]
    shape = (len(order), embeddings.dimensions)
    unit = bands.aligned(shape) if path is None else create_memmap(path, np.float32, shape)
    for place in _pieces(np.arange(len(order))):
        unit[place] = normalise(embeddings.take(order[place]))
    place = np.full(total, -1)
    place[order] = np.arange(len(order))
    _check_rows(asked, place)
    return Search(bands.Sorted(unit, *bands.windows(mag[order], settings.window)), order, place)


def _near(mag: np.ndarray, wanted: np.ndarray, distance: float) -> np.ndarray:
    """Which of mag (N,) are within `distance` of one of `wanted`, bool (N,)."""
    wanted = np.sort(wanted[np.isfinite(wanted)])
    first = np.searchsorted(wanted, mag - distance)
    return first < np.searchsorted(wanted, mag + distance, "right")


def _pieces(rows: np.ndarray) -> Iterator[np.ndarray]:
    return (rows[start : start + GATHER] for start in range(0, len(rows), GATHER))


def normalise(vectors: np.ndarray) -> np.ndarray:
    """Rows (n, D) of length one, float32."""
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _results(search: Search, queries: np.ndarray, settings: Any) -> Iterator[tuple[np.ndarray, bands.Found]]:
    """(objects, their neighbours as sorted rows), a tile at a time."""
    if settings.engine not in ENGINES:
        raise UserError(f"config.neighbours.engine is {settings.engine!r}: expected one of {', '.join(ENGINES)}.")
    fits = bands.memory_of_all(search.objects, settings.k) <= settings.memory * 2**30
    if settings.engine == "bands" and len(queries) == len(search.order) and fits:
        for rows, found in bands.all_neighbours(search.objects, settings.k):
            yield search.order[rows], found
        return
    own = np.sort(search.place[queries])
    for start in range(0, len(own), bands.TILE):
        rows = own[start : start + bands.TILE]
        yield search.order[rows], ENGINES[settings.engine](search.objects, rows, settings.k)


def _by_bands(objects: bands.Sorted, rows: np.ndarray, k: int) -> bands.Found:
    return bands.neighbours_of(objects, objects.unit[rows], (objects.low[rows], objects.high[rows]), k, rows)


def _by_faiss(objects: bands.Sorted, rows: np.ndarray, k: int) -> bands.Found:
    """The same by faiss, a search for each query."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise UserError(
            "config.neighbours.engine is 'faiss', which is not installed: pip install faiss-cpu."
        ) from error
    index: Any = faiss.IndexFlatIP(objects.unit.shape[1])
    index.add(objects.unit)
    found = bands.Found(np.full((len(rows), k), -1, np.int32), np.full((len(rows), k), -np.inf, np.float32))
    for i, row in enumerate(rows):
        inside = faiss.IDSelectorRange(int(objects.low[row]), int(objects.high[row]))
        values, near = index.search(objects.unit[row : row + 1], k + 1, params=faiss.SearchParameters(sel=inside))  # pyright: ignore
        keep = np.flatnonzero((near[0] >= 0) & (near[0] != row))[:k]
        found.rows[i, : len(keep)], found.similarity[i, : len(keep)] = near[0, keep], values[0, keep]
    return found


ENGINES = {"bands": _by_bands, "faiss": _by_faiss}


def as_rows(block: str, queries: tuple) -> np.ndarray:
    """int64 (n,) of config.BLOCK.queries; UserError for what is no whole number."""
    rows = np.asarray(queries or (), object)
    if not all(isinstance(row, int | np.integer) for row in rows):
        raise UserError(f"config.{block}.queries is {tuple(queries)}: expected rows of the objects, whole numbers.")
    return rows.astype(np.int64)


def _check_range(queries: np.ndarray, total: int) -> None:
    wrong = [int(q) for q in queries if not 0 <= q < total]
    if wrong:
        raise UserError(f"config.neighbours.queries has row {wrong[0]}, and there are rows 0 to {total - 1}.")


def _check_rows(queries: np.ndarray, place: np.ndarray) -> None:
    """UserError for a query whose place (N,) is -1."""
    lost = queries[place[queries] < 0]
    if len(lost):
        raise UserError(f"object {lost[0]} has no embedding or no magnitude: ask for another row.")


def _pack(path: pathlib.Path, arrays: dict[str, np.ndarray]) -> None:
    """Write an .npz without holding an array that is memory-mapped."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(values))
