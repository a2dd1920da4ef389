"""Mock plates in the layout of BOSS, with their truth: something to search before there are spectra."""

import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lensjax.core.files import replacing
from lensjax.physics import grid
from lensjax.search import systems
from lensjax.surveys.write import write_spplate

STREAM = 7  # of the seed: no mock of a plate is one that a network was trained on
CHUNK = 100  # mocks of one jitted call
PLATE, MJD = 9999, 60000  # of the first
TRUTH_NAME = "truth.parquet"


def write_mock_plates(config: Any, folder: pathlib.Path) -> pathlib.Path:
    """Write config.mock.plates of config.mock.fibers each, spPlate with spZbest, into `folder`; returns it.

    Mock plates that are there are removed, else a search of the folder would have objects that no truth tells of.
    Beside them truth.parquet: plate, mjd, fiberid, kind (of the system's KINDS) and the system's MOCK_TRUTH, as its
    simulator describes it; 0 where there is no line, and a list where there may be several.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    draw = jax.jit(jax.vmap(systems.of(config).make_plate_simulator(config)))
    for old in (*folder.glob(TRUTH_NAME), *folder.glob(f"sp[PZ]*-{MJD}.fits")):
        old.unlink()
    tables = []
    for number in range(config.mock.plates):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), STREAM), number)
        mocks = _draw(draw, key, config.mock.fibers)
        tables.append(_write_plate(config, folder, PLATE + number, mocks))
    with replacing(folder / TRUTH_NAME) as temporary:
        pq.write_table(pa.concat_tables(tables), temporary)
    return folder


def _draw(draw: Callable[..., dict], key: jax.Array, num: int) -> dict[str, np.ndarray]:
    """`num` mocks, (num, ...) of each name that is written or told."""
    keys = jax.random.split(key, -(-num // CHUNK) * CHUNK)
    unseen = ("continuum", "sigma", "artefact")
    parts = []
    for i in range(0, len(keys), CHUNK):
        out = draw(keys[i : i + CHUNK])
        parts.append(jax.device_get({name: x for name, x in out.items() if name not in unseen}))
    return {name: np.concatenate([part[name] for part in parts])[:num] for name in parts[0]}


def _write_plate(config: Any, folder: pathlib.Path, plate: int, mocks: dict[str, np.ndarray]) -> pa.Table:
    """Write one plate; returns its truth."""
    num = len(mocks["z"])
    system = systems.of(config)
    kind = np.array(system.KINDS)[mocks["kind"].astype(int)]
    sky = kind == "sky"
    table = {
        "z": mocks["z"],
        "class": config.select.object_class,
        "objtype": np.where(sky, "SKY", config.select.object_class),
        "zwarning": np.where(sky, 5, 0),  # as the pipeline does: SKY, SMALL_DELTA_CHI2
        "ra": 150.0 + (plate - PLATE) % 100 + 0.001 * np.arange(num),
        "dec": np.full(num, 0.0),
    }
    path = folder / f"spPlate-{plate}-{MJD}.fits"
    write_spplate(path, grid.window(*config.mock.window), mocks["flux"], mocks["ivar"], table, mocks["wdisp"])
    where = {"plate": np.full(num, plate), "mjd": np.full(num, MJD), "fiberid": np.arange(1, num + 1), "kind": kind}
    return pa.table(where | {name: _column(mocks[name]) for name in system.MOCK_TRUTH})


def _column(values: np.ndarray) -> Any:
    """(N,) as it is, (N, S) as N lists."""
    return values if values.ndim == 1 else pa.array(list(values))
