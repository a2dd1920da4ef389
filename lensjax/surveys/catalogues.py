"""Catalogues: one documented table as .fits, .ecsv, .vot and .parquet, which astropy and TOPCAT read; users' own."""

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import replacing

Columns = dict[str, np.ndarray]
Described = dict[str, tuple[str, str, str]]

VOTABLE = "1.3"  # later versions forbid Angstrom and erg
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
TEXT_LENGTH = 24  # of text columns at least, so that none has length zero
TEXTS = {".csv": "ascii.csv", ".tsv": "ascii.tab", ".txt": "ascii", ".dat": "ascii"}  # which astropy does not guess
MARGIN = 1e-6  # of the last digit: what binary fractions fall short of a decimal one


def iau_name(ra: float, dec: float) -> str:
    """JHHMMSS.ss+DDMMSS.s of J2000 degrees: truncated, not rounded, as the IAU asks and Table 1 of Li et al. does."""
    if not (np.isfinite(ra) and np.isfinite(dec)):
        return ""
    time = int(np.floor(ra % 360 / 15 * 360_000 + MARGIN)) % (24 * 360_000)
    arc = int(np.floor(abs(dec) * 36_000 + MARGIN))
    sign = "-" if dec < 0 else "+"
    hours, minutes, seconds = time // 360_000, time // 6_000 % 60, time % 6_000
    return (
        f"J{hours:02d}{minutes:02d}{seconds // 100:02d}.{seconds % 100:02d}"
        f"{sign}{arc // 36_000:02d}{arc // 600 % 60:02d}{arc % 600 // 10:02d}.{arc % 10}"
    )


def make_table(columns: Columns, meta: dict[str, Any], described: Described) -> Any:
    """Astropy table of those of `described` that there are, in that order, with unit, description and UCD.

    Control characters of text, which XML cannot hold, become "?".

    columns: (N,) each. meta: keys of at most 8 capitals -> text or number, for FITS's sake. described: name -> (unit,
    UCD, meaning).
    """
    from astropy.table import Column, Table

    table = Table(meta=meta)
    for name, (unit, ucd, description) in described.items():
        if name in columns:
            values = np.asarray(columns[name])
            if values.dtype.kind in "UO":
                values = np.array([CONTROL.sub("?", str(text)) for text in values.tolist()], np.str_)
                values = values.astype(f"U{max(TEXT_LENGTH, values.dtype.itemsize // 4)}")
            extra = {"ucd": ucd} if ucd else None
            table[name] = Column(values, unit=unit or None, description=description, meta=extra)
    return table


def read_table(path: str | pathlib.Path, what: str) -> Any:
    """A user's table, in any format that astropy reads; UserError, which says `what` it is, where it cannot."""
    from astropy.table import Table

    text = TEXTS.get(pathlib.Path(path).suffix.lower())
    try:  # a spreadsheet's text may begin with a byte-order mark, which is no part of the first column's name
        return Table.read(path, format=text, encoding="utf-8-sig", **_titled(path)) if text else Table.read(path)
    except Exception as error:  # astropy raises a different kind for every format
        raise UserError(
            f"{what} {path} cannot be read ({type(error).__name__}): give FITS, CSV, VOTable, or another that astropy "
            "reads."
        ) from error


def _titled(path: str | pathlib.Path) -> dict[str, int]:
    """Where the header of a CSV from SkyServer is, whose first line is the title #Table1; nothing for other text."""
    with open(path, "rb") as stream:
        return {"header_start": 1} if stream.readline().strip() == b"#Table1" else {}


def write_table(folder: pathlib.Path, stem: str, table: Any) -> list[pathlib.Path]:
    """Write stem.* into `folder`, each whole or not at all; returns the paths."""
    paths = []
    for suffix, write in WRITERS.items():
        path = folder / f"{stem}.{suffix}"
        with replacing(path) as temporary:
            write(table, temporary)
        paths.append(path)
    return paths


def _write_fits(table: Any, path: pathlib.Path) -> None:
    """With TCOMM and TUCD cards, where TOPCAT looks for description and UCD; what FITS cannot spell becomes "?"."""
    from astropy.io import fits

    table = table.copy()
    table.meta = {key: _ascii(value) if isinstance(value, str) else value for key, value in table.meta.items()}
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            table[name][:] = [_ascii(text) for text in table[name].tolist()]
    table.write(path, format="fits", overwrite=True)
    with fits.open(path, mode="update") as units:
        table_unit: Any = units[1]
        header = table_unit.header
        header["EXTNAME"] = path.name.lstrip(".").split(".")[0].upper()  # of candidates.fits, CANDIDATES
        for number, name in enumerate(table.colnames, 1):
            header[f"TCOMM{number}"] = table[name].description
            if "ucd" in table[name].meta:
                header[f"TUCD{number}"] = table[name].meta["ucd"]


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _write_votable(table: Any, path: pathlib.Path) -> None:
    """Infinite errors are respelt: astropy has +InF, which the standard does not know and other readers refuse."""
    from astropy.io.votable.tree import Info, Resource, TableElement, VOTableFile

    file, resource = VOTableFile(version=VOTABLE), Resource()
    file.resources.append(resource)
    resource.infos.extend(Info(name=key, value=str(value)) for key, value in table.meta.items())
    resource.tables.append(TableElement.from_table(file, table))
    file.to_xml(str(path))
    path.write_bytes(path.read_bytes().replace(b"<TD>+InF</TD>", b"<TD>+Inf</TD>"))


def _write_ecsv(table: Any, path: pathlib.Path) -> None:
    table.write(path, format="ascii.ecsv", overwrite=True)


def write_parquet(table: Any, path: pathlib.Path) -> None:
    """As astropy reads it back; unit, UCD and description are also on each field, as in scores.parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from astropy.table import meta, serialize

    encoded = serialize.represent_mixins_as_columns(table)
    yaml = "\n".join(meta.get_yaml_from_table(encoded))
    fields, arrays = [], []
    for name in table.colnames:
        column = table[name]
        arrays.append(pa.array(np.asarray(column)))
        known = {"unit": str(column.unit or ""), "ucd": column.meta.get("ucd", ""), "description": column.description}
        fields.append(pa.field(name, arrays[-1].type, metadata=known))
    kept = {"table_meta_yaml": yaml, "lensjax": json.dumps(dict(table.meta))}
    texts = [column for column in table.itercols() if column.dtype.kind == "U"]
    kept |= {f"table::len::{column.name}": str(column.dtype.itemsize // 4) for column in texts}
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields, metadata=kept)), path)


WRITERS: dict[str, Callable[[Any, pathlib.Path], None]] = {
    "fits": _write_fits,
    "ecsv": _write_ecsv,
    "vot": _write_votable,
    "parquet": write_parquet,
}
