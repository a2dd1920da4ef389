"""What every reader returns: the spectra of one file as stacked arrays, with a table of who they are."""

from typing import NamedTuple

import numpy as np

from lensjax.physics import grid

# Column of Block.table -> (type, value where the file does not say).
TABLE = {
    "file": ("U", ""),  # path as it was found
    "row": (np.int32, 0),  # place in the file: fiber of a plate, target of a coadd
    "survey": ("U", ""),  # SDSS (I and II), BOSS, eBOSS, SDSS-V, DESI; empty where the file does not tell
    "plate": (np.int32, -1),  # of SDSS-V the field
    "mjd": (np.int32, -1),
    "fiberid": (np.int32, -1),
    "targetid": (np.int64, -1),  # TARGETID of DESI, CATALOGID (or SDSS_ID) of SDSS-V
    "ra": (np.float64, np.nan),  # degrees, of the fiber
    "dec": (np.float64, np.nan),
    "z": (np.float64, np.nan),
    "zwarning": (np.int64, 0),
    "class": ("U", ""),  # GALAXY, QSO, STAR
    "subclass": ("U", ""),
    "objtype": ("U", ""),  # what the fiber was put on: GALAXY, QSO, SKY, TGT, ...
    "sky": (np.bool_, False),  # a fiber on blank sky: the control sample
    "status": ("U", ""),  # empty where all is well, else one sentence
}


class BadFile(ValueError):
    """A file, or a part of it, that cannot be used: the message becomes the status of its spectra."""


class Block(NamedTuple):
    """N spectra on one window of P grid pixels; a file holding a single spectrum is a block of one.

    flux: (N, P) float32, 1e-17 erg/s/cm2/A; 0 where ivar is 0.
    ivar: (N, P) float32, inverse square of that; 0 where the pixel is bad, masked or missing.
    wdisp: (N, P) float32, sigma of the line-spread function in pixels; 1 where unknown.
    z: (N,) float32; 0 where unknown (the table has NaN there).
    table: dict of numpy columns (N,), the keys of TABLE.
    """

    flux: np.ndarray
    ivar: np.ndarray
    wdisp: np.ndarray
    z: np.ndarray
    table: dict[str, np.ndarray]

    def batch(self) -> dict[str, np.ndarray]:
        """The arrays as the example dict that simulators, tasks and scorers share."""
        return {"flux": self.flux, "ivar": self.ivar, "wdisp": self.wdisp, "z": self.z}

    @property
    def has_data(self) -> np.ndarray:
        """bool (N,): at least one good pixel, so that a score means something."""
        return self.ivar.max(axis=1) > 0

    def take(self, rows) -> "Block":
        """The block of the given rows (indices, slice or bool mask)."""
        arrays = (self.flux[rows], self.ivar[rows], self.wdisp[rows], self.z[rows])
        return Block(*arrays, {name: column[rows] for name, column in self.table.items()})


def full_table(num: int, known: dict) -> dict[str, np.ndarray]:
    """All columns of TABLE, (num,) each: the known ones (arrays or scalars) converted, the rest at their default."""
    table = {}
    for name, (dtype, default) in TABLE.items():
        values = np.asarray(known.get(name, default))
        values = values.astype(np.str_ if dtype == "U" else dtype)
        table[name] = np.broadcast_to(values, (num,)).copy()
    table["sky"] |= table["objtype"] == "SKY"
    return table


def make_block(flux, ivar, wdisp, bad, known: dict, loglam: np.ndarray) -> Block:
    """Block from raw arrays (N, P) on the window: bad pixels zeroed, unknown widths 1, empty spectra given a reason.

    bad: (N, P) bool from the survey's own mask, in addition to ivar <= 0 and everything that is not finite.
    known: columns of TABLE; a status that is already set is kept.
    """
    good = np.isfinite(flux) & np.isfinite(ivar) & (ivar > 0) & ~bad
    table = full_table(len(flux), known)
    # a NaN in every pixel is a broken file; ivar 0 in every pixel is a fiber without data
    all_nan = ~np.isfinite(flux).any(axis=1)
    span = f"between {grid.wave(loglam[0]):.0f} and {grid.wave(loglam[-1]):.0f} A"
    reason = np.where(
        all_nan, f"every flux value {span} is NaN", f"no good pixel {span}: all missing, masked or with ivar 0"
    )
    table["status"] = np.where(~good.any(axis=1) & (table["status"] == ""), reason, table["status"])
    arrays = (
        np.where(good, flux, 0).astype(np.float32),
        np.where(good, ivar, 0).astype(np.float32),
        np.where(np.isfinite(wdisp) & (wdisp > 0), wdisp, 1).astype(np.float32),
    )
    return Block(*arrays, np.nan_to_num(table["z"], nan=0.0).astype(np.float32), table)


def failed_block(path: str, reason: str, loglam: np.ndarray) -> Block:
    """The one-row block of a file that cannot be read: zeros, and the sentence that says why."""
    zeros = np.zeros((1, len(loglam)), np.float32)
    table = full_table(1, {"file": str(path), "status": reason})
    return Block(zeros, zeros.copy(), np.ones_like(zeros), np.zeros(1, np.float32), table)


def concatenate(blocks: list[Block]) -> Block:
    """One block of all rows, in order."""
    table = {name: np.concatenate([block.table[name] for block in blocks]) for name in TABLE}
    arrays = {
        name: np.concatenate([block.batch()[name] for block in blocks]) for name in ("flux", "ivar", "wdisp", "z")
    }
    return Block(**arrays, table=table)
