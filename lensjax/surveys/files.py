"""From what the user typed to files, and from a file to its block: nothing raises for what a file holds."""

import glob
import pathlib

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import read_list, walk
from lensjax.surveys import desi, sdss
from lensjax.surveys.block import BadFile, Block, failed_block
from lensjax.surveys.fits import open_fits

SUFFIXES = (".fits", ".fit", ".fits.gz", ".fit.gz")
KINDS = {"spec-": "spec", "spPlate-": "spPlate", "coadd-": "coadd", "spectra-": "coadd"}
# Files that stand beside the spectra and are read with them, or hold no spectra of objects.
COMPANIONS = ("spZbest-", "spZall-", "spZline-", "spAll", "specObj", "redrock-", "zbest-", "rrdetails-", "photoPlate-")
COMPANIONS += ("emline-", "qso_mgii-", "qso_qn-", "zpix-", "zall-", "ztile-", "zcatalog-")
COMPANIONS += ("candidates.fits", "completeness.fits")  # of a search whose workdir is in the folder
EXPOSURES = "spectra-"  # of DESI, single exposures of the targets of a coadd-: read where it is named itself
READERS = (
    (sdss.is_spec, sdss.read_spec),
    (sdss.is_spplate, sdss.read_spplate),
    (desi.is_coadd, desi.read_coadd),
)


def find_files(source: str) -> list[tuple[str, str]]:
    """The spectrum files that `source` names, as sorted (path, kind); UserError where there are none.

    source: one file, a folder (searched to any depth), a glob, or a text file with one path (file, folder or glob)
    a line, relative to itself, # for comments. kind is "spec", "spPlate", "coadd", or "unknown": the name's promise
    only, as the reader goes by the content. Files named one by one are kept whatever they are, so that each gets its
    row and its status; in folders and globs companions (spZbest, redrock, ...) are left out, in folders also other
    suffixes than .fits, and single exposures of DESI (spectra-*), whose sums the coadds beside them are.
    """
    path = pathlib.Path(source).expanduser()
    if not source:
        raise UserError("no input given: set config.search.input to a file, folder, glob or list file")
    found = _listed(path) if path.is_file() and _is_list(path) else _expand(path)
    if not found:
        what = "the folder holds no .fits file" if path.is_dir() else "no such file, folder or glob"
        raise UserError(f"input {source}: {what}; expected spec-*, spPlate-* or coadd-* FITS files, or a list of them")
    return [(str(path), file_kind(path)) for path in sorted(set(found))]


def file_kind(path: pathlib.Path) -> str:
    """What the name of a file promises."""
    return next((kind for start, kind in KINDS.items() if path.name.startswith(start)), "unknown")


def _expand(path: pathlib.Path) -> list[pathlib.Path]:
    """Files of a path that is a file, a folder or a glob."""
    if path.is_file():
        return [path]
    if path.is_dir():
        names = (file for file in walk(path) if file.name.endswith(SUFFIXES))
        found = [file for file in names if not file.name.startswith(EXPOSURES)]
    else:
        found = [pathlib.Path(name) for name in glob.glob(str(path), recursive=True)]
    return [file for file in found if file.is_file() and not file.name.startswith((*COMPANIONS, "."))]


def _is_list(path: pathlib.Path) -> bool:
    """Whether a file is a list of files: it has no FITS suffix, and is text that does not begin as FITS does."""
    if path.name.endswith(SUFFIXES):
        return False
    with path.open("rb") as stream:
        start = stream.read(2880)
    return not start.startswith(b"SIMPLE  =") and b"\0" not in start


def _listed(path: pathlib.Path) -> list[pathlib.Path]:
    """Files of a list file; an entry that is not there is kept, to become a row that says so."""
    return [file for entry in read_list(path) for file in (_expand(entry) or [entry])]


def read_block(path: str, loglam: np.ndarray, quasars: bool = False) -> Block:
    """All spectra of one file on the window `loglam` (P,). A file that cannot be used is one row with its reason.

    quasars: whether these are looked for, so that class and redshift are those of the fit to all templates; else
    galaxies have those without quasar templates, see `tables.standardise`. Never raises for what a file holds. Safe to
    call from several threads.
    """
    if (shown := str(path).encode("utf-8", "replace").decode()) != str(path):  # no table could tell which file it was
        return failed_block(
            shown, "the name of the file or of its folder is no UTF-8: rename it, or link to it", loglam
        )
    try:
        units = open_fits(path)
        for fits_kind, read in READERS:
            if fits_kind(units):
                return read(units, str(path), loglam, quasars)
        return failed_block(path, describe(units), loglam)
    except BadFile as error:
        return failed_block(path, str(error), loglam)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        # a damaged file can break any assumption of a reader; it may cost its own row, never the search
        return failed_block(path, f"damaged file ({type(error).__name__}: {error})", loglam)


def describe(units: list) -> str:
    """Why a FITS file is none of those that are read."""
    if sdss.is_spfield(units):
        return "an spField file of SDSS-V (no PLATEID, or a CATALOGID), which is not read: give its spec files instead"
    if units[-1].start + units[-1].size > len(units[-1].buffer):
        return "truncated: the file ends before its spectra"
    names = ", ".join(unit.name or "unnamed" for unit in units[:5])
    return f"no spectra in it (extensions {names}): expected a spec, spPlate or DESI coadd file"
