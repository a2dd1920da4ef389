"""Download cutouts of a list of positions from the Legacy Surveys' viewer; every position gets a row.

The service: https://www.legacysurvey.org/viewer, fits-cutout. FITS cubes (bands, size, size) in nanomaggies a pixel.
"""

import csv
import json
import pathlib
import re
import urllib.parse
from typing import NamedTuple

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import write_text
from lensjax.surveys.block import BadFile
from lensjax.surveys.catalogues import read_table
from lensjax.surveys.download import Missing, Pace, Unwanted, download, fetch_all, is_complete, writing
from lensjax.surveys.fits import image, open_fits
from lensjax.surveys.image_files import stated_bands
from lensjax.surveys.known import DEC, RA, find_places
from lensjax.surveys.sweep import read_sweep

COLUMNS = ("file", "ra", "dec", "status")
REQUEST = "request.json"  # beside the cutouts
RECORDED = ("layer", "bands", "pixel")
TABLES = (".vot", ".xml", ".ecsv", ".parquet")  # of those that are not FITS
LARGEST = 3000  # pixels a side that the service gives


class Position(NamedTuple):
    """Centre of a cutout, degrees."""

    ra: float
    dec: float

    @property
    def filename(self) -> str:
        """To 0.04 arcsec: positions that agree so far are one cutout."""
        return f"cutout_{self.ra:09.5f}_{self.dec:+09.5f}.fits"


def fetch_cutouts(config, workdir) -> pathlib.Path:
    """Download the cutouts that config.fetch_cutouts names into workdir/cutouts; returns the table workdir/cutouts.csv.

    Files that are there and whole are not fetched again, so the same command resumes; the folder is what `open_cutouts`
    reads. UserError where the list cannot be read, larger images are asked for than the service gives, or the folder is
    of another layer, other bands or another pixel scale.
    """
    settings = config.fetch_cutouts
    if not 1 <= settings.size <= LARGEST:
        raise UserError(f"config.fetch_cutouts.size is {settings.size}: the service gives 1 to {LARGEST} pixels")
    folder, pace = pathlib.Path(workdir) / "cutouts", Pace(settings.pause)
    files = {folder / position.filename: position for position in read_positions(settings.list)}

    _record(folder, {name: settings[name] for name in RECORDED})

    def check(path: pathlib.Path) -> None:
        check_cutout(path, settings.bands, settings.size)

    def fetch_file(path: pathlib.Path) -> str:
        if not is_complete(path, check):
            try:
                if failed := download(cutout_url(files[path], settings), path, settings, check, pace):
                    return failed
            except Missing:
                return "not found on the server: outside the layer"
        return "" if has_light(path) else "every pixel is zero: outside the survey, leave the position out"

    return fetch_all(files, fetch_file, settings.workers, COLUMNS, pathlib.Path(workdir) / "cutouts.csv")


def _record(folder: pathlib.Path, asked: dict) -> None:
    """Keep in the folder what its cutouts are of; UserError where they are of something else."""
    path, text = folder / REQUEST, json.dumps(asked)
    if path.is_file() and path.read_text() != text:
        raise UserError(
            f"{folder} has cutouts of {path.read_text()}, and {text} is asked for: give another --workdir, or remove "
            "the folder"
        )
    with writing(folder):
        write_text(path, text)


def cutout_url(position: Position, settings) -> str:
    """Address of one cutout."""
    asked = {"ra": f"{position.ra:.6f}", "dec": f"{position.dec:.6f}", "layer": settings.layer}
    asked |= {"pixscale": settings.pixel, "bands": settings.bands, "size": settings.size}
    return f"{settings.url}?{urllib.parse.urlencode(asked)}"


def check_cutout(path: pathlib.Path, bands: str, size: int) -> None:
    """BadFile unless the file is a whole cube of that size, or of one band an image; Unwanted for other bands."""
    unit = open_fits(path)[0]
    shape, stated = image(unit).shape, stated_bands(unit.header)
    if stated and sorted(stated) != sorted(bands):
        raise Unwanted(f"the server has bands {stated} there, not {bands}: choose another layer, or these bands")
    wanted = (len(bands), size, size)
    if (1, *shape)[-3:] != wanted:
        raise BadFile(f"a cutout of shape {shape}: {wanted} was asked for")


def has_light(path: pathlib.Path) -> bool:
    """Whether any pixel differs from zero."""
    return bool(np.any(image(open_fits(path)[0])))


def read_positions(path: str) -> list[Position]:
    """Different positions (degrees) of a table (FITS, VOTable, ECSV, Parquet), or of a text file: columns, or a header,
    naming ra and dec, in any place and case (also ra_deg, raj2000, ...), or else the first two numbers of each line."""
    if not path:
        raise UserError("nothing to fetch: set config.fetch_cutouts.list to a file of positions, ra and dec in degrees")
    file = pathlib.Path(path).expanduser()
    if file.name.lower().endswith((".fits", ".fits.gz", ".fit")):
        table = read_sweep(file)
        found = list(zip(table["ra"].tolist(), table["dec"].tolist(), strict=True))
    elif file.name.lower().endswith(TABLES):
        ra, dec = find_places(read_table(file, "the list"))
        found = list(zip(ra.tolist(), dec.tolist(), strict=True))
    else:
        found = _read_text(file)
    for number, (ra, dec) in enumerate(found, 1):
        if not (0 <= ra <= 360 and -90 <= dec <= 90):
            raise UserError(f"position {number} of {path} is {ra}, {dec}: expected ra 0 to 360, dec -90 to 90 degrees")
    if not found:
        raise UserError(f"the list {path} names no position: expected lines such as 150.1163 2.2058")
    return list(dict.fromkeys(Position(ra, dec) for ra, dec in found))


def _read_text(path: pathlib.Path) -> list[tuple[float, float]]:
    """ra and dec of each line; commas, semicolons, bars or tabs between, else blanks."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the list {path} cannot be read: {error}; expected a text file, ra and dec a line") from None
    place, found = (0, 1), []
    for number, line in enumerate(lines, 1):
        text = line.split("#")[0].rstrip()
        parts = next(csv.reader([text])) if '"' in text and "," in text else re.split(r"[,;|\t]", text)
        cells = [part.strip() for part in parts] if len(parts) > 1 else text.split()
        names = [cell.strip('" ').lower() for cell in cells]
        header = [[names.index(name) for name in either if name in names] for either in (RA, DEC)]
        if all(header):
            place = (header[0][0], header[1][0])
        elif any(cells):
            try:
                found.append((float(cells[place[0]]), float(cells[place[1]])))
            except (ValueError, IndexError):
                if number > 1 or len(cells) > 2:
                    raise UserError(
                        f"line {number} of {path} is {line!r}: expected ra and dec in degrees, or a header of them"
                    ) from None
    return found
