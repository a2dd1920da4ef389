"""Training mocks of the whole range: config.sim sets how often there is a line, and the label is of either kind."""

import jax
import numpy as np
import pytest

from configs import lya
from lensjax.data.batches import make_simulator
from lensjax.physics import grid
from lensjax.tasks.features import make_features

NUM = 192


@pytest.fixture(scope="module")
def config():
    config = lya.get_config("redshift")
    config.sim.update({"dirt": 0.0, "snr_range": (8.0, 20.0)})
    return config


@pytest.fixture(scope="module")
def mocks(config):
    draw = jax.jit(jax.vmap(make_simulator(config)))
    return jax.device_get(draw(jax.random.split(jax.random.key(4), NUM)))


def test_label_is_a_line_of_either_kind_at_the_rates_of_the_config(config, mocks):
    assert set(np.unique(mocks["kind"])) == {0.0, 1.0, 2.0}  # no sky fibers
    np.testing.assert_array_equal(mocks["label"] == 1, mocks["kind"] > 0)
    assert mocks["label"].mean() == pytest.approx(config.sim.line_fraction, abs=0.12)
    line = mocks["label"] == 1
    assert mocks["snr"][line].min() > 7.9 and mocks["snr"].max() < 20.1
    assert mocks["wave"][line].min() < 4500 and mocks["wave"][line].max() > 8000  # anywhere


def test_lines_keep_off_the_masked_lines_of_the_lens(config, mocks):
    line = mocks["label"] == 1
    rest = np.array(config.data.masked_lines)
    apart = np.abs(np.log10(mocks["wave"][line, None] / (1 + mocks["z"][line, None]) / rest)).min(1)
    assert (apart / grid.STEP > 9).all()


def test_the_untrained_statistic_finds_oii_itself_and_not_its_brightest_line(config, mocks):
    features, constants = make_features(config)
    line = mocks["label"] == 1
    seen = {name: mocks[name][line] for name in ("flux", "ivar", "z")}
    out = jax.jit(jax.vmap(features, in_axes=(0, None)))(seen, constants)
    loglam = grid.window(*config.data.window)
    place = grid.pixel(mocks["wave"][line], loglam)
    near = np.abs(np.asarray(out["snr"]).argmax(1) - place) < 4
    assert near.mean() > 0.95
    assert near[mocks["kind"][line] == 2].mean() > 0.9


def test_the_published_set_of_the_whole_range_is_drawn_from_it(config, tmp_path):
    from datasets import lya_spectra, mocks, spectra

    builder = lya_spectra.Builder(config=lya_spectra.builder_config(config), data_dir=tmp_path)
    block = jax.eval_shape(mocks.make_block_simulator(builder), 0, 0)
    assert block["flux"].shape == (spectra.BLOCK, len(grid.window(*config.data.window)))
