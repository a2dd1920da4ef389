"""Catalogue columns under one set of names, the spAll/specObj pre-selection, and the sample cuts."""

import numpy as np

from lensjax.core.errors import UserError
from lensjax.surveys.block import BadFile, Block
from lensjax.surveys.fits import Hdu, column_names, open_fits, read_columns

# Our name -> the survey's, in order of preference; a blank or missing text falls through to the next.
ALIASES = {
    "survey": ("SURVEY",),
    "plate": ("PLATE",),
    "mjd": ("MJD",),
    "fiberid": ("FIBERID", "FIBER"),
    "targetid": ("TARGETID",),
    "ra": ("PLUG_RA", "TARGET_RA", "RA"),
    "dec": ("PLUG_DEC", "TARGET_DEC", "DEC"),
    "z": ("Z",),
    "zwarning": ("ZWARNING", "ZWARN"),
    "class": ("CLASS", "SPECTYPE"),
    "subclass": ("SUBCLASS", "SUBTYPE"),
    "objtype": ("OBJTYPE", "SOURCETYPE", "TARGETTYPE"),
}
NOQSO = {"z": "Z_NOQSO", "zwarning": "ZWARNING_NOQSO", "class": "CLASS_NOQSO", "subclass": "SUBCLASS_NOQSO"}
NEEDED = tuple(dict.fromkeys(name for names in ALIASES.values() for name in names)) + tuple(NOQSO.values())
FIRST_BOSS_PLATE = 3510
FIRST_EBOSS_MJD = 56839  # 2014 July 1, the begin of SDSS-IV


def read_standard(unit: Hdu) -> dict[str, np.ndarray]:
    """The columns of a catalogue table (SPALL, SPECOBJ, spZbest, PLUGMAP, REDSHIFTS, FIBERMAP) under our names."""
    return standardise(read_columns(unit, NEEDED))


def standardise(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Survey columns (names in capitals) -> ours. Galaxies get the fit without quasar templates, where there is one.

    For galaxy targets the BOSS pipeline advises Z_NOQSO and its companions (Bolton et al. 2012, section 3.4). For
    everything else they are wrong, and in SDSS-I/II they are all zero: those keep Z.
    """
    out = {}
    for name, aliases in ALIASES.items():
        found = [columns[alias] for alias in aliases if alias in columns]
        if found:
            out[name] = _first_filled(found)
    if all(name in columns for name in NOQSO.values()) and "class" in out:
        galaxy = (out["class"] == "GALAXY") | (out.get("objtype", out["class"]) == "GALAXY")
        use = galaxy & (columns["CLASS_NOQSO"] != "") & (columns["Z_NOQSO"] != 0)
        for name, survey_name in NOQSO.items():
            out[name] = np.where(use, columns[survey_name], out[name])
    return out


def _first_filled(candidates: list[np.ndarray]) -> np.ndarray:
    """The first candidate; where it is blank text, the next."""
    values = candidates[0]
    for other in candidates[1:] if values.dtype.kind == "U" else []:
        values = np.where(values == "", other, values)
    return values


def survey_name(plate, mjd) -> np.ndarray:
    """SDSS (I and II), BOSS or eBOSS, from plate and MJD."""
    later = np.where(np.asarray(mjd) >= FIRST_EBOSS_MJD, "eBOSS", "BOSS")
    return np.where(np.asarray(plate) < FIRST_BOSS_PLATE, "SDSS", later)


def read_catalogue(path) -> dict[str, np.ndarray]:
    """A spAll, specObj or zcatalog FITS table: the needed columns under our names, (N,) each; UserError if unusable.

    Only those columns are taken from the (memory-mapped) file, so a table of many GB costs some 100 bytes a row.
    """
    try:
        units = [unit for unit in open_fits(path) if column_names(unit)]
        table = read_standard(units[0]) if units else {}
    except BadFile as error:
        raise UserError(
            f"the catalogue {path} cannot be used: {error}; give an uncompressed spAll or specObj file"
        ) from None
    by_plate = all(name in table for name in ("plate", "mjd", "fiberid"))
    if not (by_plate or "targetid" in table) or "z" not in table:
        raise UserError(
            f"the catalogue {path} has the columns {sorted(table) or 'of no table'}; "
            "expected PLATE, MJD and FIBERID (or TARGETID) and Z, as in spAll or specObj"
        )
    return table


def join(block: Block, catalogue: dict[str, np.ndarray]) -> Block:
    """The block with class, redshift, ... of the catalogue where it holds the object; the others get a status.

    Objects are matched by plate, MJD and fiber, or by TARGETID where the catalogue has that.
    """
    use_id = "targetid" in catalogue and (catalogue["targetid"] > 0).any()
    key = target_key if use_id else plate_key
    keys = key(catalogue)
    order = np.argsort(keys, kind="stable")
    mine = key(block.table)
    place = order[np.minimum(np.searchsorted(keys, mine, sorter=order), len(keys) - 1)] if len(keys) else None
    found = keys[place] == mine if place is not None else np.zeros(len(mine), bool)
    table = dict(block.table)
    for name in ("ra", "dec", "z", "zwarning", "class", "subclass", "objtype"):
        if name in catalogue and place is not None:
            table[name] = np.where(found, catalogue[name][place], table[name])
    table["sky"] = table["objtype"] == "SKY"
    absent = ~found & (table["status"] == "")
    table["status"] = np.where(absent, "not in the catalogue", table["status"])
    return block._replace(z=np.nan_to_num(table["z"], nan=0.0).astype(np.float32), table=table)


def plate_key(table: dict) -> np.ndarray:
    """One integer for plate, MJD and fiber, (N,)."""
    plate, mjd, fiber = (table[name].astype(np.int64) for name in ("plate", "mjd", "fiberid"))
    return (plate << 40) | (mjd << 16) | fiber


def target_key(table: dict) -> np.ndarray:
    """TARGETID, (N,)."""
    return table["targetid"].astype(np.int64)


def select(table: dict[str, np.ndarray], cuts) -> tuple[np.ndarray, np.ndarray]:
    """Which objects belong to the sample (Li et al. 2018, section 3.2): bool (N,), and the reason of the others (N,).

    table: columns of Block.table. cuts: config.select. The reason is the row's own status where that is set, else the
    first cut that fails; it is empty for selected objects. Subclasses are compound ("AGN BROADLINE"), so each word
    to drop is looked for as a substring. SKY fibers fail like any other non-galaxy; the column `sky` keeps them apart.
    """
    kind, subclass = np.char.upper(table["class"]), np.char.upper(table["subclass"])
    dropped = list(cuts.drop_subclasses) + (["STARBURST"] if cuts.drop_starburst else [])
    failed = [
        (table["status"] != "", table["status"]),
        (table["sky"], "sky fiber"),
        (kind != cuts.object_class, _sentence("class ", kind, f", not {cuts.object_class}")),
        *((np.char.find(subclass, word) >= 0, _sentence("subclass ", subclass)) for word in dropped),
        (~(table["z"] > cuts.z_min), f"z is not above {cuts.z_min:g}"),
        ((table["zwarning"] != 0) & cuts.clean_redshift, _sentence("ZWARNING ", table["zwarning"].astype(np.str_))),
    ]
    reason = np.select([mask for mask, _ in failed], [np.broadcast_to(text, kind.shape) for _, text in failed], "")
    return ~np.any([mask for mask, _ in failed], axis=0), reason


def _sentence(before: str, values: np.ndarray, after: str = "") -> np.ndarray:
    shown = np.where(values == "", "unknown", values)
    return np.char.add(np.char.add(before, shown), after)
