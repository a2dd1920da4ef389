"""A user's own cutouts as training arrays: images are read from their files as they are needed, never loaded whole."""

from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.physics import bands
from lensjax.surveys import labels

Table = dict[str, np.ndarray]
OK = "ok"
GRZ = "".join(bands.BANDS)
SUPERVISED = ("lens",)  # systems that need labels
SEEING = ("psfsize", "psfdepth")  # FWHM in arcsec, 1 / nanomaggies^2


class Images:
    """The images of some `rows` of a source as if they were an array: images[i] reads; pixels not finite count as 0.

    Of a source that reads images with such pixels as NaN throughout, the whole image does.
    """

    def __init__(self, source: Any, rows: np.ndarray):
        self._source, self._rows = source, rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        images = np.asarray(self._source.read(self._rows[index]), np.float32)
        return np.nan_to_num(images, nan=0.0, posinf=0.0, neginf=0.0)


def load_cutouts(config: Any, source: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """(train, test) arrays of the cutouts of config.data.input that are `chosen` (Stein et al. 2022, section 3.1).

    Those of systems in SUPERVISED also have label (n,), and objects without one, 1 or 0, are left out.
    A random config.data.num_test of them, a tenth at most, are the test split (`hold_out`). source: stands in for the
    files; len(), table() -> dict of columns, read(rows) -> images (n, H, H, B), and perhaps bands, a letter each.
    Raises UserError where too few are left for a batch, and for other bands than the network takes.
    """
    if source is None:
        from lensjax.surveys.cutouts import open_cutouts

        source = open_cutouts(config.data.input, config.data.size, holes=True, bands=wanted_bands(config))
    check_bands(source, config)
    table = source.table()
    good = np.asarray(table["status"]) == OK if "status" in table else np.ones(len(source), bool)
    labelled = config.system in SUPERVISED
    if labelled:
        good &= np.isin(np.asarray(table["label"]), (0, 1))
        if not good.any():
            raise UserError(f"{config.data.input} has no column label, 1 a lens, 0 none: give one, or --mode=inject.")
    rows = np.random.default_rng(config.seed).permutation(chosen(table, good, config.data))
    rows, num_test = hold_out(rows, places(table, len(source))[rows], config.data.num_test)
    if len(rows) - num_test < config.train.batch_size:
        raise UserError(
            f"{config.data.input} has {len(rows) - num_test} cutouts to train on, fewer than config.train.batch_size, "
            f"{config.train.batch_size}: give more, or raise config.data.mag_max."
        )
    arrays = []
    for part in (rows[num_test:], rows[:num_test]):
        label = {"label": np.asarray(table["label"], np.float32)[part]} if labelled else {}
        arrays.append({**observe(source, table, part, len(config.augment.noise)), **label})
    return arrays[0], arrays[1]


def places(table: Table, number: int) -> np.ndarray:
    """Of each of N = `number` images a whole number (N,), the same where ra and dec are.

    Where these are NaN, the same where file and host are, as --mode=inject writes them; else its own.
    """
    ra, dec = (np.asarray(table[name] if name in table else np.full(number, np.nan)) for name in ("ra", "dec"))
    sky, elsewhere = ra + 1j * dec, np.arange(number) + 1000j  # degrees, beyond any declination
    if {"host", "row"} <= set(table):
        first = np.arange(number) - table["row"]  # of the file
        elsewhere = np.where(table["host"] >= 0, first + 1j * (2000 + table["host"]), elsewhere)
    return np.unique(np.where(np.isfinite(sky), sky, elsewhere), return_inverse=True)[1]


def hold_out(rows: np.ndarray, place: np.ndarray, number: int) -> tuple[np.ndarray, int]:
    """(rows (N,), how many of the first are to test on): `number` of them, a tenth at most and one at least.

    place (N,), of each row: those of one place, as --mode=inject writes a galaxy with and without an arc, are put side
    by side, and all are tested on where one is. Else the rows keep their order.
    """
    _, first, which = np.unique(place, return_index=True, return_inverse=True)
    order = np.argsort(first[which], kind="stable")
    rows, place = rows[order], place[order]
    number = min(max(min(number, len(rows) // 10), 1), len(rows))
    return rows, number + int(np.sum(place[number:] == place[number - 1 : number]))


def wanted_bands(config: Any) -> str:
    """grz where the network of this config takes three bands; empty where it takes others, which no config names."""
    return GRZ if len(config.augment.noise) == len(GRZ) else ""


def check_bands(source: Any, config: Any) -> None:
    """UserError where a source that names its bands has others than the network of this config takes."""
    found, number, wanted = getattr(source, "bands", None), len(config.augment.noise), wanted_bands(config)
    if found is not None and (len(found) != number or (wanted and found != wanted)):
        count = f"{len(found)} band{'s' * (len(found) != 1)}"
        raise UserError(
            f"the images have {count} ({found}): expected {number} {f'({wanted}) ' if wanted else ''}as the network "
            "takes; give images in these bands, or train a network for others: config.augment.psf, "
            "config.augment.noise and config.model.stretch.softening have an entry a band."
        )


def observe(source: Any, table: Table, rows: np.ndarray, number: int) -> dict[str, Any]:
    """What the network may know of these rows, in a `number` B of bands: image (n, H, H, B), psfsize and noise (n, B),
    ebv (n,).

    Images are read when they are asked for. psfsize and noise are NaN where they are unknown; E(B-V) counts as 0 there.
    """
    unknown = np.full((len(rows), number), np.nan, np.float32)
    psfsize, depth = (np.asarray(table[name], np.float32)[rows] if name in table else unknown for name in SEEING)
    psfsize, depth = (np.where(x > 0, x, np.nan) for x in (psfsize, depth))
    ebv = (
        np.nan_to_num(np.asarray(table["ebv"], np.float32)[rows]) if "ebv" in table else np.zeros(len(rows), np.float32)
    )
    noise = np.asarray(bands.pixel_noise(depth, psfsize), np.float32)
    return {"image": Images(source, rows), "psfsize": psfsize, "noise": noise, "ebv": ebv}


def chosen(table: Table, good: np.ndarray, settings: Any) -> np.ndarray:
    """Rows to train on: those that are good (N,), and brighter than settings.mag_max in z or of unknown magnitude.

    With settings.uniform_mag, settings.num_train of them at most, as evenly in magnitude as there are any. settings:
    config.data.
    """
    mag = np.full(len(good), np.nan)
    if "flux" in table:
        mag = labels.magnitude(np.asarray(table["flux"])[:, -1])
    rows = np.flatnonzero(good & ~(mag >= settings.mag_max))
    known = rows[np.isfinite(mag[rows])]
    if not settings.uniform_mag or not len(known):
        return rows
    number = min(settings.num_train, len(known))
    return known[labels.sample_uniform(mag[known], number, 0, settings.mag_max)]
