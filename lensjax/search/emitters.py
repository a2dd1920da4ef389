"""The search for Lyman-alpha emitters behind galaxies, as `systems` asks for it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.core.files import content
from lensjax.search import grading, inject_lines, match, vetted_page
from lensjax.search.columns import COLUMNS, nothing_measured
from lensjax.search.matched_filter import STATUS, make_predict
from lensjax.search.measure import make_measure
from lensjax.search.select import CUTS
from lensjax.search.spectra import Columns
from lensjax.sims.lya import masked_lines
from lensjax.sims.plate import COMPANIONS, KINDS, make_plate_simulator
from lensjax.surveys import known

__all__ = ["COLUMNS", "CUTS", "KINDS", "STATUS", "injection", "make_measure", "make_plate_simulator", "make_predict"]
__all__ += ["nothing_measured", "view"]

view, injection = vetted_page, inject_lines
QUASARS = False
CONTROL = True
EVALUATED = {"line_law": "snr", "snr_range": (4.0, 20.0), "line_fraction": 0.5}  # config.sim of clean and dirty mocks
MOCK_TRUTH = ("label", "wave", "snr", "line_flux", "line_sigma", "line_alpha", "peak", "z")
MOCK_TRUTH += tuple(f"snr_{name}" for name in COMPANIONS)


def searched(wave: jax.Array, z: jax.Array) -> jax.Array:
    """Where lines are looked for, bool (P,): everywhere."""
    return jnp.ones(wave.shape, bool)


def identity(config: Any) -> str:
    """Settings that the matched filter depends on."""
    continua = f"{config.sim.continuum} {content(config.sim.continuum)}"
    return f"{config.search.scorer} {continua} {masked_lines(config)} {config.search.matched_filter.to_json()}"


def describe(columns: Columns, config: Any) -> Columns:
    """The columns with name, viewer, theta_e, known, known_distance, doubts and grade."""
    columns = {**columns, **known.identify(columns["ra"], columns["dec"], config.vet), "z_lens": columns["z"]}
    radius = match.einstein_radius(columns["z_lens"], columns["z_source"], config.vet.velocity_dispersion)
    doubts, grade = grading.grade(columns, config.vet)
    return {**columns, "theta_e": radius, "doubts": doubts, "grade": grade}


def order(columns: Columns) -> np.ndarray:
    """By grade, then by S/N of the fit."""
    return np.lexsort((-columns["fit_snr"], columns["grade"]))
