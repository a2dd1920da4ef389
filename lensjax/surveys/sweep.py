"""Columns of the Legacy Surveys' catalogues (sweep, tractor) and of cutout files under one set of names."""

import contextlib
from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.surveys import known
from lensjax.surveys.block import BadFile
from lensjax.surveys.fits import column_names, open_fits, read_columns

# Our name -> the names it goes by, capitals, in order of preference.
SCALARS = {
    "ra": tuple(name.upper() for name in known.RA),
    "dec": tuple(name.upper() for name in known.DEC),
    "ebv": ("EBV", "E_BV", "SFD_EBV"),
    "z_spec": ("Z_SPEC", "ZSPEC", "SPECZ"),
    "z_phot": ("Z_PHOT_MEDIAN", "Z_PHOT", "ZPHOT", "Z_PHOT_MEAN"),
}
IDENTITIES = {"release": ("RELEASE",), "brickid": ("BRICKID",), "objid": ("OBJID",), "inds": ("INDS",)}
IDENTITIES |= {"label": ("LABEL",), "host": ("HOST",)}  # of inject_arcs.py: 1 a lens, 0 none; row of the galaxy
TEXTS = {"type": ("SOURCE_TYPE", "TYPE", "MORPHTYPE")}
VECTORS = ("flux", "psfsize", "psfdepth", "nobs")  # one value a band: FLUX (N, B), or FLUX_G, FLUX_R, FLUX_Z
MISSING = -99.0


def wanted_columns() -> list[str]:
    """Names, in capitals, of all columns that `standardise` can use."""
    single = [name for names in (*SCALARS.values(), *IDENTITIES.values(), *TEXTS.values()) for name in names]
    return single + [name.upper() for name in VECTORS] + [f"{n}_{b}".upper() for n in VECTORS for b in "grz"]


def standardise(columns: dict[str, np.ndarray], num: int, bands: str = "grz") -> dict[str, np.ndarray]:
    """All columns under our names, of catalogue columns in any case; what is missing is NaN, -1 or "".

    Returns ra, dec (degrees), ebv (mag), z_spec, z_phot: (num,) float64; release, brickid, objid, inds, label, host:
    (num,) int64; type (num,) text; flux (nanomaggies, dust included), psfsize (FWHM, arcsec), psfdepth
    (1/nanomaggies2), nobs: (num, bands) float32. -99, masked, not finite, text where a number belongs, and fractions
    where a whole number does count as missing. Columns of another length than num, or of vectors without an element,
    are passed over.
    """
    found = {name.upper(): _unmasked(values) for name, values in columns.items()}
    found = {n: values for n, values in found.items() if values.shape[:1] == (num,) and 0 not in values.shape[1:]}
    out: dict[str, np.ndarray] = {}
    for name, aliases in SCALARS.items():
        out[name] = _real(_first(found, aliases, np.full(num, np.nan)))
    for name, aliases in IDENTITIES.items():
        out[name] = _whole(_first(found, aliases, np.full(num, -1)))
    for name, aliases in TEXTS.items():
        out[name] = _text(_first(found, aliases, np.full(num, "")))
    for name in VECTORS:
        out[name] = _vector(found, name.upper(), num, bands).astype(np.float32)
    return out


def _first(found: dict, aliases: tuple[str, ...], default: np.ndarray) -> np.ndarray:
    """The first of these columns that is there, (num,); of a column of vectors their first element."""
    values = next((found[alias] for alias in aliases if alias in found), default)
    while values.ndim > 1:
        values = values[:, 0]
    return values


def _unmasked(values: Any) -> np.ndarray:
    """The values as a plain array, masked numbers MISSING and masked text empty."""
    if not np.ma.isMaskedArray(values):
        return np.asarray(values)
    kind = values.dtype.kind
    return np.ma.filled(values.astype(np.int64) if kind in "bu" else values, MISSING if kind in "biuf" else "")


def _real(values: np.ndarray) -> np.ndarray:
    """float64 with NaN for what the survey calls missing."""
    values = values.astype(np.float64) if values.dtype.kind in "biuf" else _parsed(values, float, np.nan)
    return np.where(np.isfinite(values) & (values != MISSING), values, np.nan)


def _whole(values: np.ndarray) -> np.ndarray:
    """int64 with -1 for what the survey calls missing, and for what is no whole number."""
    if values.dtype.kind == "f":
        values = np.where((np.abs(values) < 2.0**63) & (values == np.round(values)), values, -1)  # not so of NaN
    elif values.dtype.kind not in "biu":
        values = _parsed(values, int, -1)
    values = values.astype(np.int64)
    return np.where(values == MISSING, -1, values)


def _parsed(values: np.ndarray, kind: type, missing: float) -> np.ndarray:
    """Text, or objects, as numbers of that kind; `missing` for each that is none."""
    out = np.full(values.size, missing, np.dtype(kind))
    for i, value in enumerate(values.ravel().tolist()):
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            number = kind(value)
            out[i] = missing if isinstance(value, float) and number != value else number
    return out.reshape(values.shape)


def _text(values: np.ndarray) -> np.ndarray:
    texts = [v.decode("ascii", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
    return np.array([text.strip() for text in texts], np.str_)


def _vector(found: dict, name: str, num: int, bands: str) -> np.ndarray:
    """(num, bands): one column of that width, or one column a band; NaN where neither is there."""
    whole = found.get(name)
    if whole is not None and whole.shape == (num, len(bands)):
        return _real(whole)
    each = [_first(found, (f"{name}_{band.upper()}",), np.full(num, np.nan)) for band in bands]
    return np.stack([_real(column) for column in each], axis=1)


def read_sweep(path) -> dict[str, np.ndarray]:
    """The columns of `standardise` of a sweep or tractor table; UserError where the file cannot be used.

    Only the needed columns are taken from the (memory-mapped) file.
    """
    try:
        units = [unit for unit in open_fits(path) if column_names(unit)]
        columns = read_columns(units[0], wanted_columns()) if units else {}
    except BadFile as error:
        raise UserError(f"the catalogue {path} cannot be used: {error}; give a sweep or tractor FITS table") from None
    if not all(set(SCALARS[name]) & set(columns) for name in ("ra", "dec")):
        names = ", ".join(column_names(units[0])) if units else "of no table"
        raise UserError(f"the catalogue {path} has the columns {names}: expected RA and DEC, as in a sweep file")
    return standardise(columns, len(next(iter(columns.values()))))
