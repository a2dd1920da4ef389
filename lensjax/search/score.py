"""A survey in, scores.parquet out: files stream through a bounded queue of readers into batches of one fixed shape.

Memory does not grow with the survey: at most `queue` files wait, and a shard of rows. Files and rows keep their order,
and the rows of a batch depend on the input alone, so an interrupted search ends in the table of an undisturbed one.
"""

import collections
import concurrent.futures
import contextlib
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from scipy import special

import lensjax
from lensjax.core.errors import UserError
from lensjax.core.files import stamp
from lensjax.core.journal import Progress
from lensjax.physics import grid
from lensjax.search import systems
from lensjax.search.report import write_report
from lensjax.search.restore import Scorer, make_scorer
from lensjax.search.shards import COLUMNS, Position, Shards, summarise, why_none_selected
from lensjax.search.vet import check_settings, forget, vet
from lensjax.surveys import Block, concatenate, find_files, join, read_block, read_catalogue, select
from lensjax.surveys.files import COMPANIONS

AHEAD = 2  # batches that the device works on while the next is put together
OK, NOT_SEARCHED = "ok", "no good pixel where lines are looked for"
LEAST_SCORE = 0.01  # of a second line of an object that is kept


def search(config: Any, workdir: str | pathlib.Path, scorer: Scorer | None = None) -> dict[str, int]:
    """Score every spectrum of config.search.input into workdir/scores.parquet, and print one line about it.

    Then vet its hits (config.vet) and write the page. A search that was killed goes on behind its last shard. A
    finished one of the same input (paths, sizes, times), weights and config is recognised and not repeated; if any of
    these changed, it starts anew, and says so. Vetting is no part of that: it is done again each time.

    scorer: stands in for the one that the config names. Returns counts: rows, scored, hits, problems.
    Raises UserError for input, catalogue or weights that are not there, and for cuts that do not exist.
    """
    files = find_files(config.search.input)
    catalogue = load_catalogue(config)
    check_settings(config)
    scorer = scorer or make_scorer(config, workdir)
    config = scorer.config or config
    shards = Shards(workdir, fingerprint(config, files, scorer), scorer.identity)
    if shards.replaced:
        print("search: input, weights or settings changed since the last one: starting anew", file=sys.stderr)
    if not shards.finished:
        _run(config, [path for path, _ in files], catalogue, scorer, shards)
    shards.finish()
    counts = summarise(shards.table, config.search.threshold)
    print(
        f"{shards.table}: {counts['rows']} objects, {counts['scored']} scored, {counts['hits']} selected with score > "
        f"{config.search.threshold:g}, {counts['problems']} without a score (see status)"
    )
    if reason := why_none_selected(shards.table):
        print(f"search: no object is selected, most often because: {reason}", file=sys.stderr)
    if config.vet.enabled:
        vet(config, workdir)
    else:
        forget(workdir)
    if page := write_report(config, shards.table, scorer.identity):
        print(f"{page}: the page to look at")
    return counts


def fingerprint(config: Any, files: list[tuple[str, str]], scorer: Scorer) -> str:
    """SHA-256 of all that the table depends on: files with size and time, scorer, cuts, sizes, columns, version."""
    total = hashlib.sha256(scorer.identity.encode())
    shape = (scorer.loglam[0], len(scorer.loglam), config.search.batch_size, _shard_rows(config), tuple(COLUMNS))
    shape += (systems.of(config).QUASARS, config.model.get("dtype", ""))
    total.update(f"{lensjax.__version__} {shape} {json.dumps(config.select.to_dict(), sort_keys=True)}".encode())
    folders = sorted({pathlib.Path(path).parent for path, kind in files if kind != "spec"})
    beside = [str(path) for folder in folders for path in companions(folder)]
    catalogue = [config.search.catalogue] if config.search.catalogue else []
    for path in [*(path for path, _ in files), *beside, *catalogue]:
        total.update(stamp(path).encode(errors="surrogateescape"))
    return total.hexdigest()


def companions(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files that are read with the spectra of a folder: spZbest (or a folder below), redrock, ..."""
    return sorted(p for p in [*folder.glob("*"), *folder.glob("*/spZbest-*")] if p.name.startswith(COMPANIONS))


def _run(config: Any, paths: list[str], catalogue: dict | None, scorer: Scorer, shards: Shards) -> None:
    """Score what is not yet in the shards."""
    start, size, total = shards.position, config.search.batch_size, _shard_rows(config)
    read = make_read(config, scorer.loglam, catalogue)
    progress = Progress(len(paths), start.file, "search", unit="file")
    with contextlib.closing(progress):
        blocks = read_ahead(paths[start.file :], read, config.search.readers, config.search.queue)
        with contextlib.closing(blocks):
            scored = score_batches(cut(blocks, start, size), scorer, size)
            for columns, position in gather(_counting(scored, start, progress), total):
                shards.write(columns, position)


def _shard_rows(config: Any) -> int:
    """Rows of a shard: a whole number of batches, so that a resumed search cuts the same batches."""
    size = config.search.batch_size
    if size < 1 or config.search.shard_rows < 1:
        raise UserError("config.search.batch_size and config.search.shard_rows must be at least 1.")
    return -(-config.search.shard_rows // size) * size


def load_catalogue(config: Any) -> dict[str, np.ndarray] | None:
    """config.search.catalogue, as `make_read` takes it; None where it is empty."""
    path = config.search.catalogue
    return read_catalogue(path, systems.of(config).QUASARS) if path else None


def make_read(config: Any, loglam: np.ndarray, catalogue: dict | None) -> Callable[[str], tuple[Block, np.ndarray]]:
    """read(path) -> the block of a file over the window `loglam`, and which of its rows are selected, bool (N,)."""
    quasars = systems.of(config).QUASARS

    def read(path: str) -> tuple[Block, np.ndarray]:
        block = read_block(path, loglam, quasars)
        block = block if catalogue is None else join(block, catalogue)
        return annotate(drop_unsearchable(block, loglam, config), config.select)

    return read


def drop_unsearchable(block: Block, loglam: np.ndarray, config: Any) -> Block:
    """The block over `loglam` (P,) without the data of spectra that have no good pixel where lines are looked for."""
    low, high = config.data.window
    wave = grid.wave(loglam)
    looked = np.asarray(systems.of(config).searched(wave, block.z[:, None])) & (wave >= low) & (wave <= high)
    seen = ((block.ivar > 0) & looked).any(axis=1)
    if seen.all():
        return block
    _, reason = select(block.table, config.select)  # of a star it is that it is one
    status = np.where(~seen, np.where(reason == "", NOT_SEARCHED, reason), block.table["status"])
    return block._replace(ivar=np.where(seen[:, None], block.ivar, 0), table={**block.table, "status": status})


def annotate(block: Block, cuts: Any) -> tuple[Block, np.ndarray]:
    """The block with its status completed by the pre-selection, and which rows are selected, bool (N,)."""
    selected, reason = select(block.table, cuts)
    selected = selected & block.has_data
    status = np.where(selected, OK, reason)
    return block._replace(table={**block.table, "status": status}), selected


def read_ahead(
    paths: Iterable[Any], read: Callable[[Any], Any], readers: int, queue: int
) -> Generator[Any, None, None]:
    """read(path) of every path in order, by `readers` threads that are at most `queue` files ahead."""
    waiting: collections.deque = collections.deque()
    pool = concurrent.futures.ThreadPoolExecutor(readers)
    try:
        for path in paths:
            waiting.append(pool.submit(read, path))
            if len(waiting) >= max(queue, 1):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def cut(blocks: Iterable[tuple[Block, np.ndarray]], start: Position, size: int) -> Iterator[tuple]:
    """Pieces of `size` rows (the last may be shorter) across file borders: (block, selected, position behind it)."""
    parts: list[tuple[Block, np.ndarray]] = []
    held = 0
    position = start
    for number, (block, selected) in enumerate(blocks, start.file):
        row = start.row if number == start.file else 0
        while row < len(selected):
            rows = slice(row, row + size - held)
            parts.append((block.take(rows), selected[rows]))
            held += len(parts[-1][1])
            row += len(parts[-1][1])
            position = Position(number, row) if row < len(selected) else Position(number + 1, 0)
            if held == size:
                yield *_merge(parts), position
                parts, held = [], 0
    if parts:
        yield *_merge(parts), position


def _merge(parts: list[tuple[Block, np.ndarray]]) -> tuple[Block, np.ndarray]:
    blocks, selected = zip(*parts, strict=True)
    return concatenate(list(blocks)), np.concatenate(selected)


def pad(batch: dict[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Rows of zeros up to `size`, so that every batch has one shape and nothing is compiled twice."""
    missing = size - len(batch["z"])
    return {name: np.pad(x, [(0, missing)] + [(0, 0)] * (x.ndim - 1)) for name, x in batch.items()}


def score_batches(pieces: Iterable[tuple], scorer: Scorer, size: int) -> Iterator[tuple[dict, Position]]:
    """Columns of COLUMNS and position of each piece, in order; AHEAD pieces are on the device."""
    in_flight: collections.deque = collections.deque()
    for block, selected, position in pieces:
        in_flight.append((block, selected, scorer.predict(pad(block.batch(), size)), position))
        if len(in_flight) > AHEAD:
            block, selected, out, position = in_flight.popleft()
            yield _columns(block, selected, out, scorer.messages), position
    for block, selected, out, position in in_flight:
        yield _columns(block, selected, out, scorer.messages), position


def _columns(block: Block, selected: np.ndarray, out: dict, messages: dict[int, str]) -> dict[str, np.ndarray]:
    """Rows of the table; a spectrum without a good pixel has no score, whatever came out for its zeros."""
    num, good = len(selected), block.has_data
    out = {name: np.asarray(x)[:num] for name, x in jax.device_get(out).items()}
    out = {**dict.fromkeys(("kind", "z_source"), np.full(num, np.nan)), **out}
    numbers = ("score", "wave", "snr", "kind", "z_source")
    scores = {name: np.where(good, out[name], np.nan).astype(np.float32) for name in numbers}
    status = block.table["status"]
    if "status" in out:
        said = np.array([messages[int(code)] for code in out["status"]])
        status = np.where((status == OK) & (said != ""), said, status)
    several = list_lines(out, good) if "waves" in out else dict.fromkeys(("waves", "line_scores"), [[]] * num)
    columns = {**block.table, **scores, "selected": selected, "status": status, "cut": np.full(num, "")}
    columns |= {name: to_objects(values) for name, values in several.items()}
    return {name: columns[name] for name in COLUMNS}


def list_lines(out: dict[str, np.ndarray], good: np.ndarray) -> dict[str, list[np.ndarray]]:
    """waves and line_scores: of each object those of out["waves"], out["logits"] (N, K) above LEAST_SCORE; N lists."""
    scores = special.expit(out["logits"].astype(np.float64))
    kept = (scores > LEAST_SCORE) & good[:, None]
    kept[:, 0] |= good  # the best, always
    chosen = {"waves": out["waves"], "line_scores": scores}
    return {n: [x[k] for x, k in zip(values.astype(np.float32), kept, strict=True)] for n, values in chosen.items()}


def to_objects(values: list) -> np.ndarray:
    """An (N,) array of N lists, whatever their lengths."""
    out = np.empty(len(values), object)
    for i, each in enumerate(values):
        out[i] = each
    return out


def _counting(
    scored: Iterable[tuple[dict, Position]], start: Position, progress: Progress
) -> Iterator[tuple[dict, Position]]:
    """The scored pieces, each moving the bar by the files that end in it: a file that is read is not yet done."""
    rows, files = 0, start.file
    for columns, position in scored:
        rows += len(columns["row"])
        progress.note(f"{rows} spectra")
        if position.file > files:
            progress.advance(position.file - files)
            files = position.file
        yield columns, position


def gather(scored: Iterable[tuple[dict, Position]], rows: int) -> Iterator[tuple[dict[str, np.ndarray], Position]]:
    """Shards of `rows` rows (the last may be shorter), and the position behind each."""
    parts: list[dict[str, np.ndarray]] = []
    position = Position(0, 0)
    for columns, position in scored:
        parts.append(columns)
        if sum(len(part["row"]) for part in parts) >= rows:
            yield _stack(parts), position
            parts = []
    if parts:
        yield _stack(parts), position


def _stack(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
