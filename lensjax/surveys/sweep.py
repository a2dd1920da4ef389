"""Columns of the Legacy Surveys' catalogues (sweep, tractor) and of cutout files under one set of names."""

import numpy as np

from lensjax.core.errors import UserError
from lensjax.surveys.block import BadFile
from lensjax.surveys.fits import column_names, open_fits, read_columns

# Our name -> the names it goes by, capitals, in order of preference.
SCALARS = {
    "ra": ("RA", "TARGET_RA", "RA_DEG"),
    "dec": ("DEC", "TARGET_DEC", "DEC_DEG"),
    "ebv": ("EBV", "E_BV", "SFD_EBV"),
    "z_spec": ("Z_SPEC", "ZSPEC", "SPECZ"),
    "z_phot": ("Z_PHOT_MEDIAN", "Z_PHOT", "ZPHOT", "Z_PHOT_MEAN"),
}
IDENTITIES = {"release": ("RELEASE",), "brickid": ("BRICKID",), "objid": ("OBJID",), "inds": ("INDS",)}
IDENTITIES |= {"label": ("LABEL",)}  # 1 a lens, 0 none, as data/inject_arcs.py writes it
TEXTS = {"type": ("SOURCE_TYPE", "TYPE", "MORPHTYPE")}
VECTORS = ("flux", "psfsize", "psfdepth", "nobs")  # one value a band: FLUX (N, B), or FLUX_G, FLUX_R, FLUX_Z
MISSING = -99.0


def wanted_columns(bands: str = "grz") -> list[str]:
    """Names, in capitals, of all columns that `standardise` can use."""
    single = [name for names in (*SCALARS.values(), *IDENTITIES.values(), *TEXTS.values()) for name in names]
    return single + [name.upper() for name in VECTORS] + [f"{n}_{b}".upper() for n in VECTORS for b in bands]


def standardise(columns: dict[str, np.ndarray], num: int, bands: str = "grz") -> dict[str, np.ndarray]:
    """All columns under our names, of catalogue columns in any case; what is missing is NaN, -1 or "".

    Returns ra, dec (degrees), ebv (mag), z_spec, z_phot: (num,) float64; release, brickid, objid, inds, label: (num,)
    int64; type (num,) text; flux (nanomaggies, dust included), psfsize (FWHM, arcsec), psfdepth (1/nanomaggies2),
    nobs: (num, bands) float32. -99 counts as missing. Columns of another length than num are passed over.
    """
    known = {name.upper(): np.asarray(values) for name, values in columns.items()}
    known = {name: values for name, values in known.items() if values.ndim and len(values) == num}
    out: dict[str, np.ndarray] = {}
    for name, aliases in SCALARS.items():
        out[name] = _real(_first(known, aliases, np.full(num, np.nan))).reshape(num, -1)[:, 0]
    for name, aliases in IDENTITIES.items():
        out[name] = _first(known, aliases, np.full(num, -1)).astype(np.int64)
    for name, aliases in TEXTS.items():
        out[name] = _text(_first(known, aliases, np.full(num, "")))
    for name in VECTORS:
        out[name] = _vector(known, name.upper(), num, bands).astype(np.float32)
    return out


def _first(known: dict, aliases: tuple[str, ...], default: np.ndarray) -> np.ndarray:
    return next((known[alias] for alias in aliases if alias in known), default)


def _real(values: np.ndarray) -> np.ndarray:
    """float64 with NaN for what the survey calls missing."""
    values = values.astype(np.float64)
    return np.where(np.isfinite(values) & (values != MISSING), values, np.nan)


def _text(values: np.ndarray) -> np.ndarray:
    texts = [v.decode("ascii", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist()]
    return np.array([text.strip() for text in texts], np.str_)


def _vector(known: dict, name: str, num: int, bands: str) -> np.ndarray:
    """(num, bands): one column of that width, or one column a band; NaN where neither is there."""
    whole = known.get(name)
    if whole is not None and whole.shape == (num, len(bands)):
        return _real(whole)
    each = [known.get(f"{name}_{band.upper()}", np.full(num, np.nan)) for band in bands]
    return np.stack([_real(column) for column in each], axis=1)


def read_sweep(path, bands: str = "grz") -> dict[str, np.ndarray]:
    """The columns of `standardise` of a sweep or tractor table; UserError where the file cannot be used.

    Only the needed columns are taken from the (memory-mapped) file.
    """
    try:
        units = [unit for unit in open_fits(path) if column_names(unit)]
        columns = read_columns(units[0], wanted_columns(bands)) if units else {}
    except BadFile as error:
        raise UserError(f"the catalogue {path} cannot be used: {error}; give a sweep or tractor FITS table") from None
    if not {"RA", "DEC"} <= set(columns):
        raise UserError(
            f"the catalogue {path} has the columns {sorted(columns) or 'of no table'}: expected RA, DEC, FLUX_G, ..., "
            "as in a sweep or tractor file"
        )
    return standardise(columns, len(columns["RA"]), bands)
