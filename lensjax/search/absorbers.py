"""The search for Mg II absorbers in quasars, as `systems` asks for it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from lensjax.core.files import content
from lensjax.fit import absorber_flags
from lensjax.physics import lines, quasar
from lensjax.search import absorber_page, inject_absorbers
from lensjax.search.absorber_columns import COLUMNS, nothing_measured
from lensjax.search.absorber_cuts import CUTS, doubts, known_flags
from lensjax.search.doublet_filter import STATUS, make_predict
from lensjax.search.spectra import Chunk, Columns
from lensjax.sims import mgii as sim
from lensjax.surveys import known

__all__ = ["COLUMNS", "CUTS", "STATUS", "injection", "make_predict", "nothing_measured", "searched", "view"]

view, injection = absorber_page, inject_absorbers
searched = quasar.search_window
QUASARS = True
CONTROL = False  # without a continuum nothing can be absorbed: every fiber on blank sky is a hit, and no candidate
# config.sim of the mocks that scorers are compared on
EVALUATED = {"absorber_law": "snr", "snr_range": (4.0, 20.0), "strong_fraction": 0.0, "absorber_fraction": 0.5}
KINDS = ("quasar",)
MOCK_TRUTH = ("label", "wave", "snr", "z", "z_abs", "ew_2796", "ew_2803", "fwhm", "absorber_snr")


def identity(config: Any) -> str:
    """Settings that the doublet filter depends on."""
    search = config.search
    continua = f"{config.sim.continuum} {content(config.sim.continuum)}"
    return f"{search.scorer} {continua} {config.model.templates} {search.doublet_filter.to_json()}"


def make_measure(config: Any, loglam: np.ndarray) -> Callable[[Chunk, Columns], Columns]:
    """measure(chunk, hits) -> (n,) columns of the chunk's hits. hits: wave (of 2796) and z of all hits, (M,)."""
    del config

    def measure(chunk: Chunk, hits: Columns) -> Columns:
        z_qso = np.nan_to_num(hits["z"][chunk.rows], nan=0.0)
        guess = hits["wave"][chunk.rows].astype(np.float64) / lines.MGII[0] - 1
        found = absorber_flags.measure_all(chunk.flux, chunk.ivar, guess, loglam, z_qso, chunk.wdisp)
        found |= {"fit_status": found["status"], "fit_snr": found["snr"]}
        columns = {name: values for name, values in found.items() if name in COLUMNS and name != "snr"}
        return {**columns, "readable": chunk.readable}

    return measure


def make_plate_simulator(config: Any) -> Callable[[jax.Array], dict[str, jax.Array]]:
    """simulate(key) of one quasar on config.mock.window, by the laws of config.sim but for those of config.mock."""
    config = config.copy_and_resolve_references()
    laws = {name: config.mock[name] for name in ("absorber_law", "absorber_fraction", "dirt")}
    config.sim.update({**laws, "clean_fraction": 0.0})
    config.data.window = tuple(config.mock.window)
    return sim.make_simulator(config)


def describe(columns: Columns, config: Any) -> Columns:
    """The columns with name, viewer, known, known_distance, z_qso, associated (0 or 1), doubts and grade."""
    columns = {**columns, **known.identify(columns["ra"], columns["dec"], config.vet), "z_qso": columns["z"]}
    near = known_flags(columns, config.vet)["associated"].astype(int)
    said, grade = doubts(columns, config.vet)
    return {**columns, "associated": near, "doubts": said, "grade": grade}


def order(columns: Columns) -> np.ndarray:
    """By grade, then by S/N of the fit."""
    return np.lexsort((-columns["fit_snr"], columns["grade"]))
