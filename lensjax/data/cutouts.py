"""A user's own cutouts as training batches: read from their files as they are needed, never loaded whole."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lensjax.core import sharding
from lensjax.core.errors import UserError
from lensjax.data.batches import Batch, Batches, epoch_rows
from lensjax.physics import bands

Table = dict[str, np.ndarray]
OK = "ok"


def load_cutouts(config: Any, source: Any = None) -> Batches:
    """Batches of the cutouts of config.data.input that have an image, brighter than config.data.mag_max.

    With config.data.uniform_mag, every magnitude is drawn as often (Stein et al. 2022, section 3.1). A random
    config.data.num_test of them are the test split. source: stands in for the files; len(), table() -> dict of columns,
    read(rows) -> images (n, H, H, B). Raises UserError where too few cutouts are left for a batch.
    """
    if source is None:
        from lensjax.surveys.cutouts import open_cutouts

        source = open_cutouts(config.data.input)
    table, size = source.table(), config.train.batch_size
    rows = np.random.default_rng(config.seed).permutation(usable(table, len(source), config.data.mag_max))
    num_test = min(config.data.num_test, len(rows) // 10)
    test, train = rows[:num_test], rows[num_test:]
    if len(train) < size:
        raise UserError(
            f"{config.data.input} has {len(train)} cutouts to train on, fewer than config.train.batch_size, {size}: "
            "give more, or raise config.data.mag_max."
        )
    if config.data.uniform_mag:
        train = train[uniform_in(magnitude(table)[train], len(train), config.seed)]
    local = sharding.local_rows(size)

    def take(rows: np.ndarray) -> Batch:
        return observe(source, table, rows[local])

    def test_batches() -> Iterator[Batch]:
        for start in range(0, num_test, size):
            yield take(test[np.minimum(np.arange(start, start + size), num_test - 1)])

    def train_batch(step: int) -> Batch:
        return take(train[epoch_rows(len(train), size, config.seed, step)])

    return Batches(train_batch, test_batches, len(train), num_test)


def observe(source: Any, table: Table, rows: np.ndarray) -> Batch:
    """What the network may know of these rows: image (n, H, H, B), psfsize, noise (n, B), ebv (n,); NaN where unknown.

    E(B-V) counts as 0 where it is unknown; pixels that are not finite as 0.
    """
    image = np.nan_to_num(np.asarray(source.read(rows), np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    unknown = np.full((len(rows), image.shape[-1]), np.nan, np.float32)
    psfsize = np.asarray(table["psfsize"], np.float32)[rows] if "psfsize" in table else unknown
    noise = unknown
    if "psfdepth" in table:
        depth = np.asarray(table["psfdepth"], np.float32)[rows]
        known = (depth > 0) & (psfsize > 0)
        noise = np.asarray(bands.pixel_noise(np.where(known, depth, 1.0), np.where(known, psfsize, 1.0)), np.float32)
        noise = np.where(known, noise, np.nan)
    psfsize = np.where(psfsize > 0, psfsize, np.nan)
    ebv = (
        np.nan_to_num(np.asarray(table["ebv"], np.float32)[rows]) if "ebv" in table else np.zeros(len(rows), np.float32)
    )
    return {"image": image, "psfsize": psfsize, "noise": noise, "ebv": ebv}


def magnitude(table: Table) -> np.ndarray:
    """(N,) z magnitudes from the column flux (N, B), nanomaggies; NaN where it is not positive or not there."""
    if "flux" not in table:
        return np.full(len(next(iter(table.values()))), np.nan)
    flux = np.asarray(table["flux"], np.float64)[:, -1]
    return np.where(flux > 0, bands.ZERO_POINT - 2.5 * np.log10(np.where(flux > 0, flux, 1.0)), np.nan)


def usable(table: Table, count: int, mag_max: float) -> np.ndarray:
    """Rows with an image whose magnitude is unknown or below mag_max."""
    good = np.ones(count, bool)
    if "status" in table:
        good &= np.asarray(table["status"]) == OK
    if "flux" in table:
        good &= ~(magnitude(table) >= mag_max)
    return np.flatnonzero(good)


def uniform_in(mag: np.ndarray, number: int, seed: int, bins: int = 20) -> np.ndarray:
    """`number` indices into mag (N,), with repeats, as many in each of `bins` equal steps of magnitude that are filled.

    Those without a magnitude are left out, unless none has one.
    """
    known = np.flatnonzero(np.isfinite(mag))
    if not len(known):
        return np.arange(len(mag))
    edges = np.linspace(mag[known].min(), mag[known].max(), bins + 1)
    place = np.clip(np.searchsorted(edges, mag[known], "right") - 1, 0, bins - 1)
    filled = np.bincount(place, minlength=bins)
    weight = 1.0 / (filled[place] * np.count_nonzero(filled))
    return np.random.default_rng([seed, number]).choice(known, number, p=weight / weight.sum())
