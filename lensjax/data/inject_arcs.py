"""Training sets from a user's own galaxies: cutouts in, HDF5 of the same galaxies with and without arcs out."""

import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from lensjax.core.errors import UserError
from lensjax.data.cutouts import GRZ
from lensjax.physics import bands
from lensjax.sims.arcs import TRUTH, make_arcs
from lensjax.surveys.cutouts import OK, Cutouts, open_cutouts, writing_cutouts

KEPT = ("ra", "dec", "ebv", "flux", "psfsize", "psfdepth", "z_spec", "z_phot", "type", "inds")
MAD = 1.4826 / np.sqrt(2)  # scatter of one pixel from the median absolute difference of two


def inject_arcs(config: Any, source: Any, path: str | pathlib.Path) -> int:
    """Write the galaxies of `source` to `path` (HDF5, Stein's layout), each as it is and, next to it, with an arc.

    Args:
        config: sim, data.size (pixels of the output), train.batch_size (galaxies of one pass) and seed.
        source: what `open_cutouts` takes, or its Cutouts; bands g, r, z.
        path: replaced whole. Beside the columns of the input it has label (1 with an arc), host (row in the input) and
            the truth of the arcs, 0 where there is none.

    Where psfsize or psfdepth are unknown, the PSF is taken to be the median of config.sim.psf, and the noise the
    scatter between neighbouring pixels; unknown dust (ebv) is none. An arc depends on the seed and the row alone.
    Returns the number of galaxies; those that are lenses already or unusable are left out, and counted on stderr.
    Memory: one pass. UserError for other bands, or where no galaxy can be used.
    """
    cutouts = source if isinstance(source, Cutouts) else open_cutouts(source, config.data.size, bands=GRZ)
    arcs, key = make_arcs(config.sim, cutouts.size), jax.random.key(config.seed)
    add = jax.jit(jax.vmap(lambda row, *example: arcs(jax.random.fold_in(key, row), *example)))
    table, size, written = cutouts.table(), config.train.batch_size, 0
    with writing_cutouts(path) as append:
        for rows, images in galaxies(cutouts, table, size):
            append(*_pairs(add, rows, images, table, config.sim, size))
            written += len(rows)
    _report_lost(cutouts.table())
    return written


def galaxies(cutouts: Cutouts, table: dict[str, np.ndarray], size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(rows (n,), images (n, H, W, 3)) of what arcs can be put around, `size` rows at most at a time.

    Known lenses, label 1 in the table, have arcs of their own. UserError for other bands, and where nothing is left.
    """
    if cutouts.bands != GRZ:
        raise UserError(f"arcs have colours in g, r, z, the cutouts bands {cutouts.bands}: give cutouts in grz")
    number, plain = 0, np.flatnonzero(table["label"] != 1)
    for start in range(0, len(plain), size):
        rows = plain[start : start + size]
        images = cutouts.read(rows)
        good = np.isfinite(images).all(axis=(1, 2, 3))
        number += good.sum()
        if good.any():
            yield rows[good], images[good]
    if not number:
        lenses, status = len(cutouts) - len(plain), cutouts.table()["status"]
        why = status[plain[0]] if len(plain) else "label 1"
        raise UserError(f"of {len(cutouts)} cutouts {lenses} are lenses, and no other is usable ({why}): give others")


def _report_lost(table: dict[str, np.ndarray]) -> None:
    """Say on stderr how many cutouts of a table that was read are not among `galaxies`, and why."""
    lenses = table["label"] == 1
    bad = (table["status"] != OK) & ~lenses
    if lenses.any():
        print(f"{lenses.sum()} cutouts with label 1, lenses already, are left out", file=sys.stderr)
    if bad.any():
        first = np.argmax(bad)
        what = f"{table['file'][first]}, row {table['row'][first]}: {table['status'][first]}"
        print(f"{bad.sum()} cutouts that are unusable are left out, the first {what}", file=sys.stderr)


def _pairs(add, rows, images, table, sim, size: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Images (2 n, H, W, 3), without and with an arc in turn, and their columns; one compiled pass of `size`."""
    number = len(rows)
    example = (rows, images, *observing(images, rows, table, sim))
    made = add(*(np.resize(values, (size, *values.shape[1:])) for values in example))
    made = {name: np.asarray(values)[:number] for name, values in made.items()}
    both = np.stack([images, made["image"]], axis=1).reshape(-1, *images.shape[1:])
    columns = {name: np.repeat(table[name][rows], 2, axis=0) for name in KEPT}
    columns |= {"host": np.repeat(rows, 2), "label": np.tile(np.array([0, 1], np.int32), number)}
    columns |= {name: np.stack([np.zeros_like(made[name]), made[name]], axis=1).reshape(-1) for name in TRUTH}
    return both, columns


def observing(images, rows, table, sim) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """psfsize (n, 3), FWHM in arcsec, noise (n, 3), nanomaggies a pixel, and ebv (n,), 0 where it is unknown, of images
    (n, H, W, 3) of the table."""
    _, location, scale = np.asarray(sim.psf, np.float32).T
    psfsize, depth = (np.asarray(table[name], np.float32)[rows] for name in ("psfsize", "psfdepth"))
    median = (location + scale) * np.float32(bands.PIXEL * bands.FWHM)
    psfsize = np.where(psfsize > 0, psfsize, median)
    step = np.ma.masked_equal(np.abs(np.diff(images, axis=2)), 0)  # not of what is padded or filled
    scatter = np.ma.filled(np.ma.median(step, axis=(1, 2)), 0) * np.float32(MAD)
    stated = np.asarray(bands.pixel_noise(np.where(depth > 0, depth, 1.0), psfsize), np.float32)
    noise = np.where(depth > 0, stated, scatter)
    ebv = np.nan_to_num(np.asarray(table["ebv"], np.float32)[rows])
    return psfsize.astype(np.float32), np.maximum(noise, 1e-5).astype(np.float32), ebv
