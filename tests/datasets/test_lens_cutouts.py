"""The TFDS set of cutouts: truth survives the disk, readers need no lensjax and no TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import config_dict

from configs.cutouts import lenses
from datasets import prepare as prepare_module
from datasets.lens_cutouts import lens_cutouts_dataset_builder as lens_cutouts

SIZE = 16


def fake_block(split: int, block: int) -> dict:
    rng = np.random.default_rng([split, block])
    number = lens_cutouts.BLOCK
    out = {"image": rng.normal(size=(number, SIZE, SIZE, 3)).astype(np.float32)}
    out |= {name: rng.normal(size=(number, 3)).astype(np.float32) for name in lens_cutouts.VECTORS}
    out |= {name: rng.normal(size=number).astype(np.float32) for name in lens_cutouts.SCALARS}
    return out | {name: rng.integers(0, 2, number).astype(np.int32) for name in lens_cutouts.FLAGS}


def build(folder, **settings):
    config = lens_cutouts.CutoutConfig(name="test", **{"num_train": 300, "num_test": 9, "size": SIZE} | settings)
    return prepare_module.prepare(lens_cutouts.Builder(config=config, data_dir=folder))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(lens_cutouts, "make_block_simulator", lambda config: fake_block)
    monkeypatch.setattr(lens_cutouts, "SHARD_BLOCKS", 1)
    return build(tmp_path)


def rows(folder, split, index):
    return tfds.builder_from_directory(folder).as_data_source(split=split).__getitems__(index)


def test_images_and_truth_come_back_bit_for_bit_in_order(folder):
    splits = tfds.builder_from_directory(folder).info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {"train": 300, "test": 9}
    assert splits["train"].num_shards == 2
    for split, (name, index) in enumerate([("train", [0, 255, 256, 299]), ("test", [8])]):
        for i, row in zip(index, rows(folder, name, index), strict=True):
            truth = fake_block(split, i // lens_cutouts.BLOCK)
            assert set(row) == set(truth)
            for column, values in truth.items():
                np.testing.assert_array_equal(np.float32(row[column]), np.float32(values[i % lens_cutouts.BLOCK]))


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
    assert np.float32(done.stdout) == fake_block(0, 0)["theta_e"][4]


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


def test_real_mocks_depend_on_seed_split_and_position_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(lens_cutouts, "BLOCK", 4)
    config = lens_cutouts.CutoutConfig(name="real", num_train=6, num_test=2, size=48, seed=3)
    simulate = lens_cutouts.make_block_simulator(config)  # compiled once
    monkeypatch.setattr(lens_cutouts, "make_block_simulator", lambda config: simulate)
    few = build(tmp_path / "few", num_train=6, num_test=2, size=48, seed=3)
    many = build(tmp_path / "many", num_train=11, num_test=2, size=48, seed=3)
    for one, other in zip(rows(few, "train", range(6)), rows(many, "train", range(6)), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    images = [row["image"].tobytes() for row in [*rows(many, "train", range(11)), *rows(many, "test", range(2))]]
    assert len(set(images)) == 13
    for row in rows(many, "train", range(11)):
        assert (row["theta_e"] > 0) == (row["label"] == 1) == (row["kind"] == 0)
