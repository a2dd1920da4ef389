"""The released Mg II weights on real quasars: what is certain is found and measured, what only looks like it is not."""

import csv

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs import mgii
from lensjax.core.checkpoint import WEIGHTS_NAME
from lensjax.physics import grid
from lensjax.search.restore import RELEASED
from lensjax.search.score import search


@pytest.fixture(scope="module")
def vetted(real_data) -> list[dict[str, str]]:
    return list(csv.DictReader((real_data / "boss_quasars" / "mgii_vetted.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def found(real_data, vetted, tmp_path_factory) -> dict[str, np.ndarray]:
    """The catalogue of a search of the quasars of the table."""
    if not (RELEASED / "mgii" / WEIGHTS_NAME).is_file():
        pytest.skip("no released weights in weights/mgii: nothing to check on real quasars")
    folder = tmp_path_factory.mktemp("quasars")
    names = {f"spec-{row['plate']}-{row['mjd']}-{int(row['fiber']):04d}.fits" for row in vetted}
    (folder / "list.txt").write_text("\n".join(str(real_data / "boss_quasars" / name) for name in sorted(names)))
    config = mgii.get_config()
    config.search.update({"input": str(folder / "list.txt"), "batch_size": 8, "report_hits": 0})
    search(config, folder)
    table = pq.read_table(folder / "candidates.parquet")
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def near(found, row, limit) -> np.ndarray:
    """Candidates (n,) of the row's quasar within `limit` km/s of its z_abs."""
    same = (found["plate"] == int(row["plate"])) & (found["fiberid"] == int(row["fiber"]))
    speed = grid.C_KMS * np.abs(np.log((1 + found["z_abs"]) / (1 + float(row["z_abs"]))))
    return np.flatnonzero(same & (speed < limit))


def test_certain_systems_are_found_in_place_with_their_strength(vetted, found):
    certain = [row for row in vetted if row["kind"] == "certain"]
    assert len(certain) >= 3
    for row in certain:
        (i,) = near(found, row, 100.0)
        for name in ("ew_2796", "ew_2803"):
            error = np.hypot(found[f"{name}_err"][i], 0.2)  # that of the table
            assert abs(found[name][i] - float(row[name.replace("_", "")])) < 2 * error
        assert max(found["feii_snr"][i], found["mgi_snr"][i]) > 5 and found["grade"][i] == "A"


def test_look_alikes_are_not_in_the_catalogue(vetted, found):
    for row in vetted:
        if row["kind"] == "trap":
            assert not len(near(found, row, 3000.0)), row["note"]
