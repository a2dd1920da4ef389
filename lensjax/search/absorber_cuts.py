"""The cuts between a hit and an absorber of the catalogue, and the doubts about those that are left."""

import functools
from typing import Any

import numpy as np

from lensjax.fit.absorber_flags import flags
from lensjax.search import grading, select
from lensjax.search.select import Cut
from lensjax.search.spectra import Columns

REASONS = {
    "coverage": "one of the two lines is not seen",
    "fit": "no doublet fits",
    "weak": "too low a S/N of the doublet or of a line",
    "ratio": "a doublet ratio that gas does not have",
    "behind": "behind the quasar",
    "trough": "part of broad absorption",
    "sky": "on lines of the night sky",
    "feii": "Fe II of a stronger absorber of greater redshift",
    "civ": "C IV of gas near the quasar",
}


def known_flags(columns: Columns, settings: Any) -> dict[str, np.ndarray]:
    """`absorber_flags.flags` of measured columns, whose S/N and status of the fit have names of their own here."""
    return flags({**columns, "snr": columns["fit_snr"], "status": columns["fit_status"]}, settings)


def _takes(columns: Columns, settings: Any, name: str) -> np.ndarray:
    return known_flags(columns, settings)[name]


def unsure(columns: Columns, settings: Any) -> np.ndarray:
    """Noise, more likely than an absorber: by the score, where it is one of a network, else by the S/N.

    No doublet above settings.sure_snr is noise, whatever the score.
    """
    unlikely = select.unsure(columns, settings) & ~(columns["fit_snr"] > settings.sure_snr)
    return unlikely | np.isnan(columns["posterior"]) & (columns["fit_snr"] < settings.scoreless_snr)


CUTS = {
    "unreadable": select.CUTS["unreadable"],
    **{name: Cut(functools.partial(_takes, name=name), reason) for name, reason in REASONS.items()},
    "unsure": Cut(unsure, "noise, more likely than an absorber"),
}


def doubts(columns: Columns, settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """doubts (N,), their names with commas; grade (N,): A without a doubt, B with one, C with more."""
    doubt = settings.doubt
    metal = np.maximum(columns["feii_snr"], columns["mgi_snr"])
    known = known_flags(columns, settings)
    grounds = {
        "faint": ~(columns["fit_snr"] > doubt.snr),
        "alone": ~(metal > doubt.metal_snr),
        "ratio": known["ratio"],
        "sky": ~(columns["sky_distance"] > doubt.sky_pixels),
        "associated": known["associated"],
        "fit": ~(columns["fit_status"] == 0),
    }
    return grading.add_up(grounds)
