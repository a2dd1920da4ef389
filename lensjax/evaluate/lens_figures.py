"""The figure of a lens finder's evaluation, drawn from what evaluation.json holds and from nothing else."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from lensjax.evaluate.figures import panels, save

COLOUR = "#0072B2"


def draw(path: pathlib.Path, summary: Mapping[str, Any]) -> None:
    """ROC curve, and purity against completeness at the survey's base rate, with 68 % bands.

    Purity begins where one non-lens is above the cut.
    """
    figure, axes = panels(1, 2)
    survey = summary["survey"]
    curve, rate = survey["curve"], survey["base_rate"]
    completeness = np.array(curve["completeness"])
    left, right = axes[0]
    value, low, high = (np.array(curve["fpr"][name]) for name in ("value", "lower", "upper"))
    least = 1 / summary["others"]
    left.fill_betweenx(completeness, np.maximum(low, least / 2), np.maximum(high, least / 2), color=COLOUR, alpha=0.25)
    left.plot(np.maximum(value, least / 2), completeness, color=COLOUR)
    left.axvline(least, color="0.6", linestyle=":")
    left.text(least, 0.02, " one object", color="0.4", fontsize=8)
    left.set(xscale="log", xlim=(least / 2, 1), xlabel="false-positive rate", ylabel="completeness")
    left.set_title(f"ROC AUC {survey['roc_auc']['value']:.4f}")
    value, low, high = (np.array(curve["purity"][name], float) for name in ("value", "lower", "upper"))  # None: NaN
    right.fill_between(completeness, low, high, color=COLOUR, alpha=0.25)
    right.plot(completeness, value, color=COLOUR)
    right.set(xlabel="completeness", ylabel="purity", yscale="log", xlim=(0, 1))
    right.set_title(f"one object in {1 / rate:,.0f} is a lens")
    for axis in axes[0]:
        axis.grid(alpha=0.3)
    save(figure, path)
