"""What a page says about scores.parquet, gathered in one pass whose memory does not grow with the table."""

import collections
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CHUNK = 65_536  # rows in memory at a time
NEEDED = ("file", "row", "plate", "mjd", "fiberid", "targetid", "ra", "dec", "z", "sky")
NEEDED += ("selected", "score", "wave", "snr", "z_source", "status")
OK = "ok"
BYTES = r"\d+(?= bytes| of at least)"  # what tells one truncated file from another
OBSERVED_BIN, REST_BIN = 10.0, 10.0  # Angstrom
SCORE_EDGES = np.linspace(0, 1, 41)
Counts = dict[str, np.ndarray]


class Tally(NamedTuple):
    """Counts over a table.

    funnel: stage -> objects that reach it. reasons: stage -> why others do not, with their number; numbers of bytes
    are left out of them.
    scores: (40,) counts over SCORE_EDGES of selected objects and, where they are a control sample, of sky fibers.
    observed, rest: (edges (B + 1,), counts (B,)) of the hits' wavelengths in Angstrom, rest of the foreground galaxy.
    best: rows of the best hits, best first.
    """

    files: int
    funnel: dict[str, int]
    reasons: dict[str, collections.Counter]
    scores: Counts
    observed: tuple[np.ndarray, np.ndarray]
    rest: tuple[np.ndarray, np.ndarray]
    best: list[dict[str, Any]]


def tally(path: pathlib.Path, threshold: float, keep: int, window: tuple[float, float], control: bool = True) -> Tally:
    """Counts over a scores.parquet. keep: number of best hits. window: Angstrom, observed. control: sky fibers too."""
    observed = np.arange(window[0], window[1] + OBSERVED_BIN, OBSERVED_BIN)
    rest = np.arange(0, window[1] + REST_BIN, REST_BIN)
    total = Tally(
        0, {}, collections.defaultdict(collections.Counter), {}, (observed, np.zeros(0)), (rest, np.zeros(0)), []
    )
    last = None
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(CHUNK, columns=list(NEEDED)):
            columns = {name: batch.column(name).to_numpy(zero_copy_only=False) for name in NEEDED}
            total = _add(total, columns, batch, threshold, keep, last)
            last = columns["file"][-1] if len(columns["file"]) else last
    scores = total.scores if control else {name: n for name, n in total.scores.items() if name != "sky"}
    return total._replace(rest=_trim(*total.rest), scores=scores)


def _add(total: Tally, columns: Counts, batch: pa.RecordBatch, threshold: float, keep: int, last: Any) -> Tally:
    """The tally with one more piece of the table. last: file of the row before, as files come in order."""
    stages = _stages(columns, threshold)
    for stage, left_out in _left_out(stages).items():
        total.reasons[stage].update(re.sub(BYTES, "…", status) for status in columns["status"][left_out].tolist())
    hits = stages["hits"]
    wave, z = columns["wave"][hits], columns["z"][hits]
    files = np.concatenate([[last], columns["file"]])
    return Tally(
        files=total.files + int(np.sum(files[1:] != files[:-1])),
        funnel={name: total.funnel.get(name, 0) + int(mask.sum()) for name, mask in stages.items()},
        reasons=total.reasons,
        scores=_add_scores(total.scores, columns),
        observed=_add_histogram(total.observed, wave),
        rest=_add_histogram(total.rest, wave / (1 + z)),
        best=_best([*total.best, *_best_of(batch, columns, hits, keep)], keep),
    )


def _stages(columns: Counts, threshold: float) -> Counts:
    """Stage -> bool (N,): the objects that reach it."""
    score, selected = columns["score"], columns["selected"]
    return {
        "found": np.ones(len(score), bool),
        "readable": ~np.isnan(score),
        "selected": selected,
        "scored": selected & (columns["status"] == OK),
        "hits": selected & (score > threshold),
    }


def _left_out(stages: Counts) -> Counts:
    """Stage -> bool (N,): the objects that reach the stage before, and not this one."""
    return {
        "readable": ~stages["readable"],
        "selected": stages["readable"] & ~stages["selected"],
        "scored": stages["selected"] & ~stages["scored"],
    }


def _add_scores(total: Counts, columns: Counts) -> Counts:
    groups = {"selected": columns["selected"], "sky": columns["sky"]}
    counts = {name: np.histogram(columns["score"][group], SCORE_EDGES)[0] for name, group in groups.items()}
    return {name: total.get(name, 0) + values for name, values in counts.items()}


def _add_histogram(total: tuple[np.ndarray, np.ndarray], values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    edges, counts = total
    more = np.histogram(values[np.isfinite(values)], edges)[0]
    return edges, counts + more if len(counts) else more


def _trim(edges: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A histogram without its empty ends, two bins of each excepted."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return edges, counts
    low, high = max(filled[0] - 2, 0), min(filled[-1] + 3, len(counts))
    return edges[low : high + 1], counts[low:high]


def _best_of(batch: pa.RecordBatch, columns: Counts, hits: np.ndarray, keep: int) -> list[dict[str, Any]]:
    rows = np.flatnonzero(hits)
    order = np.lexsort((-columns["snr"][rows], -columns["score"][rows]))  # stable: ties stay in the table's order
    return batch.take(pa.array(rows[order][:keep])).to_pylist()


def _best(rows: list[dict[str, Any]], keep: int) -> list[dict[str, Any]]:
    """The first `keep` by score, then S/N: scores near 1 are equal in float32."""
    return sorted(rows, key=lambda row: (-row["score"], -row["snr"]))[:keep]
