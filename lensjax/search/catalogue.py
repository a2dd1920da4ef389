"""The catalogue of candidates: their names, and what other catalogues know of them."""

from typing import Any

import numpy as np

from lensjax.search.spectra import Columns
from lensjax.surveys.catalogues import iau_name
from lensjax.surveys.known import known_objects


def identify(columns: Columns, settings: Any) -> Columns:
    """name, known and known_distance (N,) from ra and dec. settings: config.vet."""
    name = np.array([iau_name(*place) for place in zip(columns["ra"], columns["dec"], strict=True)], np.str_)
    known, distance = known_objects(columns["ra"], columns["dec"], settings)
    return {"name": name, "known": known, "known_distance": distance}
