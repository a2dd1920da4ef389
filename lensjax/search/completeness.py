"""completeness.fits: the share of injected lines that a search finds, in cells of what they were."""

import pathlib
from typing import Any

import numpy as np

from lensjax.core.files import replacing
from lensjax.search.spectra import Columns
from lensjax.tasks.metrics import binomial_interval


def make_edges(settings: Any) -> dict[str, np.ndarray]:
    """Edges of the cells of every axis: settings.edges, config.inject."""
    return {name: np.asarray(values, np.float64) for name, values in settings.edges.items()}


def count_cells(lines: Columns, axes: tuple[str, ...], edges: dict[str, np.ndarray]) -> Columns:
    """One row a cell (C,): its ends on each axis, injected, scored, found, completeness (NaN if empty), lower, upper.

    lines: (N,) columns of those axes, hit and found (bool). 68 % Jeffreys intervals. Cells are [low, high), the last
    closed; lines beyond the edges are in none.
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


def write_completeness(
    path: pathlib.Path, lines: Columns, settings: Any, meta: dict[str, Any], injection: Any
) -> pathlib.Path:
    """Write one table for each of injection.MAPS, an extension of that name, with units and descriptions.

    injection: of the system, see `systems`: AXES and MAPS. Returns the path.
    """
    from astropy.io import fits

    edges = make_edges(settings)
    cells = {name: count_cells(lines, axes, edges) for name, axes in injection.MAPS.items()}
    units = [fits.PrimaryHDU(), *(_make_unit(name, values, meta, injection.AXES) for name, values in cells.items())]
    with replacing(path) as temporary:
        fits.HDUList(units).writeto(temporary, overwrite=True)
    return path


def _make_unit(name: str, cells: Columns, meta: dict[str, Any], axes: dict[str, tuple[str, str]]) -> Any:
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
    for axis, (unit, text) in axes.items():
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
