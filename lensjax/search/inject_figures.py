"""Figures of an injection: completeness maps and the reliability of the probabilities."""

import pathlib
from typing import Any

import numpy as np

from lensjax.core.files import replacing
from lensjax.search.completeness import count_cells
from lensjax.search.spectra import Columns


def write_figures(
    folder: pathlib.Path, lines: Columns, edges: dict[str, np.ndarray], known: dict[str, Any], injection: Any
) -> None:
    """completeness and reliability, .pdf and .png, into `folder`. known: of calibration.json. injection: `systems`'."""
    drawn = {"completeness": draw_maps(lines, edges, injection), "reliability": draw_reliability(known)}
    for name, figure in drawn.items():
        for suffix in ("pdf", "png"):
            with replacing(folder / f"{name}.{suffix}") as temporary:
                metadata = {"CreationDate": None} if suffix == "pdf" else None
                figure.savefig(temporary, dpi=150, metadata=metadata)


def draw_maps(lines: Columns, edges: dict[str, np.ndarray], injection: Any) -> Any:
    """The four maps, per cent and half its 68 % interval in every cell that holds a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 9), layout="constrained")
    image: Any = None
    maps = [axes for axes in injection.MAPS.values() if len(axes) == 2]
    for axis, axes in zip(figure.subplots(2, 2).ravel(), maps, strict=True):
        cells = count_cells(lines, axes, edges)
        shape = tuple(len(edges[name]) - 1 for name in axes)
        places = [np.arange(len(edges[name])) for name in axes]  # cells of one size, whatever their edges
        rate = cells["completeness"].reshape(shape)
        image = axis.pcolormesh(*places, 100 * rate.T, vmin=0, vmax=100, cmap="viridis")
        for i, (value, low, high) in enumerate(zip(rate.ravel(), cells["lower"], cells["upper"], strict=True)):
            if np.isfinite(value):
                text, colour = f"{100 * value:.0f}\n±{50 * (high - low):.0f}", "black" if value > 0.6 else "white"
                x, y = np.unravel_index(i, shape)
                axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7, color=colour)
        axis.set(xlabel=injection.LABELS[axes[0]], ylabel=injection.LABELS[axes[1]])
        axis.set_xticks(places[0], [f"{x:g}" for x in edges[axes[0]]])
        axis.set_yticks(places[1], [f"{x:g}" for x in edges[axes[1]]])
    figure.colorbar(image, ax=figure.axes, label="completeness, %; ± half the 68 % interval", pad=0.01)
    return figure


def draw_reliability(known: dict[str, Any]) -> Any:
    """Observed against predicted share of lines on the half that the fit did not see; the scores under it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 5.0), layout="constrained")
    axis = figure.subplots()
    held = known["reliability"]
    columns = [np.array(held[name], float) for name in ("predicted", "observed", "lower", "upper")]
    seen = np.isfinite(columns[0])
    x, y, low, high = (column[seen] for column in columns)
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1)
    axis.errorbar(x, y, np.maximum([y - low, high - y], 0), marker="o", linestyle="none", capsize=3, color="#0072B2")
    title = f"lines in 1 of {1 / known['rate']:g}; as many as were fitted: {known['lines']} lines, "
    title += f"{known['galaxies'] + known['sky_fibers']} spectra"
    axis.set(xlabel="predicted probability", ylabel="share of lines", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.set_title(title, fontsize=10)
    axis.grid(alpha=0.3)
    return figure
