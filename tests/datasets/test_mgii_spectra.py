"""The set of quasars with and without Mg II absorbers, by its real simulator, and as a source of batches."""

import numpy as np
import pytest

from configs import mgii
from datasets import mgii_spectra, mocks
from lensjax.data import batches
from tests.datasets import sets

WINDOW = (5000.0, 6500.0)


def test_the_published_sizes_are_those_of_the_paper():
    default, paper, _ = mgii_spectra.Builder.BUILDER_CONFIGS
    for config in (default, paper):
        assert (config.num_train, config.num_test) == (80_000, 20_000)  # 50,000 + 50,000 by label, 4:1
        assert config.simulator_config().sim.absorber_fraction == 0.5
    assert paper.simulator_config().sim.absorber_law == "paper"


def test_real_mocks_depend_on_seed_split_and_position_alone(tmp_path, monkeypatch):
    made = sets.small_and_large(mgii_spectra, tmp_path, monkeypatch, oracle=True, seed=3, window=WINDOW)
    for few, many in made.values():
        for one, other in zip(few, many, strict=False):
            assert all(np.array_equal(one[name], other[name]) for name in one)
    train = made["train"][1]
    assert len({row["flux"].tobytes() for row in [*train, *made["test"][1]]}) == 24
    assert 0 < sum(row["label"] for row in train) < 20
    for row in train:
        there = row["z_abs"] > 0
        assert there[0] == (row["snr"] > 0) == (row["wave"] > 0) == (row["label"] == 1)
        np.testing.assert_array_equal(there, row["ew_2796"] > 0)
        assert row["pixel_label"].sum() == pytest.approx(there.sum(), abs=1)  # two may share a pixel
        model = row["continuum"] + row["artefact"] + row["ew_2796"][0] * row["profile"]
        good = row["ivar"] > 0
        assert good.mean() > 0.9
        assert 0.5 < ((row["flux"] - model)[good] / row["sigma"][good]).std() < 1.5


def test_the_published_set_is_a_source_of_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(mocks, "make_block_simulator", sets.make_fake_simulator)
    config = mgii.get_config("smoke")
    config.data.source, config.data.dir = "tfds", str(tmp_path)
    made = batches.make_batches(config)
    batch = made.train(0)
    assert (made.num_train, made.num_test) == (config.data.num_train, config.data.num_test)
    assert set(batch) == set(mgii_spectra.Builder.COLUMNS.layout(1, 1, oracle=False))
    assert batch["z_abs"].shape == (config.train.batch_size, config.sim.max_absorbers)
    assert batch["pixel_label"].dtype == np.float32 and batch["pixel_label"].shape == batch["flux"].shape
