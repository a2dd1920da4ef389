"""A mock plate in the layout of BOSS, with its truth: something to search before there are spectra."""

import pathlib
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lensjax.core.files import replacing
from lensjax.data.batches import make_simulator
from lensjax.physics import grid
from lensjax.surveys.write import write_spplate

STREAM = 7  # of the seed: no mock of the plate is one that a network was trained on
CHUNK = 250  # mocks of one jitted call
PLATE, MJD = 9999, 60000
TRUTH = ("label", "kind", "wave", "snr", "line_flux", "line_sigma", "line_alpha", "peak", "z")


def write_mock_plate(config: Any, folder: pathlib.Path) -> pathlib.Path:
    """Write spPlate and spZbest of config.mock.fibers mocks, and truth.parquet, into `folder`; returns the plate."""
    num = config.mock.fibers
    draw = jax.jit(jax.vmap(make_simulator(config)))
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), STREAM), -(-num // CHUNK) * CHUNK)
    parts = [jax.device_get(draw(keys[i : i + CHUNK])) for i in range(0, len(keys), CHUNK)]
    mocks = {name: np.concatenate([part[name] for part in parts])[:num] for name in parts[0]}
    path = pathlib.Path(folder) / f"spPlate-{PLATE}-{MJD}.fits"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = {"z": mocks["z"], "class": "GALAXY", "objtype": "GALAXY", "ra": 180.0 + 0.001 * np.arange(num), "dec": 0.0}
    write_spplate(path, grid.window(*config.data.window), mocks["flux"], mocks["ivar"], table, mocks["wdisp"])
    truth = {"fiberid": np.arange(1, num + 1), **{name: mocks[name] for name in TRUTH if name in mocks}}
    with replacing(path.with_name("truth.parquet")) as temporary:
        pq.write_table(pa.table(truth), temporary)
    return path
