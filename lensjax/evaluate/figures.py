"""The figures of an evaluation, drawn from the dictionary that evaluation.json holds and from nothing else."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from lensjax.core.files import replacing

# Okabe-Ito colours: distinct for every kind of colour vision, and in grey.
STYLES = {
    "oracle": dict(label="oracle: knows all but the noise", color="black", linestyle="--"),
    "network": dict(label="network", color="#0072B2", linestyle="-", linewidth=2.2),
    "practical": dict(label="practical filter", color="#D55E00", linestyle="-"),
    "traditional": dict(label="traditional filter", color="#888888", linestyle="-"),
}
SETS = {"clean": "clean mocks", "dirty": "dirty mocks"}


def draw_all(summary: Mapping[str, Any], folder: pathlib.Path) -> None:
    """Writes roc.png, completeness_snr.png, completeness_map.png and score_hist.png into `folder`."""
    for draw, name in ((roc, "roc"), (completeness_snr, "completeness_snr"), (score_hist, "score_hist")):
        save(draw(summary), folder / f"{name}.png")
    save(completeness_map(summary), folder / "completeness_map.png")


def save(figure: Any, path: pathlib.Path) -> None:
    """Writes a Matplotlib figure to `path`, whole or not at all, at 150 dots an inch."""
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def panels(rows: int, columns: int, width: float = 5.2, height: float = 4.0, **share: Any) -> tuple[Any, np.ndarray]:
    """A figure without pyplot, which would keep it in memory, and its axes (rows, columns)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def roc(summary: Mapping[str, Any]) -> Any:
    """Completeness against false-positive rate, logarithmic: the left end is where a survey is searched."""
    figure, axes = panels(1, len(SETS), sharey=True)
    for axis, (name, title) in zip(axes[0], SETS.items(), strict=True):
        for scorer, style in STYLES.items():
            curve = summary[name][scorer]["roc"]
            axis.plot(curve["fpr"], curve["completeness"], **style)
        axis.set(xscale="log", xlim=(1e-4, 1), ylim=(0, 1.01), title=title, xlabel="false-positive rate")
        axis.grid(alpha=0.3, which="major")
    axes[0, 0].set_ylabel("completeness")
    add_legend(figure, axes[0, 0])
    return figure


def completeness_snr(summary: Mapping[str, Any]) -> Any:
    """Completeness against the line's S/N at fixed false-positive rates, one row each."""
    fprs = list(summary["clean"]["network"]["at_fpr"])
    figure, axes = panels(len(fprs), len(SETS), sharex=True, sharey=True)
    for row, fpr in zip(axes, fprs, strict=True):
        for axis, (name, title) in zip(row, SETS.items(), strict=True):
            for offset, (scorer, style) in enumerate(STYLES.items()):
                plot_by_snr(axis, summary[name][scorer]["at_fpr"][fpr]["by_snr"], 0.08 * (offset - 1.5), style)
            axis.set(title=f"{title}, {100 * float(fpr):.3g} % false positives", ylim=(-0.02, 1.03))
            axis.grid(alpha=0.3)
        row[0].set_ylabel("completeness")
    for axis in axes[-1]:
        axis.set_xlabel("matched-filter S/N of the line")
    add_legend(figure, axes[0, 0])
    return figure


def add_legend(figure: Any, axis: Any) -> None:
    """What the curves of `axis` are, above all panels: any place within one may be a curve's."""
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=len(STYLES), fontsize=9)


def plot_by_snr(axis: Any, curve: Mapping[str, Any], offset: float, style: Mapping[str, Any]) -> None:
    """One curve with binomial errors, moved sideways a little so that error bars do not hide each other."""
    centre = middles(curve["edges"]) + offset
    middle, low, high = (np.array(curve[name], float) for name in ("completeness", "lower", "upper"))
    seen = np.isfinite(middle)
    errors = np.maximum([(middle - low)[seen], (high - middle)[seen]], 0)
    axis.errorbar(centre[seen], middle[seen], errors, marker="o", markersize=3.5, elinewidth=1, **style)


def completeness_map(summary: Mapping[str, Any]) -> Any:
    """Completeness of the network in S/N and wavelength, at the lowest false-positive rate."""
    figure, axes = panels(1, len(SETS), width=6.2, height=4.4, sharey=True)
    fpr = min(summary["clean"]["network"]["at_fpr"], key=float)
    for axis, (name, title) in zip(axes[0], SETS.items(), strict=True):
        cells = summary[name]["network"]["at_fpr"][fpr]["by_snr_wave"]
        values = 100 * np.array(cells["completeness"], float)
        image = axis.pcolormesh(cells["wave_edges"], cells["snr_edges"], values, vmin=0, vmax=100, cmap="viridis")
        label_cells(axis, cells)
        axis.set_title(f"network, {title}, {100 * float(fpr):.3g} % false positives")
        axis.set_xlabel("wavelength of the line (Å)")
    axes[0, 0].set_ylabel("matched-filter S/N of the line")
    figure.colorbar(image, ax=axes[0], label="completeness, %; ± half the 68 % interval", pad=0.01)
    return figure


def label_cells(axis: Any, cells: Mapping[str, Any]) -> None:
    """Per cent and the half width of its 68 % interval, in every cell."""
    columns = (np.array(cells[name], float) for name in ("completeness", "lower", "upper"))
    for y, *row in zip(middles(cells["snr_edges"]), *columns, strict=True):
        for x, value, low, high in zip(middles(cells["wave_edges"]), *row, strict=True):
            if np.isfinite(value):
                text = f"{100 * value:.0f}\n±{50 * (high - low):.0f}"
                axis.text(x, y, text, ha="center", va="center", fontsize=7, color="black" if value > 0.6 else "white")


def middles(edges: Any) -> np.ndarray:
    """Centres of bins."""
    return 0.5 * (np.array(edges)[1:] + np.array(edges)[:-1])


def score_hist(summary: Mapping[str, Any]) -> Any:
    """Score of the network with and without a line; the scale is logarithmic, for the tail is what costs."""
    figure, axes = panels(1, len(SETS), sharey=True)
    for axis, (name, title) in zip(axes[0], SETS.items(), strict=True):
        counts = summary[name]["network"]["histogram"]
        edges = counts["edges"]
        axis.stairs(counts["without"], edges, fill=True, color="#999999", alpha=0.6, label="no line")
        axis.stairs(counts["lines"], edges, color="#0072B2", linewidth=1.8, label="line")
        axis.axvline(counts["cut"], color="black", linestyle=":", label="threshold")
        axis.set(yscale="log", ylim=(0.7, None), title=title, xlabel="score of the network (logit)")
    axes[0, 0].set_ylabel("spectra")
    axes[0, 0].legend(loc="upper right", fontsize=9)
    return figure
