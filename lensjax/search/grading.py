"""Doubts about a hit that are no reason to cut it, and the grade that they add up to."""

from typing import Any

import numpy as np

from lensjax.physics import lines
from lensjax.search import select
from lensjax.search.spectra import Columns


def grade(columns: Columns, settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """doubts (N,), their names with commas; grade (N,): A without a doubt, B with one, C with more."""
    return add_up(_doubts(columns, settings))


def add_up(grounds: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """doubts and grade (N,) of named grounds, bool (N,) each: see `grade`."""
    number = np.sum(list(grounds.values()), axis=0)
    named = [",".join(name for name, found in grounds.items() if found[i]) for i in range(len(number))]
    return np.array(named, np.str_), np.array(["A", "B", "C"])[np.minimum(number, 2)]


def _doubts(columns: Columns, settings: Any) -> dict[str, np.ndarray]:
    """Name -> bool (N,)."""
    doubt = settings.doubt
    rest = (*lines.LENS_EMISSION, *lines.EMPIRICAL_REST)
    sky = (*lines.AIRGLOW, *lines.SKY_LINES, *lines.AURORAL, *lines.GALACTIC)
    return {
        "symmetric": ~(columns["alpha_lower"] > 0),
        "faint": ~(columns["fit_snr"] > doubt.snr),
        "sky": select.distance(columns["wave"], sky) <= doubt.pixels,
        "lens": select.distance(columns["wave"] / (1 + columns["z_lens"]), rest) <= doubt.pixels,
        "oii": ~(columns["oii_odds"] < doubt.oii_odds),
        "fit": ~(columns["fit_status"] == 0),
    }
