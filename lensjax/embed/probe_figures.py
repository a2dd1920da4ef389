"""Figures 4 and 5 of Stein et al. (2022), of one's own probe."""

import pathlib
from typing import Any

import numpy as np

from lensjax.core.files import replacing

Curve = tuple[np.ndarray, np.ndarray]


def draw_probe(path: pathlib.Path, results: list[dict[str, Any]], curves: dict[int, list[Curve]], best: int) -> None:
    """Lenses in the top N by training ratio, with the scatter over splits; completeness against objects inspected.

    results: scores of each ratio and split. curves: ratio -> (inspected, completeness) of each split. best: drawn bold.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    ratios = sorted(curves)
    found = [[r["completeness"] for r in results if r["ratio"] == ratio] for ratio in ratios]
    mean, scatter = np.array([np.mean(f) for f in found]), np.array([np.std(f) for f in found])
    left.errorbar(ratios, mean, scatter, fmt="o-", capsize=3)
    top, valid = results[0]["top"], results[0]["valid"]
    left.set(
        xscale="log",
        xlabel="non-lenses per lens in training",
        ylabel=f"share of the lenses in the top {top} of {valid}",
    )
    for ratio in ratios:
        inspected, completeness = curves[ratio][0]
        width = 2.0 if ratio == best else 0.8
        right.plot(inspected, completeness, linewidth=width, label=f"1:{ratio}")
    right.axvline(top, color="0.6", linestyle=":")
    right.set(xscale="log", xlabel="objects inspected", ylabel="completeness", ylim=(0, 1.02))
    right.legend(title="training", fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
