"""Catalogue columns under one set of names, the spAll/specObj pre-selection, and the sample cuts."""

import numpy as np

from lensjax.core.errors import UserError
from lensjax.surveys.block import TABLE, BadFile, Block
from lensjax.surveys.catalogues import read_table
from lensjax.surveys.fits import Hdu, column_names, is_fits, open_fits, read_columns

# Our name -> the survey's, in order of preference; a blank or missing text falls through to the next. FIELD and below
# are SDSS-V's: BOSS too has a FIELD, of the imaging, but also PLATE, and DESI TARGET_RA beside FIBER_RA.
ALIASES = {
    "survey": ("SURVEY",),
    "plate": ("PLATE", "FIELD"),
    "mjd": ("MJD",),
    "fiberid": ("FIBERID", "FIBER"),
    "targetid": ("TARGETID", "CATALOGID", "SDSS_ID"),
    "ra": ("PLUG_RA", "TARGET_RA", "FIBER_RA", "RACAT", "RA"),
    "dec": ("PLUG_DEC", "TARGET_DEC", "FIBER_DEC", "DECCAT", "DEC"),
    "z": ("Z",),
    "zwarning": ("ZWARNING", "ZWARN"),
    "class": ("CLASS", "SPECTYPE"),
    "subclass": ("SUBCLASS", "SUBTYPE"),
    "objtype": ("OBJTYPE", "SOURCETYPE", "TARGETTYPE"),
}
NOQSO = {"z": "Z_NOQSO", "zwarning": "ZWARNING_NOQSO", "class": "CLASS_NOQSO", "subclass": "SUBCLASS_NOQSO"}
NEEDED = tuple(dict.fromkeys(name for names in ALIASES.values() for name in names)) + tuple(NOQSO.values())
NEEDED += ("ZCAT_PRIMARY",)
NO_REDSHIFT = "class and redshift are unknown"  # the end of such a status
FIRST_BOSS_PLATE = 3510
FIRST_EBOSS_MJD = 56839  # 2014 July 1, the begin of SDSS-IV
FIRST_SDSSV_FIELD = 15000  # its plates, and from 16000 its fields
BY_PLATE = ("plate", "mjd", "fiberid")
JOINED = ("ra", "dec", "z", "zwarning", "class", "subclass", "objtype")  # what a catalogue knows better than the file
ROWS = 100_000  # of a catalogue read at a time


def read_standard(unit: Hdu, quasars: bool = False) -> dict[str, np.ndarray]:
    """The columns of a catalogue table (SPALL, SPECOBJ, spZbest, PLUGMAP, REDSHIFTS, FIBERMAP) under our names."""
    return standardise(read_columns(unit, NEEDED), quasars)


def standardise(columns: dict[str, np.ndarray], quasars: bool = False) -> dict[str, np.ndarray]:
    """Survey columns (names in capitals) -> ours. Galaxies get the fit without quasar templates, where there is one.

    Text where a number belongs, as a CATALOGID of an unassigned fiber, is passed over.
    For galaxy targets the BOSS pipeline advises Z_NOQSO and its companions (Bolton et al. 2012, section 3.4). For
    everything else they are wrong, and in SDSS-I/II they are all zero: those keep Z. So does everything where `quasars`
    are looked for: some are found in fibers put on galaxies.
    """
    out = {}
    for name, aliases in ALIASES.items():
        text = TABLE[name][0] == "U"
        found = [columns[alias] for alias in aliases if alias in columns and (columns[alias].dtype.kind == "U") == text]
        if found:
            out[name] = _first_filled(found)
    if not quasars and all(name in columns for name in NOQSO.values()) and "class" in out:
        galaxy = (out["class"] == "GALAXY") | (out.get("objtype", out["class"]) == "GALAXY")
        use = galaxy & (columns["CLASS_NOQSO"] != "") & (columns["Z_NOQSO"] != 0)
        for name, survey_name in NOQSO.items():
            out[name] = np.where(use, columns[survey_name], out[name])
    if "ZCAT_PRIMARY" in columns:
        out["primary"] = columns["ZCAT_PRIMARY"].astype(bool)
    return out


def _first_filled(candidates: list[np.ndarray]) -> np.ndarray:
    """The first candidate; where it is blank text, the next."""
    values = candidates[0]
    for other in candidates[1:] if values.dtype.kind == "U" else []:
        values = np.where(values == "", other, values)
    return values


def survey_name(plate, mjd) -> np.ndarray:
    """SDSS (I and II), BOSS, eBOSS or SDSS-V, from plate (or field) and MJD; empty where there is no plate."""
    plate, mjd = np.asarray(plate), np.asarray(mjd)
    first = {"SDSS-V": plate >= FIRST_SDSSV_FIELD, "": plate < 0, "SDSS": plate < FIRST_BOSS_PLATE}
    return np.select([*first.values(), mjd >= FIRST_EBOSS_MJD], [*first, "eBOSS"], "BOSS")


def read_catalogue(path, quasars: bool = False) -> dict[str, np.ndarray]:
    """A spAll, specObj or zcatalog, or a table of one's own: the columns JOINED under our names, and key; UserError if
    unusable.

    FITS, or any other format that astropy reads, names of columns in any case. Rows are in the order of key, see
    `row_key`. Of FITS only the needed columns are taken from the (memory-mapped) file, in one pass, so a table of many
    GB costs some 200 bytes a row, and twice that while it is read. quasars: see `standardise`.
    """
    try:
        table = read_any(path, "the catalogue", quasars)
    except BadFile as error:
        raise UserError(
            f"the catalogue {path} cannot be used: {error}; give a spAll or specObj file, or another table with "
            "PLATE, MJD, FIBERID and Z"
        ) from None
    names = _identity(table)
    if not names or "z" not in table or not len(table["z"]):
        raise UserError(
            f"the catalogue {path} has the columns {sorted(table) or 'of no table'} and {len(table.get('z', ()))} "
            "redshifts; expected PLATE, MJD and FIBERID (or TARGETID, or CATALOGID) and Z, as in spAll or specObj"
        )
    for name in names:
        check_whole(table[name], f"the catalogue {path}")
    primary = [~table["primary"]] if "primary" in table else []  # DESI: of several rows of a target the best is first
    order = np.lexsort([*primary, *(table[name] for name in reversed(names))])
    key = row_key(table, names)[order]
    return {name: table[name][order] for name in JOINED if name in table} | {"key": key}


def read_any(path, what: str, quasars: bool = False) -> dict[str, np.ndarray]:
    """The columns of a table of any format under our names, see `standardise`; none of a FITS file without a table.

    BadFile for damaged FITS, UserError, which says `what` it is, for what astropy cannot read. Of other formats than
    FITS, cells without a value are blank text, NaN, or -1 of integers.
    """
    if is_fits(path):
        units = [unit for unit in open_fits(path) if column_names(unit)]
        return _read_rows(units[0], quasars) if units else {}
    table = read_table(path, what)
    columns = {name.upper(): _plain(table[name]) for name in table.colnames if name.upper() in NEEDED}
    if columns.get("ZCAT_PRIMARY", np.zeros(0)).dtype.kind == "U":  # of CSV
        columns["ZCAT_PRIMARY"] = np.char.upper(columns["ZCAT_PRIMARY"]) == "TRUE"
    return standardise(columns, quasars)


def _plain(column) -> np.ndarray:
    """Values of an astropy column as `read_columns` has them."""
    values = np.ma.asarray(column)
    if values.dtype.kind in "OSU":
        return np.char.strip(np.ma.filled(values.astype(np.str_), ""))
    return np.ma.filled(values, np.nan if values.dtype.kind == "f" else -1)


def _read_rows(unit: Hdu, quasars: bool) -> dict[str, np.ndarray]:
    """`read_standard` of a table of any length, ROWS at a time: each page of the file is looked at once."""
    starts = range(0, max(unit.header.get("NAXIS2", 0), 1), ROWS)
    parts = [standardise(read_columns(unit, NEEDED, slice(start, start + ROWS)), quasars) for start in starts]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def check_whole(identity: np.ndarray | None, where: str) -> None:
    """UserError where identity (N,), numbers of objects, are floats that cannot hold them (TARGETID with gaps).

    where: which table, the begin of the sentence.
    """
    if identity is not None and identity.dtype.kind == "f" and (np.abs(identity) >= 1 << 53).any():
        raise UserError(f"{where} has identities of objects as floats, whose last digits are lost: give integers.")


def _identity(table: dict) -> tuple[str, ...]:
    """Columns that tell the rows of a catalogue apart: TARGETID of DESI; of SDSS-V, which observes a CATALOGID several
    times, field and MJD too; else plate, MJD and fiber; none where these are not there."""
    if "targetid" in table and (table["targetid"] > 0).any():
        return ("targetid", "plate", "mjd") if {"plate", "mjd"} <= set(table) else ("targetid",)
    return BY_PLATE if set(BY_PLATE) <= set(table) else ()


def row_key(table: dict, names: tuple[str, ...]) -> np.ndarray:
    """The columns `names`, whole numbers, as one structured array (N,), which compares them in order; -1 for none."""
    key = np.empty(len(table[names[0]]), [(name, TABLE[name][0]) for name in names])
    for name in names:
        values = np.asarray(table[name])
        key[name] = np.where(np.isfinite(values), values, -1) if values.dtype.kind == "f" else values
    return key


def join(block: Block, catalogue: dict[str, np.ndarray]) -> Block:
    """The block with class, redshift, ... of the catalogue where it holds the object; the others get a status.

    Objects are matched by the key of the catalogue: plate, MJD and fiber, or the target.
    """
    keys = catalogue["key"]
    mine = row_key(block.table, keys.dtype.names or ())
    place = np.minimum(np.searchsorted(keys, mine), len(keys) - 1)
    found = keys[place] == mine
    table = dict(block.table)
    for name in JOINED:
        if name in catalogue:
            table[name] = np.where(found, catalogue[name][place], table[name])
    table["sky"] = table["objtype"] == "SKY"
    unknown = np.char.endswith(table["status"], NO_REDSHIFT)
    table["status"] = np.where(found & unknown, "", table["status"])
    absent = ~found & (table["status"] == "")
    table["status"] = np.where(absent, "not in the catalogue", table["status"])
    return block._replace(z=np.nan_to_num(table["z"], nan=0.0).astype(np.float32), table=table)


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
