"""scores.parquet, written in shards so that a killed search goes on, and joined at the end.

Each shard says, in its metadata, which search it is of (a fingerprint of input, weights and config) and where the next
one begins. A shard and the final table are each whole or absent, whenever the process is killed.
"""

import collections
import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lensjax.core.files import replacing

TABLE_NAME, FOLDER_NAME = "scores.parquet", "scores"
SHARDS = "part-*.parquet"

# Column -> (type, unit, meaning).
COLUMNS = {
    "file": (pa.string(), "", "path of the input file, as it was found"),
    "row": (pa.int32(), "", "place in the file: fiber of a plate, target of a coadd"),
    "survey": (pa.string(), "", "SDSS (I and II), BOSS, eBOSS, SDSS-V or DESI"),
    "plate": (pa.int32(), "", "SDSS plate, of SDSS-V the field; -1 if none"),
    "mjd": (pa.int32(), "d", "modified Julian date of the plate; -1 if none"),
    "fiberid": (pa.int32(), "", "fiber of SDSS or DESI; -1 if none"),
    "targetid": (pa.int64(), "", "TARGETID of DESI, CATALOGID or SDSS_ID of SDSS-V; -1 if none"),
    "ra": (pa.float64(), "deg", "right ascension of the fiber"),
    "dec": (pa.float64(), "deg", "declination of the fiber"),
    "z": (pa.float64(), "", "redshift of the pipeline; NaN if unknown"),
    "zwarning": (pa.int64(), "", "flags of the pipeline's redshift; 0 = good"),
    "class": (pa.string(), "", "class of the pipeline: GALAXY, QSO, STAR"),
    "subclass": (pa.string(), "", "subclass of the pipeline"),
    "sky": (pa.bool_(), "", "a fiber on blank sky: the control sample"),
    "selected": (pa.bool_(), "", "passed the pre-selection (config.select)"),
    "score": (pa.float32(), "", "0 to 1, higher is more line-like; NaN if not scored"),
    "wave": (pa.float32(), "Angstrom", "vacuum wavelength of the best line; NaN if not scored"),
    "snr": (pa.float32(), "", "signal-to-noise of that line; NaN if not scored"),
    "kind": (pa.float32(), "", "chance of the first of two kinds, config.model.kinds; NaN where none are told apart"),
    "z_source": (
        pa.float32(),
        "",
        "redshift of the source if the line is what kind says; Lyman-alpha where kind is NaN",
    ),
    "waves": (pa.list_(pa.float32()), "Angstrom", "of every line of the object that was told apart, best first"),
    "line_scores": (pa.list_(pa.float32()), "", "score of each of these"),
    "status": (pa.string(), "", "ok, or why the object is not selected or has no score"),
    "cut": (
        pa.string(),
        "",
        "first cut that took the hit; candidate, or on sky control, if none; empty: no hit",
    ),
}


class Position(NamedTuple):
    """Where a search stands: files before `file` are done, and `row` rows of that one."""

    file: int
    row: int


def schema(metadata: dict[str, Any]) -> pa.Schema:
    """Arrow schema with unit and description of every column; `metadata` is kept as JSON under b"lensjax"."""
    fields = [
        pa.field(name, dtype, metadata={"unit": unit, "description": text})
        for name, (dtype, unit, text) in COLUMNS.items()
    ]
    return pa.schema(fields, metadata={"lensjax": json.dumps(metadata, sort_keys=True)})


def read_metadata(path: pathlib.Path) -> dict[str, Any]:
    """What `schema` kept in a table; {} for a missing file and for one of other origin."""
    try:
        kept = pq.read_schema(path).metadata or {}
        return json.loads(kept.get(b"lensjax", b"{}"))
    except (OSError, pa.ArrowInvalid, ValueError):
        return {}


class Shards:
    """The shards of one search under `workdir`/scores; those of another search are removed on opening.

    fingerprint: of input, weights and config. scorer: its identity, kept with the table. replaced: whether results of
    another search were found.
    """

    def __init__(self, workdir: str | pathlib.Path, fingerprint: str, scorer: str = ""):
        self.folder = pathlib.Path(workdir) / FOLDER_NAME
        self.table = pathlib.Path(workdir) / TABLE_NAME
        self.fingerprint, self.scorer = fingerprint, scorer
        self.finished = read_metadata(self.table).get("fingerprint") == fingerprint
        self._paths, self.position = self._whole()
        others = self.table.exists() or bool(set(self.folder.glob(SHARDS)).difference(self._paths))
        self.replaced = others and not self.finished
        clear(self.folder, self._paths)
        for path in self.table.parent.glob(f".{self.table.stem}.*.tmp.parquet"):  # of killed searches
            path.unlink()

    def _whole(self) -> tuple[list[pathlib.Path], Position]:
        """The unbroken run of shards of this search from the first on, and where the next begins."""
        paths, position = [], Position(0, 0)
        while True:
            path = self._path(len(paths))
            metadata = read_metadata(path)
            if metadata.get("fingerprint") != self.fingerprint:
                return paths, position
            paths.append(path)
            position = Position(*metadata["next"])

    def _path(self, number: int) -> pathlib.Path:
        return self.folder / f"part-{number:05d}.parquet"

    def write(self, columns: dict[str, np.ndarray], position: Position) -> None:
        """Add a shard: COLUMNS as (n,) arrays; `position` is where the next one begins."""
        kept = schema({"fingerprint": self.fingerprint, "next": list(position)})
        path = self._path(len(self._paths))
        with replacing(path) as temporary:
            pq.write_table(pa.table({name: columns[name] for name in COLUMNS}, schema=kept), temporary)
        self._paths.append(path)
        self.position = position

    def finish(self) -> None:
        """Join the shards to scores.parquet, one in memory at a time, then remove them. Harmless if done before."""
        if not self.finished:
            kept = schema({"fingerprint": self.fingerprint, "scorer": self.scorer})
            with replacing(self.table) as temporary, pq.ParquetWriter(temporary, kept) as writer:
                for path in self._paths:
                    writer.write_table(pq.read_table(path).replace_schema_metadata(kept.metadata))
            self.finished = True
        clear(self.folder)


def clear(folder: pathlib.Path, kept: Iterable[pathlib.Path] = ()) -> None:
    """Remove the shards in `folder` but those `kept`, what killed runs left of others, and the folder if it is empty.

    Other files are the user's and stay.
    """
    for path in {*folder.glob(SHARDS), *folder.glob(f".{SHARDS}")}.difference(kept):
        path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()


def write_cuts(path: pathlib.Path, index: np.ndarray, cut: np.ndarray) -> None:
    """Set the column `cut` of a scores.parquet: the text cut (M,) on the rows index (M,), empty on all others.

    The table is copied a piece at a time, and not touched where nothing changes.
    """
    kept = schema({**read_metadata(path), "cuts": _digest(index, cut)})
    if read_metadata(path) == json.loads(kept.metadata[b"lensjax"]):
        return
    named = dict(zip(index.tolist(), cut.tolist(), strict=True))
    start = 0
    with pq.ParquetFile(path) as table, replacing(path) as temporary, pq.ParquetWriter(temporary, kept) as writer:
        for group in range(table.num_row_groups):
            piece = table.read_row_group(group)
            columns = {name: piece.column(name) for name in COLUMNS if name != "cut"}
            columns["cut"] = pa.array([named.get(start + i, "") for i in range(len(piece))], pa.string())
            writer.write_table(pa.table(columns, schema=kept))
            start += len(piece)


def _digest(index: np.ndarray, cut: np.ndarray) -> str:
    return hashlib.sha256(json.dumps([index.tolist(), cut.tolist()]).encode()).hexdigest()


def summarise(path: pathlib.Path, threshold: float) -> dict[str, int]:
    """Counts over a table: rows, scored, hits (selected, score above the threshold), problems (rows without score)."""
    counts = {"rows": 0, "scored": 0, "hits": 0, "problems": 0}
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(columns=["score", "selected"]):
            score = batch.column("score").to_numpy()
            selected = batch.column("selected").to_numpy(zero_copy_only=False)
            scored = ~np.isnan(score)
            counts["rows"] += len(score)
            counts["scored"] += int(scored.sum())
            counts["hits"] += int(np.sum(selected & (score > threshold)))
            counts["problems"] += int((~scored).sum())
    return counts


def why_none_selected(path: pathlib.Path) -> str:
    """The most frequent status of a table where no object is selected, "" where one is or there are none."""
    statuses: collections.Counter[str] = collections.Counter()
    with pq.ParquetFile(path) as table:
        for batch in table.iter_batches(columns=["status", "selected"]):
            if batch.column("selected").true_count:
                return ""
            statuses.update(batch.column("status").to_pylist())
    return max(statuses, key=lambda status: statuses[status], default="")
