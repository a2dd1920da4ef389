"""Write spectra in BOSS's own layout, for mocks and tests: spPlate with its spZbest, and spec-lite."""

import pathlib
import re

import numpy as np

from lensjax.core.files import replacing
from lensjax.physics import grid
from lensjax.surveys.block import full_table

UNIT = "1E-17 erg/cm^2/s/Ang"
TEXT = {"class": 6, "subclass": 21, "objtype": 16}  # characters


def write_spplate(path, loglam, flux, ivar, table, wdisp=None, and_mask=None, sky=None) -> pathlib.Path:
    """Write a plate of spectra and, beside it, the spZbest with their fits; returns the path of the latter.

    path: must be named spPlate-PPPP-MMMMM.fits. loglam: (P,) grid pixels. flux, ivar, wdisp, and_mask, sky: (N, P).
    table: columns (N,) of Block.table that are known: ra, dec, z, zwarning, class, subclass, objtype. Fibers count
    from 1. Each file replaces the old one whole; spZbest comes first, so no plate is ever without its redshifts.
    """
    path = pathlib.Path(path)
    named = re.fullmatch(r"spPlate-(\d{4,5})-(\d{5})\.fits", path.name)
    if not named:
        raise ValueError(f"the file is named {path.name}: expected spPlate-PPPP-MMMMM.fits")
    plate, mjd = int(named.group(1)), int(named.group(2))
    num, length = np.shape(flux)
    rows = full_table(num, {**table, "plate": plate, "mjd": mjd, "fiberid": np.arange(1, num + 1)})
    images = {
        None: np.asarray(flux, np.float32),
        "IVAR": np.asarray(ivar, np.float32),
        "ANDMASK": np.zeros((num, length), np.int32) if and_mask is None else np.asarray(and_mask, np.int32),
        "ORMASK": np.zeros((num, length), np.int32) if and_mask is None else np.asarray(and_mask, np.int32),
        "WAVEDISP": np.ones((num, length), np.float32) if wdisp is None else np.asarray(wdisp, np.float32),
        "PLUGMAP": {
            "OBJTYPE": _text(rows, "objtype"),
            "RA": rows["ra"],
            "DEC": rows["dec"],
            "FIBERID": rows["fiberid"],
        },
        "SKY": np.zeros((num, length), np.float32) if sky is None else np.asarray(sky, np.float32),
    }
    best = path.with_name(path.name.replace("spPlate", "spZbest"))
    _write(best, {None: None, "ZBEST": _fit_columns(rows)}, {"PLATEID": plate, "MJD": mjd})
    _write(path, images, _grid_header(loglam) | {"PLATEID": plate, "MJD": mjd})
    return best


def write_spec(path, loglam, flux, ivar, row, wdisp=None, and_mask=None) -> None:
    """Write one spectrum as a spec-lite file: arrays (P,); `row` the known values of Block.table, for the SPALL row."""
    zero = np.zeros(len(loglam), np.float32)
    mask = zero.astype(np.int32) if and_mask is None else np.asarray(and_mask, np.int32)
    coadd = {"flux": flux, "loglam": loglam, "ivar": ivar, "and_mask": mask, "or_mask": mask}
    coadd |= {"wdisp": zero + 1 if wdisp is None else wdisp, "sky": zero, "model": zero}
    rows = full_table(1, {name: np.atleast_1d(value) for name, value in row.items()})
    coadd = {name: np.asarray(value, np.int32 if "mask" in name else np.float32) for name, value in coadd.items()}
    header = {"PLATEID": int(rows["plate"][0]), "MJD": int(rows["mjd"][0]), "FIBERID": int(rows["fiberid"][0])}
    _write(path, {None: None, "COADD": coadd, "SPALL": _fit_columns(rows)}, _grid_header(loglam) | header)


def _grid_header(loglam: np.ndarray) -> dict:
    return {"COEFF0": float(loglam[0]), "COEFF1": grid.STEP, "BUNIT": UNIT, "VACUUM": True}


def _fit_columns(rows: dict) -> dict:
    """Columns of spZbest and of SPALL that the readers use, in the survey's names and order."""
    texts = {name: _text(rows, name) for name in TEXT}
    return {
        "PLATE": rows["plate"], "MJD": rows["mjd"], "FIBERID": rows["fiberid"], "OBJTYPE": texts["objtype"],
        "PLUG_RA": rows["ra"], "PLUG_DEC": rows["dec"], "CLASS": texts["class"], "SUBCLASS": texts["subclass"],
        "Z": rows["z"].astype(np.float32), "ZWARNING": rows["zwarning"].astype(np.int32),
        "Z_NOQSO": rows["z"].astype(np.float32), "ZWARNING_NOQSO": rows["zwarning"].astype(np.int32),
        "CLASS_NOQSO": texts["class"], "SUBCLASS_NOQSO": texts["subclass"],
    }  # fmt: skip


def _text(rows: dict, name: str) -> np.ndarray:
    return rows[name].astype(f"S{TEXT[name]}")


def _write(path, units: dict, header: dict) -> None:
    """Write units (name -> image, dict of columns, or None) as one FITS file, whole or not at all."""
    from astropy.io import fits

    made = []
    for name, data in units.items():
        if name is None:
            made.append(fits.PrimaryHDU(data, fits.Header(header)))
        elif isinstance(data, dict):
            array = np.rec.fromarrays(list(data.values()), dtype=[(key, column.dtype) for key, column in data.items()])
            made.append(fits.BinTableHDU(array, name=name))
        else:
            made.append(fits.ImageHDU(data, name=name))
    with replacing(path) as temporary:
        fits.HDUList(made).writeto(temporary, overwrite=True)
