"""SDSS-I/II, BOSS, eBOSS and SDSS-V: spec files (lite and full), and spPlate files with the spZbest beside them.

Data model: https://data.sdss.org/datamodel (spec, spPlate, spZbest; specLite, specFull and spField of SDSS-V, DR18 to
DR20). Wavelengths are vacuum, loglam in steps of 1e-4. SDSS-V names its files spec-FIELD-MJD-CATALOGID: the row SPALL
has FIELD, MJD, CATALOGID and SDSS_ID in place of PLATE and FIBERID, and places as PLUG_RA (J2000), FIBER_RA (at the
first exposure) and RACAT (of the target); the primary header has FIELDID, and a PLATEID that is blank.
"""

import pathlib
import re

import numpy as np

from lensjax.physics import grid
from lensjax.surveys.block import BadFile, Block, make_block
from lensjax.surveys.fits import Hdu, column_names, image, open_fits, read_columns
from lensjax.surveys.tables import NO_REDSHIFT, read_standard, survey_name

BRIGHTSKY = 1 << 23  # bit of and_mask: sky level above flux + 10 x flux error
SPECTRUM = ("FLUX", "LOGLAM", "IVAR", "AND_MASK", "WDISP")


def is_spec(units: list[Hdu]) -> bool:
    """Whether this is a spec file, by its content: a table with flux on loglam (or what is left of one)."""
    return any({"FLUX"} <= set(column_names(unit)) and len(column_names(unit)) > 2 for unit in units[1:2])


def is_spplate(units: list[Hdu]) -> bool:
    """Whether this is an spPlate file, by its content: an image of a plate on a log grid."""
    return _is_log_image(units) and _has_plate(units) and not is_spfield(units)


def is_spfield(units: list[Hdu]) -> bool:
    """Whether this is an spField file of SDSS-V, by its content: no number of a plate, or targets with a CATALOGID."""
    targets = any("CATALOGID" in column_names(unit) for unit in units)
    return _is_log_image(units) and (targets or (len(units) > 2 and not _has_plate(units)))  # fewer: templates


def _has_plate(units: list[Hdu]) -> bool:
    return isinstance(units[0].header.get("PLATEID"), int)


def _is_log_image(units: list[Hdu]) -> bool:
    return units[0].header.get("NAXIS") == 2 and "COEFF0" in units[0].header


def read_spec(units: list[Hdu], path: str, loglam: np.ndarray, quasars: bool = False) -> Block:
    """The coadded spectrum of a spec file on the window `loglam` (P,): a block of one. BadFile where it is unusable.

    HDU 1 is the spectrum, HDU 2 the catalogue row (SPALL or SPECOBJ); single exposures of full files are not read.
    quasars: see `tables.standardise`, also below.
    """
    header = units[0].header
    check_header(header)
    check_units(units[1].header, "TUNIT1")
    columns = read_columns(units[1], SPECTRUM)
    index = check_loglam(columns)
    target = index - grid.index0(loglam)
    inside = (target >= 0) & (target < len(loglam))
    if not inside.any():
        lo, hi = 10.0 ** (index[[0, -1]] / grid.PER_DEX)
        raise BadFile(f"covers {lo:.0f} to {hi:.0f} A: nothing in the window")

    def on_window(name: str, fill: float) -> np.ndarray:
        out = np.full((1, len(loglam)), fill, np.float32)
        if name in columns:
            out[0, target[inside]] = columns[name][inside]
        return out

    masked = np.zeros((1, len(loglam)), bool)
    if "AND_MASK" in columns:
        masked[0, target[inside]] = columns["AND_MASK"][inside] & BRIGHTSKY != 0
    known = {**header_row(header), **catalogue_row(units, quasars), "file": path}
    known["survey"] = "SDSS-V" if names_field(units) else survey_name(known.get("plate", -1), known.get("mjd", -1))
    return make_block(on_window("FLUX", 0), on_window("IVAR", 0), on_window("WDISP", 1), masked, known, loglam)


def check_loglam(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Integer places (n,) of a spec file's pixels on the global grid; BadFile where it has no usable wavelengths."""
    for name in ("LOGLAM", "IVAR"):
        if name not in columns:
            raise BadFile(
                f"no {name.lower()} column: the {'wavelengths' if name == 'LOGLAM' else 'errors'} are unknown"
            )
    exact = columns["LOGLAM"].astype(np.float64) * grid.PER_DEX
    if len(exact) == 0:
        raise BadFile("the spectrum has no pixels")
    index = np.rint(exact)
    if not np.isfinite(exact).all() or np.abs(exact - index).max() > 0.2 or (np.diff(index) < 1).any():
        raise BadFile("loglam is not a rising list of multiples of 1e-4: not a coadd on the survey's grid")
    return index.astype(np.int64)


def check_header(header: dict) -> None:
    """BadFile unless wavelengths are vacuum, flux is in 1e-17 erg/s/cm2/A and the grid step is 1e-4; absent is fine."""
    if header.get("VACUUM", True) is False or str(header.get("AIRORVAC", "vac")).strip().lower() == "air":
        raise BadFile("wavelengths are in air: expected vacuum")
    check_units(header, "BUNIT")
    step = header.get("COEFF1", grid.STEP)
    if not isinstance(step, float | int) or abs(step - grid.STEP) > 1e-9:
        raise BadFile(f"the grid step COEFF1 is {step}: expected {grid.STEP}")


def check_units(header: dict, key: str) -> None:
    """BadFile where `key` names a unit of flux other than 1e-17 erg/s/cm2/A; absent is fine."""
    unit = str(header.get(key, ""))
    text = unit.lower().replace(" ", "")
    right = "erg" in text and "ang" in text and re.search(r"(10\*\*|10\^|1\.?0?e)\(?-17", text)
    if text and not right:
        raise BadFile(f"flux is in {unit!r}: expected 1e-17 erg/s/cm2/A")


def header_row(header: dict) -> dict:
    """What the primary header of a spec file says about the object, where the catalogue row is missing."""
    keys = {"FIELDID": "plate", "PLATEID": "plate", "MJD": "mjd", "FIBERID": "fiberid", "CATALOGID": "targetid"}
    keys |= {"PLUG_RA": "ra", "PLUG_DEC": "dec"}
    return {name: header[key] for key, name in keys.items() if isinstance(header.get(key), int | float)}


def names_field(units: list[Hdu]) -> bool:
    """Whether the catalogue row names its object as SDSS-V does: by FIELD or CATALOGID, without a PLATE."""
    names = set(column_names(units[2])) if len(units) > 2 else set()
    return bool({"FIELD", "CATALOGID"} & names) and "PLATE" not in names


def catalogue_row(units: list[Hdu], quasars: bool = False) -> dict:
    """The catalogue row of a spec file under our names; a status where it is missing or damaged."""
    try:
        units[-1].bytes()
        row = read_standard(units[2], quasars) if len(units) > 2 else {}
    except BadFile as error:
        return {"status": f"{error}: {NO_REDSHIFT}"}
    if "z" not in row or len(row["z"]) != 1:
        return {"status": f"no SPALL/SPECOBJ row: {NO_REDSHIFT}"}
    return {name: value[0] for name, value in row.items()}


def read_spplate(units: list[Hdu], path: str, loglam: np.ndarray, quasars: bool = False) -> Block:
    """All fibers of an spPlate file on the window `loglam` (P,), with the fits of spZbest; BadFile where unusable.

    Where spZbest is missing the spectra are there, their redshift is not, and each fiber's status says so.
    """
    header = units[0].header
    check_header(header)
    units[-1].bytes()  # BadFile where the end of the file is missing
    if len(units) < 6:
        raise BadFile(f"{len(units)} extensions: expected flux, ivar, andmask, ormask, wavedisp and plugmap")
    num, length = header["NAXIS2"], header["NAXIS1"]
    start = round(float(header["COEFF0"]) * grid.PER_DEX)
    source, target = grid.overlap(start, length, grid.index0(loglam), len(loglam))
    if source.start == source.stop:
        lo, hi = 10.0 ** (np.array([start, start + length - 1]) / grid.PER_DEX)
        raise BadFile(f"covers {lo:.0f} to {hi:.0f} A: nothing in the window")

    def on_window(number: int, fill: float, dtype: type = np.float32) -> np.ndarray:
        values = image(units[number])
        if values.shape != (num, length):
            raise BadFile(f"HDU {number} has shape {values.shape}, the flux {(num, length)}: not one plate")
        out = np.full((num, len(loglam)), fill, dtype)
        out[:, target] = values[:, source]
        return out

    masked = on_window(2, 0, np.int32) & BRIGHTSKY != 0
    known = plate_rows(units, pathlib.Path(path), num, quasars)
    return make_block(on_window(0, 0), on_window(1, 0), on_window(4, 1), masked, known, loglam)


def plate_rows(units: list[Hdu], path: pathlib.Path, num: int, quasars: bool = False) -> dict:
    """Columns of the block's table for the `num` fibers of a plate: plug map first, then spZbest over it."""
    header = units[0].header
    known: dict = {"file": str(path), "row": np.arange(num), "fiberid": np.arange(1, num + 1)}
    known |= {"plate": header.get("PLATEID", -1), "mjd": header.get("MJD", -1)}
    known["survey"] = survey_name(known["plate"], known["mjd"])
    plugged = read_standard(units[5])
    known |= {name: plugged[name] for name in ("ra", "dec", "objtype") if len(plugged.get(name, ())) == num}
    try:
        fits = read_standard(open_fits(find_spzbest(path, known["plate"], known["mjd"]))[1], quasars)
        return merge_fits(known, fits)
    except (BadFile, IndexError) as error:
        return known | {"status": f"{error}: {NO_REDSHIFT}"}


def find_spzbest(path: pathlib.Path, plate: int, mjd: int) -> pathlib.Path:
    """spZbest of a plate, beside it or in a folder (run1d) below; that of the highest run1d if there are several."""
    stem = path.name.split(".fits")[0].removeprefix("spPlate")
    names = dict.fromkeys((f"spZbest{stem}", f"spZbest-{plate:04d}-{mjd}"))
    for name in names:
        here = sorted(path.parent.glob(f"{name}.fits*")) or sorted(path.parent.glob(f"*/{name}.fits*"))
        if here:
            return max(here, key=lambda found: [int(number) for number in re.findall(r"\d+", found.parent.name)])
    raise BadFile("no spZbest file beside the spPlate or one folder below")


def merge_fits(known: dict, fits: dict[str, np.ndarray]) -> dict:
    """Put the rows of spZbest (any order) on the fibers; a fiber that has none gets a status."""
    if not {"fiberid", "z", "class"} <= set(fits):
        raise BadFile("spZbest has no FIBERID, Z and CLASS")
    fibers = known["fiberid"]
    order = np.argsort(fits["fiberid"], kind="stable")
    if len(order) == 0:
        raise BadFile("spZbest has no rows")
    at = order[np.minimum(np.searchsorted(fits["fiberid"], fibers, sorter=order), len(order) - 1)]
    found = fits["fiberid"][at] == fibers
    blank = {"z": np.nan, "ra": np.nan, "dec": np.nan, "zwarning": 0}
    for name in ("z", "zwarning", "class", "subclass", "objtype", "ra", "dec"):
        if name in fits and (name not in known or name == "objtype"):
            known[name] = np.where(found, fits[name][at], known.get(name, blank.get(name, "")))
    known["status"] = np.where(found, "", f"no row in spZbest: {NO_REDSHIFT}")
    return known
