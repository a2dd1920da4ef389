"""Mock plates: what is written is what the survey's reader reads, the truth belongs to it, and more plates differ."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from configs import common, lya
from lensjax.physics import grid
from lensjax.search.mock import write_mock_plates
from lensjax.surveys import read_block, select


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    config = common.smoke(lya.get_config())
    config.mock.update({"plates": 2, "fibers": 30, "sky_fraction": 0.3, "line_law": "snr", "snr_range": (50.0, 60.0)})
    folder = write_mock_plates(config, tmp_path_factory.mktemp("mock"))
    truth = pq.read_table(folder / "truth.parquet").to_pydict()
    loglam = grid.window(*config.mock.window)
    blocks = [read_block(path, loglam) for path in sorted(folder.glob("spPlate-*.fits"))]
    return config, {name: np.array(values) for name, values in truth.items()}, blocks, grid.wave(loglam)


def test_every_fiber_has_its_truth_and_sky_is_not_selected(survey):
    config, truth, blocks, _ = survey
    assert len(truth["kind"]) == 60 and len(blocks) == 2
    for block in blocks:
        mine = truth["plate"] == block.table["plate"][0]
        np.testing.assert_array_equal(block.table["fiberid"], truth["fiberid"][mine])
        np.testing.assert_array_equal(block.table["sky"], truth["kind"][mine] == "sky")
        np.testing.assert_allclose(block.table["z"], truth["z"][mine], rtol=1e-6)
        selected, _ = select(block.table, config.select)
        assert not selected[block.table["sky"]].any() and selected[~block.table["sky"]].mean() > 0.9


def test_strong_lines_are_in_the_files_where_the_truth_says(survey):
    _, truth, blocks, wave = survey
    checked = 0
    for block in blocks:
        mine = np.flatnonzero(truth["plate"] == block.table["plate"][0])
        for row, i in enumerate(mine):
            if truth["kind"][i] != "lya":
                continue
            near = np.abs(np.log10(wave / truth["wave"][i])) < 10e-4
            beside = (np.abs(np.log10(wave / truth["wave"][i])) < 40e-4) & ~near
            line = block.flux[row] - np.median(block.flux[row, beside & (block.ivar[row] > 0)])
            good = near & (block.ivar[row] > 0)
            flux = (line * wave * np.log(10) * grid.STEP)[good].sum()
            assert flux == pytest.approx(truth["line_flux"][i], rel=0.35)
            checked += 1
    assert checked >= 5


def test_plates_differ(survey):
    blocks = survey[2]
    assert not np.any(blocks[0].flux[:, 2000] == blocks[1].flux[:, 2000])
    assert blocks[0].table["plate"][0] != blocks[1].table["plate"][0]


def test_fewer_plates_leave_none_of_the_former(tmp_path):
    config = common.smoke(lya.get_config())
    config.mock.update({"plates": 2, "fibers": 3, "window": (3700.0, 5200.0)})
    write_mock_plates(config, tmp_path)
    config.mock.plates = 1
    write_mock_plates(config, tmp_path)
    plates = {read_block(path, grid.window(3800.0, 5000.0)).table["plate"][0] for path in tmp_path.glob("spPlate-*")}
    assert plates == set(pq.read_table(tmp_path / "truth.parquet").column("plate").to_pylist())
    assert len(list(tmp_path.glob("spZbest-*"))) == 1
