"""A read-only FITS reader for survey spectra: headers, images and binary tables, and nothing else.

Why not astropy here: it takes 60 ms to open one spec file (its 236-column catalogue row), this takes under 1 ms,
and a survey is a million files. It also says plainly where a file is cut short, and shares no state between threads.
Writing, and tiles of compressed images, where speed does not matter, are astropy's. Reference: FITS standard 4.0,
sections 3, 4, 7.3 and 10.
"""

import functools
import gzip
import math
import pathlib
import re
import zlib
from typing import NamedTuple

import numpy as np

from lensjax.surveys.block import BadFile

BLOCK = 2880  # bytes
MOST_FIELDS = 999  # of a table, by the standard
IN_MEMORY = 4_000_000  # bytes: smaller files are read whole, larger ones mapped and read where touched
PIXELS = {8: "u1", 16: ">i2", 32: ">i4", 64: ">i8", -32: ">f4", -64: ">f8"}  # BITPIX -> numpy
FORMATS = {"L": "i1", "X": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8", "C": ">c8",
           "M": ">c16", "P": ">i8", "Q": ">i8,>i8"}  # TFORM letter -> numpy  # fmt: skip


class Hdu(NamedTuple):
    """One header-data unit: `header` as Python values; where it (`begin`) and its data (`start`) lie in `buffer`."""

    header: dict
    buffer: np.ndarray
    start: int
    size: int
    begin: int = 0

    @property
    def name(self) -> str:
        """EXTNAME in capitals; empty where there is none."""
        return str(self.header.get("EXTNAME", "")).upper()

    def bytes(self) -> np.ndarray:
        """The data as bytes; BadFile where the file ends before they do."""
        if self.start + self.size > len(self.buffer):
            raise BadFile(f"truncated: {len(self.buffer)} of at least {self.start + self.size} bytes are there")
        return self.buffer[self.start : self.start + self.size]


def open_fits(path) -> list[Hdu]:
    """The units of a FITS file (plain or gzipped) in order; BadFile where not even the first is there.

    Where the file is cut short, the last unit is the one that is not whole, and its `bytes` raise BadFile.
    """
    buffer = _load(pathlib.Path(path))
    if len(buffer) == 0:
        raise BadFile("empty file: 0 bytes")
    if bytes(buffer[:9]) != b"SIMPLE  =":
        raise BadFile("not a FITS file: it does not begin with SIMPLE")
    units, at = [], 0
    while at < len(buffer):
        raw = _header_bytes(buffer, at)
        if raw is None:
            if bytes(buffer[at : at + 8]) == b"XTENSION":  # anything else may stand behind the last unit
                units.append(Hdu({}, buffer, len(buffer), BLOCK))
            break
        header = parse_header(raw)
        unit = Hdu(header, buffer, at + len(raw), _data_size(header), at)
        units.append(unit)
        at = unit.start + math.ceil(unit.size / BLOCK) * BLOCK
    if not units:
        raise BadFile(f"truncated: the file ends inside its first header, after {len(buffer)} bytes")
    return units


def is_fits(path) -> bool:
    """Whether a file begins as FITS does; a gzipped one, or one that cannot be opened, is left to `open_fits`."""
    try:
        with open(path, "rb") as stream:
            return stream.read(9).startswith((b"SIMPLE  =", b"\x1f\x8b"))
    except OSError:
        return True


def _load(path: pathlib.Path) -> np.ndarray:
    """The bytes of the file, uint8 (n,)."""
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                return np.frombuffer(stream.read(), np.uint8)
        if path.stat().st_size < IN_MEMORY:
            return np.frombuffer(path.read_bytes(), np.uint8)
        return np.memmap(path, np.uint8, "r")
    except FileNotFoundError:
        raise BadFile("no such file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise BadFile(f"cannot be read: {error}") from None


def _header_bytes(buffer: np.ndarray, start: int) -> bytes | None:
    """The header that begins at `start`, whole blocks up to the END card; None where the file ends before it."""
    for end in range(start + BLOCK, len(buffer) + 1, BLOCK):
        last = bytes(buffer[end - BLOCK : end]).rstrip(b" ")
        if last.endswith(b"END") and (len(last) - 3) % 80 == 0:
            return bytes(buffer[start:end])
    return None


@functools.lru_cache(maxsize=256)  # the catalogue header of one reduction is the same in every file
def parse_header(raw: bytes) -> dict:
    """Keyword -> str, bool, int or float; comments and cards without a value are left out."""
    text, header = raw.decode("ascii", "replace"), {}
    for at in range(0, len(text), 80):
        if text[at + 8 : at + 10] == "= ":
            header.setdefault(text[at : at + 8].rstrip(), _value(text[at + 10 : at + 80]))
    return header


def _value(text: str):
    """Python value of the right-hand side of a header card."""
    text = text.strip()
    if text.startswith("'"):
        quoted = re.match(r"'((?:[^']|'')*)", text)
        return quoted.group(1).replace("''", "'").rstrip() if quoted else ""
    text = text.split("/", 1)[0].strip()
    if text in ("T", "F"):
        return text == "T"
    for convert in (int, lambda number: float(number.replace("D", "E"))):
        try:
            return convert(text)
        except ValueError:
            pass
    return text


def _data_size(header: dict) -> int:
    """Bytes of data that follow the header, without padding."""
    axes = [_integer(header, f"NAXIS{i + 1}") for i in range(_integer(header, "NAXIS"))]
    if not axes:
        return 0
    groups, heap = (_integer({key: default} | header, key) for key, default in (("GCOUNT", 1), ("PCOUNT", 0)))
    elements = groups * (heap + math.prod(axes))
    return abs(_integer(header, "BITPIX")) // 8 * elements


def _integer(header: dict, key: str) -> int:
    value = header.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or (value < 0 and key != "BITPIX"):
        raise BadFile(f"damaged FITS header: {key} is {value!r}")
    return value


def image(unit: Hdu) -> np.ndarray:
    """The image of a unit in the file's byte order, a view where it is not scaled; BadFile where there is none."""
    header = unit.header
    if header.get("ZIMAGE") is True:
        return _decompress(unit)
    if header.get("XTENSION", "IMAGE") != "IMAGE" or not header.get("NAXIS"):
        raise BadFile(f"extension {unit.name or 'PRIMARY'} is no image")
    if header["BITPIX"] not in PIXELS:
        raise BadFile(f"damaged FITS header: BITPIX is {header['BITPIX']}")
    shape = [header[f"NAXIS{i}"] for i in range(header["NAXIS"], 0, -1)]
    values = unit.bytes().view(PIXELS[header["BITPIX"]]).reshape(shape)
    return _scaled(values, header.get("BSCALE", 1), header.get("BZERO", 0))


def _decompress(unit: Hdu) -> np.ndarray:
    """The image that is kept in the tiles of a table (FITS standard 4.0, section 10)."""
    from astropy.io import fits

    unit.bytes()  # BadFile where it is not whole
    end = unit.start + math.ceil(unit.size / BLOCK) * BLOCK
    alone = fits.PrimaryHDU().header.tostring().encode() + bytes(unit.buffer[unit.begin : end])
    try:
        with fits.HDUList.fromstring(alone) as units:
            return np.asarray(units[1].data)  # pyright: ignore[reportAttributeAccessIssue]
    except Exception as error:  # astropy raises a different kind for every compression
        raise BadFile(f"extension {unit.name} cannot be decompressed ({type(error).__name__})") from None


def _scaled(values: np.ndarray, scale: float, zero: float) -> np.ndarray:
    """values scale + zero; unsigned integers, which FITS has as signed ones and half their range as zero, are whole."""
    if scale == 1 and zero == 0:
        return values
    bits = 8 * values.dtype.itemsize
    if scale == 1 and values.dtype.kind == "i" and zero == 1 << (bits - 1):
        return values.astype(values.dtype.newbyteorder("=")).view(f"u{bits // 8}") ^ np.array(zero, f"u{bits // 8}")
    return values * float(scale) + float(zero)


def column_names(unit: Hdu) -> dict[str, int]:
    """Column name in capitals -> its number from 1; empty for a unit that is no binary table."""
    if unit.header.get("XTENSION") != "BINTABLE":
        return {}
    fields = _integer(unit.header, "TFIELDS")
    if fields > MOST_FIELDS:
        raise BadFile(f"damaged FITS header: TFIELDS is {fields}")
    return {str(unit.header.get(f"TTYPE{i}", "")).upper(): i for i in range(1, fields + 1)}


def read_columns(unit: Hdu, wanted, rows: slice = slice(None)) -> dict[str, np.ndarray]:
    """Those of the `wanted` columns (names in capitals) that a table has, native byte order, text stripped.

    rows: which of the table's; only their bytes are touched.
    """
    names = column_names(unit)
    if not names:
        return {}
    layout = _layout(tuple(str(unit.header.get(f"TFORM{i}", "")) for i in range(1, unit.header["TFIELDS"] + 1)))
    width, total = _integer(unit.header, "NAXIS1"), _integer(unit.header, "NAXIS2")
    cells = unit.bytes()[: width * total].reshape(total, width)[rows]
    return {name: _column(unit.header, cells, names[name], layout[names[name] - 1]) for name in wanted if name in names}


@functools.lru_cache(maxsize=256)
def _layout(forms: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """(first byte, repeat count, letter) of each column of a row."""
    places, at = [], 0
    for form in forms:
        match = re.match(r"(\d*)([LXBIJKAEDCMPQ])", form)
        if not match:
            raise BadFile(f"damaged FITS table: column format {form!r}")
        count, letter = int(match.group(1) or 1), match.group(2)
        places.append((at, count, letter))
        size = 1 if letter == "A" else np.dtype(FORMATS[letter]).itemsize
        at += math.ceil(count / 8) if letter == "X" else count * size
    return places


def _column(header: dict, cells: np.ndarray, number: int, place: tuple[int, int, str]) -> np.ndarray:
    """One column, (rows,) or (rows, repeat), from the rows' bytes."""
    start, count, letter = place
    size = count if letter == "A" else count * np.dtype(FORMATS[letter]).itemsize
    raw = np.ascontiguousarray(cells[:, start : start + size])
    if letter == "A":
        return _text(raw, count)
    values = raw.view(FORMATS[letter])
    if letter == "L":
        return (values == ord("T")).squeeze(axis=1) if count == 1 else values == ord("T")
    values = values.astype(values.dtype.newbyteorder("="))
    values = _scaled(values, header.get(f"TSCAL{number}", 1), header.get(f"TZERO{number}", 0))
    return values[:, 0] if count == 1 else values


def _text(raw: np.ndarray, count: int) -> np.ndarray:
    """Text cells (rows, count) of bytes as stripped str (rows,)."""
    if count == 0 or len(raw) == 0:
        return np.full(len(raw), "", np.str_)
    return np.char.strip(np.char.decode(raw.view(f"S{count}")[:, 0], "ascii", "replace"))
