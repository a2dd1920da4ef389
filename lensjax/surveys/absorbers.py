"""Catalogues of Mg II absorbers, and the truth that they give to spectra: the same arrays that the simulator gives.

Column names of the JHU-SDSS catalogue (Zhu & Menard 2013, ApJ 770, 130), of DESI's (Napolitano et al. 2023, AJ 166, 99)
and of qsoabsfind are known.
"""

import pathlib
from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.physics import grid, lines, quasar
from lensjax.surveys.block import Block
from lensjax.surveys.catalogues import read_table
from lensjax.surveys.tables import check_whole

ALIASES = {
    "plate": ("PLATE",),
    "mjd": ("MJD",),
    "fiberid": ("FIBER", "FIBERID"),
    "targetid": ("TARGETID",),
    "z": ("ZQSO", "Z_QSO"),
    "z_abs": ("ZABS", "Z_ABS", "Z_MGII"),
    "ew_2796": ("REW_MGII_2796", "EW_2796", "MGII_2796_EW"),
    "ew_2803": ("REW_MGII_2803", "EW_2803", "MGII_2803_EW"),
    "error_2796": ("ERR_REW_MGII_2796", "EW_2796_ERR", "EW_2796_ERROR", "MGII_2796_EW_ERR", "MGII_2796_EW_ERROR"),
    "error_2803": ("ERR_REW_MGII_2803", "EW_2803_ERR", "EW_2803_ERROR", "MGII_2803_EW_ERR", "MGII_2803_EW_ERROR"),
}
WHO = ("plate", "mjd", "fiberid")
SLOTS = 3  # absorbers of a spectrum that are kept, the strongest
LEAST_EW = 0.3  # A at rest: weaker ones are no absorbers of the sample (Zhao et al. 2019, section 2.1)
TRUTH = ("label", "kind", "z_abs", "ew_2796", "ew_2803", "absorber_snr", "pixel_label", "wave", "snr")

Columns = dict[str, np.ndarray]


def read_absorbers(path: str) -> Columns:
    """One row (M,) for each absorber, under the names of ALIASES; what the table does not tell is NaN.

    z: of the quasar. Equivalent widths and their errors: A at rest. plate, mjd, fiberid, or targetid: int64. Tables of
    quasars, with a row of several absorbers each, are spread out. Rows without a redshift are left out. UserError for a
    table that cannot be read, has no known column of redshift, width or object, or no absorber.
    """
    if not path:
        raise UserError("config.data.absorbers.catalogue is empty: give a table of absorbers, FITS or CSV")
    table = _read_table(pathlib.Path(path).expanduser())
    for line in ("2796", "2803"):  # DESI: an error each way
        ends = [table[f"EW_{line}_ERR_{end}"] for end in ("LOW", "HIGH") if f"EW_{line}_ERR_{end}" in table]
        if len(ends) == 2:
            table.setdefault(f"EW_{line}_ERR", np.abs(ends).mean(0))
    known = {name: _first(table, aliases) for name, aliases in ALIASES.items()}
    known = {name: column for name, column in known.items() if column is not None}
    lacking = [name for name in ("z_abs", "ew_2796") if name not in known]
    if lacking or not (all(name in known for name in WHO) or "targetid" in known):
        needed = ", ".join(" or ".join(ALIASES[name]) for name in lacking) or "PLATE, MJD and FIBER, or TARGETID"
        raise UserError(f"the catalogue {path} has the columns {sorted(table)}: expected {needed}")
    several = known["z_abs"].shape
    spread = {name: _spread(path, name, column, several) for name, column in known.items()}
    for name in ("z", "ew_2803", "error_2796", "error_2803"):
        spread.setdefault(name, np.full(len(spread["z_abs"]), np.nan))
    for name in ("error_2796", "error_2803"):
        spread[name] = np.where(spread[name] > 0, spread[name], np.nan)
    real = np.isfinite(spread["z_abs"]) & (spread["z_abs"] > 0) & np.isfinite(spread["ew_2796"])
    if not real.any():
        raise UserError(f"the catalogue {path} has no row with a redshift and an equivalent width: check its columns")
    return {name: column[real].astype(np.int64 if name in (*WHO, "targetid") else np.float64)
            for name, column in spread.items()}  # fmt: skip


def _read_table(path: pathlib.Path) -> Columns:
    """All columns, names in capitals, masked values NaN or -1."""
    if not path.is_file():
        raise UserError(f"the catalogue {path} is no file: give a table of absorbers, FITS or CSV")
    table = read_table(path, "the catalogue")
    columns = {name.upper(): np.ma.asarray(table[name]) for name in table.colnames}
    check_whole(columns.get("TARGETID"), f"the catalogue {path}")
    kinds = {"f": (np.float64, np.nan), "i": (np.int64, -1), "u": (np.int64, -1)}
    numbers = {name: column for name, column in columns.items() if column.dtype.kind in kinds}
    return {name: np.ma.filled(x.astype(kinds[x.dtype.kind][0]), kinds[x.dtype.kind][1]) for name, x in numbers.items()}


def _first(table: Columns, aliases: tuple[str, ...]) -> np.ndarray | None:
    return next((table[alias] for alias in aliases if alias in table), None)


def _spread(path: str, name: str, column: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The column as one value for each absorber: repeated where it is of the quasar."""
    if column.shape == shape:
        return column.ravel()
    if column.shape != shape[:1]:
        raise UserError(f"the catalogue {path} has {name} of shape {column.shape} beside z_abs of shape {shape}")
    return np.repeat(column, int(np.prod(shape[1:])))


def plate_key(table: Columns) -> np.ndarray:
    """One integer for plate, MJD and fiber, (N,)."""
    plate, mjd, fiber = (table[name].astype(np.int64) for name in WHO)
    return (plate << 40) | (mjd << 16) | fiber


def target_key(table: Columns) -> np.ndarray:
    """TARGETID, (N,)."""
    return table["targetid"].astype(np.int64)


def match(table: Columns, catalogue: Columns) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of a spectrum and an absorber: rows of `table` (Block.table), rows of `catalogue`; by plate, MJD and fiber,
    or by TARGETID where the catalogue has that.
    """
    use_id = "targetid" in catalogue and ("plate" not in catalogue or (catalogue["targetid"] > 0).any())
    key = target_key if use_id else plate_key
    keys = key(catalogue)
    order, mine = np.argsort(keys, kind="stable"), key(table)
    first, last = (np.searchsorted(keys, mine, side, sorter=order) for side in ("left", "right"))
    number = last - first
    spectra = np.repeat(np.arange(len(mine)), number)
    within = np.arange(len(spectra)) - np.repeat(np.cumsum(number) - number, number)
    return spectra, order[first[spectra] + within]


def label_block(block: Block, catalogue: Columns, loglam: np.ndarray) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """The truth of N spectra on the window `loglam` (P,): what the catalogue says (Zhao et al. 2019, section 2.1).

    An absorber counts if W2796 > LEAST_EW, its line is in the search window, both lines are on the pixels, and z_abs <
    z of the quasar. A spectrum is positive with one of these, negative if the catalogue lists nothing for it, neither
    if it lists only others. Unreadable spectra, sky, and what its survey holds for no quasar are neither.

    Returns:
        Truth by the names of TRUTH and z, as `sims.mgii` gives it, float32: SLOTS places, strongest first, 0 where
        there is none or the catalogue does not say; absorber_snr is of both widths over their errors. And bool (N,):
        positive, usable (positive or negative).
    """
    spectra, absorbers = match(block.table, catalogue)
    found = {name: catalogue[name][absorbers] for name in ALIASES if name in catalogue}
    z = np.where(block.z > 0, block.z, 0.0).astype(np.float64)
    np.maximum.at(z, spectra, np.where((z[spectra] == 0) & np.isfinite(found["z"]), found["z"], 0.0))
    observed, end = lines.MGII[0] * (1 + found["z_abs"]), grid.wave(loglam[[0, -1]])
    rest = observed / (1 + z[spectra])
    good = (found["ew_2796"] > LEAST_EW) & (rest > quasar.WINDOW[0]) & (rest < quasar.WINDOW[1])
    good &= (observed > end[0]) & (observed * lines.MGII[1] / lines.MGII[0] < end[1]) & (found["z_abs"] < z[spectra])
    truth = _fill(spectra[good], {name: column[good] for name, column in found.items()}, len(z), loglam)
    searched = (lines.MGII[1] * (1 + z) > end[0]) & (quasar.WINDOW[0] * (1 + z) < end[1]) & (z > 0)
    known = (block.table["status"] == "") & ~block.table["sky"] & np.isin(block.table["class"], ("QSO", ""))
    usable = known & searched & block.has_data
    positive = truth["label"] > 0
    listed = np.bincount(spectra, minlength=len(z)) > 0
    return {**truth, "z": z.astype(np.float32)}, positive & usable, (positive | ~listed) & usable


def _fill(spectra: np.ndarray, found: Columns, number: int, loglam: np.ndarray) -> Columns:
    """Truth (number, ...) from absorbers (M,) and the spectra (M,) that they belong to."""
    snr = np.hypot(*(np.nan_to_num(found[f"ew_{line}"] / found[f"error_{line}"], posinf=0.0) for line in (2796, 2803)))
    order = np.lexsort((-found["ew_2796"], -snr, spectra))
    spectra, found, snr = spectra[order], {name: column[order] for name, column in found.items()}, snr[order]
    first = np.searchsorted(spectra, spectra)
    slot = np.arange(len(spectra)) - first
    kept = slot < SLOTS
    place = (spectra[kept], slot[kept])
    truth = {name: np.zeros((number, SLOTS), np.float32) for name in ("z_abs", "ew_2796", "ew_2803", "absorber_snr")}
    for name, column in {**found, "absorber_snr": snr}.items():
        if name in truth:
            truth[name][place] = np.nan_to_num(column[kept])
    pixel = np.round(grid.pixel(lines.MGII[0] * (1 + found["z_abs"]), loglam)).astype(int)
    marked = np.zeros((number, len(loglam)), np.float32)
    marked[place[0], pixel[kept]] = 1.0
    label = (truth["z_abs"][:, 0] > 0).astype(np.float32)
    wave = (label * lines.MGII[0] * (1 + truth["z_abs"][:, 0])).astype(np.float32)
    return {**truth, "pixel_label": marked, "label": label, "kind": 0 * label, "wave": wave,
            "snr": truth["absorber_snr"][:, 0]}  # fmt: skip
