"""The folder embeddings/: chunks of rows as .npy, the objects as a table. Each file is whole or absent.

`embeddings.json` appears last, when every row is there; until then the chunks are what a killed run had done.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lensjax.core.errors import UserError
from lensjax.core.files import replacing, write_text
from lensjax.data.cutouts import GRZ

FOLDER, OBJECTS, SUMMARY = "embeddings", "objects.parquet", "embeddings.json"
OK = "ok"
PIECE = 16_384  # embeddings that are looked at together


class Chunks:
    """The embeddings of `rows` objects in `folder`, written `size` rows at a time under the name of one `fingerprint`.

    Chunks of another fingerprint are removed on opening; `replaced` says that there were some.
    """

    def __init__(self, folder: pathlib.Path, rows: int, size: int, fingerprint: str):
        self.folder, self.rows, self.size, self.fingerprint = folder, rows, size, fingerprint
        mark = folder / "fingerprint.txt"
        self.replaced = mark.exists() and mark.read_text() != fingerprint
        if self.replaced:
            for path in [folder / SUMMARY, *folder.glob("part-*.npy")]:
                path.unlink(missing_ok=True)
        write_text(mark, fingerprint)

    def path(self, number: int) -> pathlib.Path:
        """File of a chunk."""
        return self.folder / f"part-{number:05d}.npy"

    def missing(self) -> list[int]:
        """Numbers of the chunks that are not there yet."""
        return [i for i in range(-(-self.rows // self.size)) if not self.path(i).exists()]

    def span(self, number: int) -> range:
        """Rows of a chunk."""
        return range(number * self.size, min((number + 1) * self.size, self.rows))

    def write(self, number: int, values: np.ndarray) -> None:
        """Write a chunk (n, D) whole."""
        with replacing(self.path(number)) as temporary:
            np.save(temporary, values)

    def finish(self, table: dict[str, np.ndarray], about: dict[str, Any], bands: str = GRZ) -> None:
        """Write the objects' table, with a status for rows without an embedding, and the summary.

        bands: of the table's columns (N, B), see `write_objects`.
        """
        first = np.concatenate([np.load(self.path(i), mmap_mode="r")[:, 0] for i in range(self.count())])
        status = np.asarray(table.get("status", np.full(self.rows, OK))).astype(object)
        status[~np.isfinite(first) & (status == OK)] = "the image has pixels that are not finite"
        write_objects(self.folder / OBJECTS, {**table, "status": status.astype(str)}, bands)
        shape = np.load(self.path(0), mmap_mode="r").shape
        whole = {"rows": self.rows, "dimensions": shape[1], "chunk_rows": self.size, "fingerprint": self.fingerprint}
        for path in self.folder.glob(".part-*.tmp.npy"):  # of killed runs, now that no process writes one
            path.unlink(missing_ok=True)
        write_text(self.folder / SUMMARY, json.dumps({**whole, **about}, indent=2))

    def count(self) -> int:
        """Number of chunks of the whole."""
        return -(-self.rows // self.size)


def write_objects(path: pathlib.Path, table: dict[str, np.ndarray], bands: str = GRZ) -> None:
    """Write columns (N,) or (N, B) to Parquet; the latter become one column a band, flux_g and so on, with mag_g.

    bands: a letter each. Columns (N, B) of bands without a name, "?", are left out.
    """
    flat = {}
    for name, values in table.items():
        values = np.asarray(values)
        if values.ndim == 1:
            flat[name] = values
        elif values.ndim == 2 and values.shape[1] == len(bands):
            flat |= {f"{name}_{band}": values[:, i] for i, band in enumerate(bands) if band != "?"}
    for band in bands:
        if f"flux_{band}" in flat and f"mag_{band}" not in flat:
            flux = np.asarray(flat[f"flux_{band}"], float)
            flat[f"mag_{band}"] = np.where(flux > 0, 22.5 - 2.5 * np.log10(np.where(flux > 0, flux, 1.0)), np.nan)
    with replacing(path) as temporary:
        pq.write_table(pa.table({name: pa.array(_text(values)) for name, values in flat.items()}), temporary)


def _text(values: np.ndarray) -> np.ndarray:
    """The same; text without what no file of text holds, as bytes of a file's name that are not UTF-8."""
    if values.dtype.kind != "U":
        return values
    return np.char.decode(np.char.encode(values, "utf-8", "replace"), "utf-8")


class Embeddings:
    """What `embed` left in workdir/embeddings. UserError where it is not there or not finished."""

    def __init__(self, workdir: str | pathlib.Path):
        self.folder = pathlib.Path(workdir) / FOLDER
        if not (self.folder / SUMMARY).is_file():
            raise UserError(f"no finished embeddings in {self.folder}: run --mode=embed with the same --workdir first.")
        self.about = json.loads((self.folder / SUMMARY).read_text())
        self.rows, self.dimensions = self.about["rows"], self.about["dimensions"]

    def objects(self, columns: list[str] | None = None) -> dict[str, np.ndarray]:
        """Columns of the objects' table as arrays (rows,). UserError for one that is not there."""
        path = self.folder / OBJECTS
        names = pq.read_schema(path).names
        for name in columns or []:
            if name not in names:
                raise UserError(f"{path} has no column {name}, only {', '.join(names)}: embed cutouts that have it.")
        table = pq.read_table(path, columns=columns)
        return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}

    def pieces(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows (n,), embeddings (n, D) float32) of all objects in turn, at most PIECE at a time."""
        for start in range(0, self.rows, PIECE):
            rows = np.arange(start, min(start + PIECE, self.rows))
            yield rows, self.take(rows)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings (n, D) float32 of rows (n,), in any order; only the chunks that are needed are opened."""
        rows = np.asarray(rows)
        out = np.empty((len(rows), self.dimensions), np.float32)
        number, within = np.divmod(rows, self.about["chunk_rows"])
        for i in np.unique(number):
            here = number == i
            out[here] = np.load(self.folder / f"part-{i:05d}.npy", mmap_mode="r")[within[here]]
        return out
