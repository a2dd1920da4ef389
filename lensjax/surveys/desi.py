"""DESI coadds with the redrock redshifts beside them, put on the SDSS grid.

Data model: https://desidatamodel.readthedocs.io (coadd, redrock). Vacuum wavelengths, linear 0.8 A pixels in arms.
"""

import pathlib
import re

import numpy as np
import scipy.sparse

from lensjax.physics import grid
from lensjax.surveys.block import BadFile, Block, make_block
from lensjax.surveys.fits import Hdu, image, open_fits
from lensjax.surveys.sdss import check_units
from lensjax.surveys.tables import NO_REDSHIFT, read_standard


def is_coadd(units: list[Hdu]) -> bool:
    """Whether this is a DESI coadd, by its content: images of arms."""
    return bool(arms(units)) or ("FIBERMAP" in {u.name for u in units} and "B_WAVELENGTH" in {u.name for u in units})


def arms(units: list[Hdu]) -> list[str]:
    """Names of the arms that have a flux: B, R, Z (or BRZ where a file holds them joined)."""
    return [unit.name[: -len("_FLUX")] for unit in units if re.fullmatch(r"[A-Z]+_FLUX", unit.name)]


def read_coadd(units: list[Hdu], path: str, loglam: np.ndarray, quasars: bool = False) -> Block:
    """All targets of a coadd on the window `loglam` (P,); BadFile where it is unusable.

    Every linear pixel is shared out over the log pixels it overlaps, in proportion to the overlap, and log pixels
    average what they get weighted by inverse variance; arms that overlap are averaged the same way:
        flux_j = sum_i w_ij ivar_i flux_i / ivar_j,    ivar_j = sum_i w_ij ivar_i,    sum_j w_ij = 1.
    So the information is that of the input, and sums over many pixels have the right error. Neighbouring log pixels
    that share a linear pixel are correlated, and each by itself is a little better than its ivar says.

    quasars: makes no difference, as redrock fits all templates to every target.
    """
    del quasars
    units[-1].bytes()  # BadFile where the end of the file is missing
    by_name = {unit.name: unit for unit in units}
    parts = [part for part in (rebin_arm(by_name, arm, loglam) for arm in arms(units)) if part is not None]
    if not parts:
        raise BadFile("no arm of the coadd reaches into the window")
    weighted, ivar, spread, cover = (np.sum([part[i] for part in parts], axis=0) for i in range(4))
    with np.errstate(invalid="ignore", divide="ignore"):
        flux, sigma = weighted / ivar, np.sqrt(spread / cover)
    flux[ivar == 0] = 0  # not NaN: the pixel is missing, not broken
    wdisp = sigma / (grid.wave(loglam) * np.log(10) * grid.STEP)
    known = target_rows(by_name, pathlib.Path(path), len(flux))
    return make_block(flux, ivar, wdisp, np.zeros(flux.shape, bool), known, loglam)


def rebin_arm(by_name: dict[str, Hdu], arm: str, loglam: np.ndarray):
    """One arm's share of the sums above: flux ivar, ivar, LSF variance (A^2), cover, each (N, P); None off it."""
    for name, what in (("WAVELENGTH", "wavelengths"), ("IVAR", "errors")):
        if f"{arm}_{name}" not in by_name:
            raise BadFile(f"no {arm}_{name} extension: the {what} are unknown")
    check_units(by_name[f"{arm}_FLUX"].header, "BUNIT")
    wave = np.asarray(image(by_name[f"{arm}_WAVELENGTH"]), np.float64)
    edges = grid.edges(loglam)
    inside = np.flatnonzero((wave > edges[0] - 2) & (wave < edges[-1] + 2))
    if len(inside) < 2:
        return None
    cut = slice(inside[0], inside[-1] + 1)
    flux, ivar = (_pixels(by_name[f"{arm}_{name}"], len(wave))[:, cut].astype(np.float64) for name in ("FLUX", "IVAR"))
    good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0)
    if f"{arm}_MASK" in by_name:
        good &= _pixels(by_name[f"{arm}_MASK"], len(wave))[:, cut] == 0
    share = overlap_matrix(wave[cut], edges)
    cover = np.broadcast_to(share.sum(axis=0), (len(flux), len(loglam)))
    variance = lsf_variance(by_name.get(f"{arm}_RESOLUTION"), wave, cut, len(flux))
    ivar = np.where(good, ivar, 0)
    return np.where(good, flux, 0) * ivar @ share, ivar @ share, variance @ share, cover


def _pixels(unit: Hdu, length: int) -> np.ndarray:
    """An image (N, length) of an arm; BadFile where it has another length than the wavelengths."""
    values = image(unit)
    if values.ndim != 2 or values.shape[1] != length:
        raise BadFile(f"{unit.name} has shape {values.shape} for {length} wavelengths: not one coadd")
    return values


def overlap_matrix(wave: np.ndarray, edges: np.ndarray) -> scipy.sparse.csr_array:
    """Fraction of each linear pixel (centres `wave` (n,), A) that lies in each interval of `edges` (P + 1,), (n, P)."""
    half = np.gradient(wave) / 2
    lo, hi = wave - half, wave + half
    first = np.searchsorted(edges, lo, "right") - 1
    rows, columns, shares = [], [], []
    for step in range(int((np.searchsorted(edges, hi, "left") - first).max())):
        column = first + step
        valid = (column >= 0) & (column < len(edges) - 1)
        at = np.clip(column, 0, len(edges) - 2)
        share = (np.minimum(hi, edges[at + 1]) - np.maximum(lo, edges[at])) / (hi - lo)
        keep = np.flatnonzero(valid & (share > 0))
        rows.append(keep)
        columns.append(column[keep])
        shares.append(share[keep])
    index = (np.concatenate(rows), np.concatenate(columns))
    return scipy.sparse.csr_array((np.concatenate(shares), index), shape=(len(wave), len(edges) - 1))


def lsf_variance(unit: Hdu | None, wave: np.ndarray, cut: slice, num: int) -> np.ndarray:
    """Variance (A^2) of the line-spread function at the linear pixels `cut`, (num, n); NaN where it is not given.

    The resolution matrix holds, for every pixel, a few diagonals of what a line there becomes (Bolton & Schlegel 2010);
    its second moment is the variance. Sharing a pixel out evenly over its own width adds width^2/12.
    """
    step = np.gradient(wave)[cut]
    if unit is None:
        return np.full((num, len(step)), np.nan)
    matrix = np.asarray(image(unit)[:, :, cut], np.float64)
    offset = np.arange(matrix.shape[1]) - (matrix.shape[1] - 1) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        total = matrix.sum(axis=1)
        mean = np.einsum("ndw,d->nw", matrix, offset) / total
        second = np.einsum("ndw,d->nw", matrix, offset**2) / total - mean**2
    return np.where(second > 0, (second + 1 / 12) * step**2, np.nan)


def target_rows(by_name: dict[str, Hdu], path: pathlib.Path, num: int) -> dict:
    """Columns of the block's table: who the targets are (FIBERMAP), and their redshifts (redrock file)."""
    known: dict = {"file": str(path), "row": np.arange(num), "survey": "DESI"}
    if "FIBERMAP" in by_name:
        fibers = read_standard(by_name["FIBERMAP"])
        names = ("targetid", "ra", "dec", "objtype", "fiberid")
        known |= {name: fibers[name] for name in names if len(fibers.get(name, ())) == num}
    try:
        return merge_redrock(known, read_redrock(path))
    except BadFile as error:
        return known | {"status": f"{error}: {NO_REDSHIFT}"}


def read_redrock(path: pathlib.Path) -> dict[str, np.ndarray]:
    """REDSHIFTS (or the older ZBEST) table of the redrock-* or zbest-* file that goes with coadd-*; else BadFile."""
    stem = re.sub(r"^(coadd|spectra)-", "", path.name).removesuffix(".gz")
    for name in (f"redrock-{stem}", f"zbest-{stem}"):
        for file in (path.with_name(name), path.with_name(f"{name}.gz")):
            if file.exists():
                units = [unit for unit in open_fits(file) if unit.name in ("REDSHIFTS", "ZBEST")]
                if not units:
                    raise BadFile("the redrock file has no REDSHIFTS table")
                return read_standard(units[0])
    raise BadFile("no redrock file beside the coadd")


def merge_redrock(known: dict, fits: dict[str, np.ndarray]) -> dict:
    """Put the redshifts on the targets, by TARGETID; a target that has none gets a status."""
    if "targetid" not in known or not {"targetid", "z"} <= set(fits) or len(fits["z"]) == 0:
        raise BadFile("no TARGETID to join the coadd with its redshifts")
    order = np.argsort(fits["targetid"], kind="stable")
    at = order[np.minimum(np.searchsorted(fits["targetid"], known["targetid"], sorter=order), len(order) - 1)]
    found = fits["targetid"][at] == known["targetid"]
    blank = {"z": np.nan, "zwarning": 0, "class": "", "subclass": ""}
    known |= {name: np.where(found, fits[name][at], empty) for name, empty in blank.items() if name in fits}
    known["status"] = np.where(found, "", f"no row in the redrock file: {NO_REDSHIFT}")
    return known
