"""Continua of the user's own objects, for mocks that look like them: what config.sim.continuum may be."""

import pathlib
import sys
from typing import Any

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import replacing
from lensjax.core.journal import Progress
from lensjax.physics import grid
from lensjax.search import score
from lensjax.search.inject import MOST_FILES
from lensjax.search.spectra import wide_window
from lensjax.sims import continua
from lensjax.surveys import Block, concatenate, find_files

NAME, FIGURE_NAME = "continua.npz", "continua.png"
STREAM = 17  # of the seed
SHOWN = 6  # objects in the figure
FEW = 10  # objects that a vector needs at least: of fewer, it is the portrait of one


def build_continua(config: Any, workdir: str | pathlib.Path) -> pathlib.Path:
    """Decompose the selected objects of config.search.input; write continua.npz and a figure of some, continua.png.

    The library is that of `sims.continua.build_library`, over the window of the search and of the vetting.

    Raises UserError for input with too few objects that config.select accepts and config.continua.least_snr passes.
    """
    folder, settings = pathlib.Path(workdir), config.continua
    loglam = wide_window(config)
    objects = read_objects(config, loglam)
    if len(objects.z) < FEW * settings.vectors:
        raise UserError(
            f"{config.search.input} has {len(objects.z)} objects that config.select accepts, with a median S/N of "
            f"{settings.least_snr} a pixel: {FEW * settings.vectors} are needed for {settings.vectors} vectors. Give "
            "more spectra, or lower config.continua.vectors or config.continua.least_snr."
        )
    print(f"continua: decomposing {len(objects.z)} spectra", file=sys.stderr)
    library = continua.build_library(objects.flux, objects.ivar, loglam, objects.z, settings.vectors, settings.smooth)
    continua.save_library(folder / NAME, library)
    with replacing(folder / FIGURE_NAME) as temporary:
        draw(objects, loglam, library).savefig(temporary, dpi=150)
    wave = grid.wave(library.loglam0 + grid.STEP * np.array([0, library.vectors.shape[1]]))
    low, high = redshifts(library, grid.window(*config.data.window))
    use = f'Use it with --config.sim.continuum={folder / NAME} --config.sim.redshift="({low:.2f}, {high:.2f})"'
    if low >= high:
        window = "{:.0f}-{:.0f} A".format(*config.data.window)
        use = f"It covers {window} at no redshift: give more spectra, or narrow config.data.window."
    print(
        f"{folder / NAME}: {len(objects.z)} objects at z {library.z[0]:.2f}-{library.z[-1]:.2f}, {settings.vectors} "
        f"vectors, {wave[0]:.0f}-{wave[1]:.0f} A at rest. {use}"
    )
    return folder / NAME


def redshifts(library: continua.Library, loglam: np.ndarray) -> tuple[float, float]:
    """Least and largest redshift, to 0.01, of mocks on the window `loglam` (P,): with members there, all of it seen."""
    reach = continua.reach(library, loglam)
    return np.ceil(100 * max(library.z[0], reach[0])) / 100, np.floor(100 * min(library.z[-1], reach[1])) / 100


def read_objects(config: Any, loglam: np.ndarray) -> Block:
    """Up to config.continua.number selected objects whose median S/N is high enough, from files in random order.

    Of one file no more than a MOST_FILES-th of them, where there are as many files. Reading ends with the last of them.
    """
    settings, random = config.continua, np.random.default_rng([config.seed, STREAM])
    paths = [path for path, _ in find_files(config.search.input)]
    read = score.make_read(config, loglam, score.load_catalogue(config))
    parts, room = [], settings.number
    most = -(-room // min(len(paths), MOST_FILES))
    progress = Progress(len(paths), 0, "continua", unit="file")
    for path in random.permutation(paths):
        block, selected = read(str(path))
        rows = np.flatnonzero(selected)
        bright = median_snr(block.flux[rows], block.ivar[rows]) >= settings.least_snr
        chosen = random.permutation(rows[bright])[: min(room, most)]
        if len(chosen) or not parts:
            parts.append(block.take(np.sort(chosen)))
        room -= len(chosen)
        progress.advance()
        if room == 0:
            break
    progress.close()
    return concatenate(parts)


def median_snr(flux: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """Median S/N (N,) of the good pixels of each spectrum; flux, ivar (N, P)."""
    ratio = np.where(ivar > 0, flux * np.sqrt(ivar), np.nan)
    return np.array([np.nanmedian(row) if np.isfinite(row).any() else 0.0 for row in ratio])


def draw(objects: Block, loglam: np.ndarray, library: continua.Library) -> Any:
    """Spectra of some objects, from the lowest to the highest redshift, and what the library's vectors make of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 2 * SHOWN), layout="constrained")
    order = np.argsort(objects.z, kind="stable")
    places = np.linspace(0, len(order) - 1, SHOWN).astype(int)
    wave = grid.wave(loglam)
    for axis, place in zip(figure.subplots(SHOWN, 1, sharex=True), places, strict=True):
        row = order[place]
        start = (loglam[0] - np.log10(1 + objects.z[row]) - library.loglam0) / grid.STEP
        whole = library.coefficients[place] @ library.vectors
        model = np.interp(start + np.arange(len(loglam)), np.arange(len(whole)), whole, left=np.nan, right=np.nan)
        good = (objects.ivar[row] > 0) & np.isfinite(model)
        weight = objects.ivar[row][good]
        scale = np.sum(weight * model[good] * objects.flux[row][good]) / np.sum(weight * model[good] ** 2)
        seen = np.where(objects.ivar[row] > 0, objects.flux[row], np.nan)
        axis.plot(wave, seen, lw=0.4, color="#999999", label="spectrum")
        axis.plot(wave, scale * model, lw=0.9, color="#0072B2", label="library")
        axis.set_ylim(min(0, 1.2 * np.nanmin(scale * model)), 1.5 * np.nanmax(scale * model))
        axis.set_title(f"z = {objects.z[row]:.3f}", fontsize=9, loc="right")
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    axis.set_xlabel("vacuum wavelength (Å)")
    figure.supylabel("flux (1e-17 erg/s/cm²/Å)")
    return figure
