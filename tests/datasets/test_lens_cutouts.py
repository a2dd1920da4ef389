"""The TFDS set of cutouts: truth survives the disk, readers need no lensjax and no TensorFlow."""

import functools
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import config_dict

from configs import lens, ssl
from configs.cutouts import lenses
from datasets import lens_cutouts, mocks
from tests.datasets import sets

SIZE, BLOCK = 16, lens_cutouts.Builder.BLOCK
build = functools.partial(sets.build, lens_cutouts, num_train=300, num_test=9, size=SIZE)


def fake_block(folder, split: int, block: int) -> dict:
    return sets.fake_block(sets.builder_of(lens_cutouts, folder, size=SIZE), split, block)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(mocks, "make_block_simulator", sets.make_fake_simulator)
    monkeypatch.setattr(mocks, "SHARD_BLOCKS", 1)
    return build(tmp_path)


def test_images_and_truth_come_back_bit_for_bit_in_order(folder, tmp_path):
    splits = tfds.builder_from_directory(folder).info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {"train": 300, "test": 9}
    assert splits["train"].num_shards == 2
    for split, (name, index) in enumerate([("train", [0, 255, 256, 299]), ("test", [8])]):
        for i, row in zip(index, sets.rows(folder, name, index), strict=True):
            truth = fake_block(tmp_path, split, i // BLOCK)
            assert set(row) == set(truth)
            for column, values in truth.items():
                np.testing.assert_array_equal(np.float32(row[column]), np.float32(values[i % BLOCK]))


def test_reading_needs_neither_lensjax_nor_tensorflow(folder, tmp_path):
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        f"b = tfds.builder_from_directory({str(folder)!r})\n"
        "row = b.as_data_source(split='train')[4]\n"
        "assert row['image'].shape == (16, 16, 3) and b.info.metadata['pixel'] == 0.262\n"
        "assert b.info.metadata['kinds'][0] == 'lens' and 'stein2022' in b.info.citation\n"
        "assert not {'lensjax', 'configs', 'datasets', 'tensorflow', 'jax'} & set(sys.modules)\n"
        "print(float(row['theta_e']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.float32(done.stdout) == fake_block(tmp_path, 0, 0)["theta_e"][4]


def test_project_config_maps_onto_a_builder_config_with_a_name_of_its_own():
    config = config_dict.ConfigDict({"data": {"num_train": 70, "num_test": 30, "size": 152}, "seed": 5})
    config.sim = lenses()
    ours = lens_cutouts.builder_config(config)
    settings = ours.simulator_config()
    assert (ours.num_train, ours.num_test, settings.seed, settings.data.size) == (70, 30, 5, 152)
    assert settings.sim == config.sim
    config.sim.source.clumps = 0.1
    other = lens_cutouts.builder_config(config)
    assert other.name != ours.name and other.simulator_config().sim.source.clumps == 0.1


def test_sets_that_were_built_before_are_found_by_their_names():
    assert lens_cutouts.builder_config(lens.get_config()).name == "152px_54096_6d5030d4"
    assert lens_cutouts.builder_config(ssl.get_config("demo")).name == "76px_14336_c3af6fe3"


def test_real_mocks_depend_on_seed_split_and_position_alone(tmp_path, monkeypatch):
    made = sets.small_and_large(lens_cutouts, tmp_path, monkeypatch, size=48, seed=3)
    for few, many in made.values():
        for one, other in zip(few, many, strict=False):
            assert all(np.array_equal(one[name], other[name]) for name in one)
    train, test = made["train"][1], made["test"][1]
    assert len({row["image"].tobytes() for row in [*train, *test]}) == 24
    for row in train:
        assert (row["theta_e"] > 0) == (row["label"] == 1) == (row["kind"] == 0)
    assert [row["kind"] for row in [*train[:3], *test[:3]]] == [1, 1, 0, 0, 0, 6]  # as ever, like what follows
    np.testing.assert_allclose([row["z_lens"] for row in train[:3]], [0.69188, 0.85, 0.57050], rtol=1e-3)
    np.testing.assert_allclose([row["theta_e"] for row in test[:3]], [1.62510, 1.64061, 0], rtol=1e-3)
    np.testing.assert_allclose([row["image"].sum() for row in train[:3]], [311.842, 73.403, 53.724], rtol=1e-3)
