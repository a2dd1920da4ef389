"""Objects known before, from a table in any format that astropy reads."""

import sys
from typing import Any

import numpy as np

from lensjax.core.errors import UserError

NAMES = ("name", "id", "objid", "target")  # columns that hold a name, in order of preference


def known_objects(ra: np.ndarray, dec: np.ndarray, settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Nearest entry of a table of known objects within settings.known_radius arcsec of each place.

    Args:
        ra, dec: (N,) degrees; NaN matches nothing.
        settings: config.vet: known (a table with ra and dec in degrees, any format that astropy reads; empty: none).

    Returns:
        name (N,) text, empty where there is none, and distance (N,) arcsec, NaN there. UserError for a bad table; rows
        of it that have no place in the sky are left out, and counted on stderr.
    """
    names, distance = np.full(len(ra), "", object), np.full(len(ra), np.nan)
    there = np.isfinite(ra) & np.isfinite(dec)
    if settings.known and there.any():
        from astropy import units
        from astropy.coordinates import SkyCoord

        entry, places, lost = _read(settings.known)
        if lost:
            print(f"config.vet.known {settings.known}: {lost} rows without coordinates are left out", file=sys.stderr)
        mine: Any = SkyCoord(ra[there], dec[there], unit=units.deg)
        index, apart, _ = mine.match_to_catalog_sky(SkyCoord(*places, unit=units.deg))
        near = apart.arcsec <= settings.known_radius
        rows = np.flatnonzero(there)[near]
        names[rows], distance[rows] = entry[index[near]], apart.arcsec[near]
    return names.astype(np.str_), distance


def check_known(settings: Any) -> None:
    """UserError where settings.known, of config.vet, names a table that `known_objects` cannot use."""
    if settings.known:
        _read(settings.known)


def _read(path: str) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], int]:
    """Names (K,) and (ra, dec) in degrees of a user's table, and how many rows have no place in the sky."""
    from astropy.table import Table

    try:
        table = Table.read(path)
    except Exception as error:  # astropy raises a different kind for every format
        raise UserError(f"config.vet.known {path} cannot be read ({type(error).__name__}): give a table.") from error
    columns = {name.lower(): table[name] for name in table.colnames}
    ra, dec = (columns.get(name, columns.get(f"{name}_deg", columns.get(f"{name}j2000"))) for name in ("ra", "dec"))
    numbers = all(column is not None and column.dtype.kind in "fiu" for column in (ra, dec))
    places = [np.ma.filled(np.ma.asarray(c).astype(float), np.nan) for c in (ra, dec)] if numbers else np.empty((2, 0))
    good = np.isfinite(places[0]) & (np.abs(places[1]) <= 90)  # not so of NaN
    if not good.any():
        raise UserError(
            f"config.vet.known {path} has the columns {', '.join(table.colnames)} and {len(table)} rows, none with a "
            "place in the sky: expected ra and dec in degrees."
        )
    name = next((columns[name] for name in NAMES if name in columns), range(len(table)))
    entries = np.array([str(entry) for entry in name], object)
    return entries[good], (places[0][good], places[1][good]), int((~good).sum())
