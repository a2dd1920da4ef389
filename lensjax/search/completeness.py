"""completeness.fits: the share of injected lines that a search finds, in cells of what they were."""

import pathlib
from typing import Any

import numpy as np

from lensjax.core.files import replacing
from lensjax.search.spectra import Columns
from lensjax.tasks.metrics import binomial_interval

# Column of the injected lines -> (unit, meaning).
AXES = {
    "wave": ("Angstrom", "vacuum wavelength of the line"),
    "snr": ("", "matched-filter S/N of the line: its true profile, the errors of the spectrum"),
    "line_flux": ("1e-17 erg / (s cm2)", "flux of the line"),
    "line_sigma": ("km / s", "scale of its skew normal, before the line-spread function"),
    "line_alpha": ("", "shape of its skew normal; positive = red tail"),
}
MAPS = {  # table -> the axes of its cells
    "WAVE_FLUX": ("wave", "line_flux"),
    "WAVE_SNR": ("wave", "snr"),
    "SIGMA_SNR": ("line_sigma", "snr"),
    "ALPHA_SNR": ("line_alpha", "snr"),
    "SNR": ("snr",),
}


def make_edges(settings: Any) -> dict[str, np.ndarray]:
    """Edges of the cells of every axis: settings.edges, config.inject."""
    return {name: np.asarray(settings.edges[name], np.float64) for name in AXES}


def count_cells(lines: Columns, axes: tuple[str, ...], edges: dict[str, np.ndarray]) -> Columns:
    """One row a cell (C,): its ends on each axis, injected, scored, found, completeness (NaN if empty), lower, upper.

    lines: (N,) columns of AXES, hit and found (bool). 68 % Jeffreys intervals. Cells are [low, high), the last closed;
    lines beyond the edges are in none.
    """
    bins = [edges[name] for name in axes]
    sample = np.stack([lines[name] for name in axes], axis=1)
    everything = np.ones(len(sample), bool)
    chosen = {"injected": everything, "hits": lines["hit"], "found": lines["found"]}
    counts = {name: np.histogramdd(sample[rows], bins)[0].astype(int) for name, rows in chosen.items()}
    lower, upper = binomial_interval(counts["found"], counts["injected"])
    with np.errstate(invalid="ignore"):
        rate = counts["found"] / np.where(counts["injected"], counts["injected"], np.nan)
    ends = {}
    for name, low, high in zip(
        axes,
        np.meshgrid(*(b[:-1] for b in bins), indexing="ij"),
        np.meshgrid(*(b[1:] for b in bins), indexing="ij"),
        strict=True,
    ):
        ends |= {f"{name}_low": low, f"{name}_high": high}
    cells = {**ends, **counts, "completeness": rate, "lower": lower, "upper": upper}
    return {name: values.ravel() for name, values in cells.items()}


def write_completeness(path: pathlib.Path, lines: Columns, settings: Any, meta: dict[str, Any]) -> pathlib.Path:
    """Write one table for each of MAPS, an extension of that name, with units and descriptions; returns the path."""
    from astropy.io import fits

    edges = make_edges(settings)
    units = [fits.PrimaryHDU(), *(_make_unit(name, count_cells(lines, MAPS[name], edges), meta) for name in MAPS)]
    with replacing(path) as temporary:
        fits.HDUList(units).writeto(temporary, overwrite=True)
    return path


def _make_unit(name: str, cells: Columns, meta: dict[str, Any]) -> Any:
    from astropy.io import fits
    from astropy.table import Column, Table

    said = {
        "injected": ("", "number of lines that were injected"),
        "hits": ("", "of these, found at their place by the scorer, above the threshold"),
        "found": ("", "of these, left by every cut of the vetting"),
        "completeness": ("", "found / injected; NaN for an empty cell"),
        "lower": ("", "lower end of its 68 % Jeffreys interval"),
        "upper": ("", "upper end of its 68 % Jeffreys interval"),
    }
    for axis, (unit, text) in AXES.items():
        said |= {f"{axis}_low": (unit, f"lower end: {text}"), f"{axis}_high": (unit, f"upper end: {text}")}
    table = Table(meta=meta)
    for column, values in cells.items():
        unit, text = said[column]
        table[column] = Column(values, unit=unit or None, description=text)
    made = fits.table_to_hdu(table)
    made.name = name
    for number, column in enumerate(table.colnames, 1):
        made.header[f"TCOMM{number}"] = said[column][1]
    return made
