"""Which object it is: its name, a link to look at it, and who knew it before, from any table that astropy reads."""

import contextlib
import functools
import os
import sys
from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.surveys.catalogues import iau_name, read_table

RA = ("ra", "ra_deg", "radeg", "raj2000", "_raj2000", "ra_icrs", "ra_coord", "target_ra")  # in order of preference
DEC = ("dec", "dec_deg", "dedeg", "decdeg", "dej2000", "_dej2000", "decj2000", "de_icrs", "dec_coord", "target_dec")
# columns that hold a name, in order of preference
NAMES = ("name", "system_name", "main_id", "objname", "id", "objid", "target")


def identify(ra: np.ndarray, dec: np.ndarray, settings: Any) -> dict[str, np.ndarray]:
    """name, viewer (a link), known and known_distance, (N,) each, of places (N,) in degrees.

    Empty and NaN where that is no place in the sky.

    settings: config.vet or config.catalogue: viewer, a link with {ra} and {dec}, and what `known_objects` reads.
    """
    places = list(zip(ra, dec, _in_the_sky(ra, dec), strict=True))
    names = [iau_name(a, d) if ok else "" for a, d, ok in places]
    links = [_link(settings, f"{a:.5f}", f"{d:.5f}") if ok else "" for a, d, ok in places]
    known, distance = known_objects(ra, dec, settings)
    text = {"name": np.array(names, np.str_), "viewer": np.array(links, np.str_)}
    return {**text, "known": known, "known_distance": distance}


def known_objects(ra: np.ndarray, dec: np.ndarray, settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Nearest entry of a table of known objects within settings.known_radius arcsec of each place.

    Args:
        ra, dec: (N,) degrees; what is no place in the sky matches nothing.
        settings: known (a table with ra and dec, degrees or sexagesimal text with ra in hours, any format that astropy
            reads; empty: none), known_radius.

    Returns:
        name (N,) text, empty where there is none, and distance (N,) arcsec, NaN there. UserError for a bad table; rows
        of it that have no place in the sky are left out, and counted on stderr.
    """
    names, distance = np.full(len(ra), "", object), np.full(len(ra), np.nan)
    there = _in_the_sky(ra, dec)
    if settings.known and there.any():
        from astropy import units
        from astropy.coordinates import SkyCoord

        entry, places = _read(settings.known)
        mine: Any = SkyCoord(ra[there], dec[there], unit=units.deg)
        index, apart, _ = mine.match_to_catalog_sky(places)
        near = apart.arcsec <= settings.known_radius
        rows = np.flatnonzero(there)[near]
        names[rows], distance[rows] = entry[index[near]], apart.arcsec[near]
    return names.astype(np.str_), distance


def _in_the_sky(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    return np.isfinite(ra) & (np.abs(dec) <= 90)  # not so of NaN


def check_known(settings: Any) -> None:
    """UserError where settings.known names a table that cannot be used, or settings.viewer is no link with a place."""
    _link(settings, "", "")
    if settings.known:
        _read(settings.known)


def _link(settings: Any, ra: str, dec: str) -> str:
    try:
        return settings.viewer.format(ra=ra, dec=dec)
    except (LookupError, ValueError, AttributeError) as error:
        raise UserError(
            f"viewer is {settings.viewer!r}: expected a link with {{ra}} and {{dec}} in it, and no other braces."
        ) from error


def _read(path: str) -> tuple[np.ndarray, Any]:
    """Names (K,) and SkyCoord (K,) of a user's table, which is read again only when it has changed."""
    try:
        status = os.stat(path)
    except OSError:
        return _read_version(path, ())  # the reader says what is wrong
    return _read_version(path, (status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=4)
def _read_version(path: str, version: tuple[int, ...]) -> tuple[np.ndarray, Any]:
    """`_read`; rows that have no place in the sky are left out, and counted on stderr."""
    del version
    from astropy import units
    from astropy.coordinates import SkyCoord

    table = read_table(path, "the table of known objects")
    columns = {name.lower(): table[name] for name in table.colnames}
    ra, dec = find_places(table)
    good = np.isfinite(ra)
    if not good.any():
        raise UserError(
            f"the table of known objects {path} has the columns {', '.join(table.colnames)} and {len(table)} rows, "
            "none with a place in the sky: expected ra and dec, in degrees or as 14:43:20.7 and +33:42:12."
        )
    names = next((np.ma.filled(columns[name].astype(str), "") for name in NAMES if name in columns), [""] * len(table))
    entries = np.array([str(name).strip() or f"row {row}" for row, name in enumerate(names)], object)
    if not good.all():
        print(f"{path}: {(~good).sum()} known objects without coordinates are left out", file=sys.stderr)
    return entries[good], SkyCoord(ra[good], dec[good], unit=units.deg)


def find_places(table: Any) -> tuple[np.ndarray, np.ndarray]:
    """ra and dec (K,), degrees, of an astropy table that has columns of RA and DEC; NaN for no place in the sky.

    Numbers are degrees, text is degrees or sexagesimal, ra then in hours. Without such columns all are NaN. Names of
    columns in any case.
    """
    from astropy import units

    columns = {name.lower(): table[name] for name in table.colnames}
    nothing = np.full(len(table), np.nan)
    found = (next((columns[name] for name in names if name in columns), nothing) for names in (RA, DEC))
    ra, dec = (_degrees(column, unit) for column, unit in zip(found, (units.hourangle, units.deg), strict=True))
    good = _in_the_sky(ra, dec)
    return np.where(good, ra, np.nan), np.where(good, dec, np.nan)


def _degrees(column: Any, unit: Any) -> np.ndarray:
    """float64 (K,) degrees of numbers (K,), or of text: degrees, or sexagesimal in `unit`; NaN for all else."""
    values = np.ma.asarray(column)
    if values.dtype.kind in "fiu":
        return np.ma.filled(values.astype(float), np.nan)
    return np.array([_angle(text, unit) for text in np.ma.filled(values.astype(str), "")], float)


def _angle(text: str, unit: Any) -> float:
    from astropy.coordinates import Angle

    with contextlib.suppress(ValueError):
        return float(text)
    with contextlib.suppress(ValueError):  # of astropy, also for what is no angle at all
        angle: Any = Angle(text, unit)
        return float(angle.degree)
    return np.nan
