"""Download public SDSS spectra by plate-mjd-fiber, or by redshift range through SPARCL; every object gets a row."""

import contextlib
import pathlib
import re
import sys
from typing import NamedTuple

import numpy as np

from lensjax.core.errors import UserError
from lensjax.surveys.block import BadFile
from lensjax.surveys.download import Missing, download, fetch_all, is_complete
from lensjax.surveys.fits import open_fits
from lensjax.surveys.tables import BY_PLATE, FIRST_BOSS_PLATE, read_any

# Folders of data release 17 below config.fetch.base_url: https://data.sdss.org/datamodel, SPECTRO_REDUX.
BOSS_RUNS = ("eboss/spectro/redux/v5_13_2",)
SDSS_RUNS = ("sdss/spectro/redux/26", "sdss/spectro/redux/103", "sdss/spectro/redux/104")
COLUMNS = ("file", "plate", "mjd", "fiberid", "status")
# plate, MJD (from 1998 on) and fiber as whole numbers, whatever is between and before them.
OBSERVATION = re.compile(r"(?<![\d.])(\d{1,5})[^\d.]+(5[1-9]\d{3}|6\d{4})[^\d.]+(\d{1,4})(?!\d|\.\d)")
RELEASES = ("SDSS-", "BOSS-", "EBOSS-")  # of SPARCL, whose specid is a specObjID


class Target(NamedTuple):
    """One observation of SDSS."""

    plate: int
    mjd: int
    fiberid: int

    @property
    def filename(self) -> str:
        return f"spec-{self.plate:04d}-{self.mjd}-{self.fiberid:04d}.fits"


def fetch(config, workdir) -> pathlib.Path:
    """Download the spectra that config.fetch names into workdir/spectra; returns the table workdir/fetched.csv.

    One row for each object, with a status where it could not be had. Files that are there and whole are not fetched
    again, so the same command resumes. UserError where nothing is asked for, the list cannot be read, or the folder
    cannot be written.
    """
    settings = config.fetch
    targets = find_targets(settings)
    folder = pathlib.Path(workdir) / "spectra"
    files = {folder / target.filename: target for target in targets}

    def fetch_file(path: pathlib.Path) -> str:
        return fetch_one(files[path], path.parent, settings)

    return fetch_all(files, fetch_file, settings.workers, COLUMNS, pathlib.Path(workdir) / "fetched.csv")


def find_targets(settings) -> list[Target]:
    """The observations to download, each once: from the list file, else from the redshift range."""
    if settings.list:
        targets = read_targets(settings.list)
    elif settings.redshift[1] > settings.redshift[0]:
        targets = query_sparcl(settings)
    else:
        raise UserError(
            "nothing to fetch: set config.fetch.list to a file of plate-mjd-fiber lines, or config.fetch.redshift"
        )
    return list(dict.fromkeys(targets))


def read_targets(path: str) -> list[Target]:
    """The observations of a list: text, or a table in any format of astropy with columns plate, mjd and fiberid.

    Of text, plate, mjd and fiber of each line, with any separators ("4055-55359-596", names of spec files).
    """
    file = pathlib.Path(path).expanduser()
    with contextlib.suppress(BadFile, UserError):
        columns = read_any(file, "the list")
        if set(BY_PLATE) <= set(columns):
            rows = np.stack([np.asarray(columns[name], float) for name in BY_PLATE], axis=1)
            known = (rows >= 0).all(axis=1)  # a cell without a value is -1 or NaN
            if not known.all():
                print(f"{path}: {np.sum(~known)} rows without plate, MJD or fiber are left out", file=sys.stderr)
            return [Target(*map(int, row)) for row in rows[known]]
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"the list {path} cannot be read: {error}; expected text, one plate-mjd-fiber a line, or a table with "
            "columns plate, mjd and fiberid"
        ) from None
    targets = []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].strip()
        found = OBSERVATION.search(text)
        if found:
            targets.append(Target(*map(int, found.groups())))
        elif text and number > 1:  # the first line may name the columns
            raise UserError(f"line {number} of {path} is {text!r}: expected plate-mjd-fiber, such as 4055-55359-596")
    if not targets:
        raise UserError(f"the list {path} names no spectrum: expected lines such as 4055-55359-596")
    return targets


def query_sparcl(settings) -> list[Target]:
    """Galaxies of a redshift range, from the SPARCL archive (needs the extra: pip install 'lensjax[fetch]')."""
    if not settings.release.upper().startswith(RELEASES):
        raise UserError(
            f"config.fetch.release is {settings.release!r}: expected a release of SDSS or BOSS, such as BOSS-DR16, "
            "whose spectra can be fetched by plate, MJD and fiber; set it to one"
        )
    try:
        from sparcl.client import SparclClient  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError("a redshift range needs the package sparclclient: pip install 'lensjax[fetch]'") from None
    wanted = {
        "spectype": ["GALAXY"],
        "redshift": list(map(float, settings.redshift)),
        "data_release": [settings.release],
    }
    try:
        found = SparclClient(announcement=False).find(["sparcl_id", "specid"], constraints=wanted, limit=settings.limit)
    except Exception as error:  # the client raises bare exceptions of many kinds; all mean that there is no answer
        raise UserError(f"SPARCL gave no answer ({error}): try again later, or give config.fetch.list") from error
    return [decode_specobjid(int(record["specid"])) for record in found.records]


def decode_specobjid(specobjid: int) -> Target:
    """Plate, MJD and fiber that an SDSS specObjID holds: bits 50-63, 24-37 (less 50000) and 38-49.

    Of a signed number too, as SPARCL gives it: negative for plates from 8192 on.
    """
    specobjid %= 1 << 64
    return Target(specobjid >> 50, 50_000 + (specobjid >> 24 & 0x3FFF), specobjid >> 38 & 0xFFF)


def fetch_one(target: Target, folder: pathlib.Path, settings) -> str:
    """Have the spectrum in `folder`; empty when it is there and whole, else why not. Never raises for the network.

    UserError where the folder cannot be written.
    """
    path = folder / target.filename
    if is_complete(path, check_complete):
        return ""
    runs = BOSS_RUNS if target.plate >= FIRST_BOSS_PLATE else SDSS_RUNS
    for run in runs:
        url = f"{settings.base_url.rstrip('/')}/{run}/spectra/lite/{target.plate:04d}/{target.filename}"
        try:
            return download(url, path, settings, check_complete)
        except Missing:
            continue
    return "not found on the server: no such plate, mjd and fiber in the release"


def check_complete(path: pathlib.Path) -> None:
    """BadFile unless every unit of the FITS file is there to its last byte."""
    units = open_fits(path)
    units[-1].bytes()
    if len(units) < 2:
        raise BadFile("the file ends before its spectrum")
