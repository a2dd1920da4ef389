"""The TFDS set: truth survives the disk, readers need no lensjax and no TensorFlow, killed builds leave no halves."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import lya as lya_configs
from datasets import prepare as prepare_module
from datasets.lya_spectra import lya_spectra_dataset_builder as lya_spectra

ROOT = pathlib.Path(__file__).parents[2]
PIXELS = 1192


def fake_block(split: int, block: int, oracle: bool = False) -> dict:
    rng = np.random.default_rng([split, block])
    arrays = lya_spectra.ARRAYS + (lya_spectra.ORACLE if oracle else ())
    number = lya_spectra.BLOCK
    out = {name: rng.normal(size=(number, PIXELS)).astype(np.float32) for name in arrays}
    out |= {name: rng.normal(size=number).astype(np.float32) for name in lya_spectra.SCALARS}
    return out | {name: rng.integers(0, 3, number).astype(np.int32) for name in lya_spectra.FLAGS}


@pytest.fixture
def fake_simulator(monkeypatch):
    def make(config):
        return lambda split, block: fake_block(split, block, config.oracle)

    monkeypatch.setattr(lya_spectra, "make_block_simulator", make)
    monkeypatch.setattr(lya_spectra, "SHARD_BLOCKS", 1)


def build(folder, **settings):
    config = lya_spectra.LyaConfig(name="test", **{"num_train": 1500, "num_test": 40} | settings)
    return prepare_module.prepare(lya_spectra.Builder(config=config, data_dir=folder))


def rows(folder, split, index):
    return tfds.builder_from_directory(folder).as_data_source(split=split).__getitems__(index)


def test_arrays_and_truth_come_back_bit_for_bit_in_order(tmp_path, fake_simulator):
    folder = build(tmp_path)
    splits = tfds.builder_from_directory(folder).info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {"train": 1500, "test": 40}
    assert splits["train"].num_shards == 2
    for split, (name, index) in enumerate([("train", [0, 1023, 1024, 1499]), ("test", [39])]):
        for i, row in zip(index, rows(folder, name, index), strict=True):
            truth = fake_block(split, i // lya_spectra.BLOCK)
            for column, values in truth.items():
                np.testing.assert_array_equal(np.float32(row[column]), np.float32(values[i % lya_spectra.BLOCK]))


def test_oracle_arrays_are_stored_on_request_only(tmp_path, fake_simulator):
    with_oracle = rows(build(tmp_path / "a", num_train=3, num_test=2, oracle=True), "test", [1])[0]
    without = rows(build(tmp_path / "b", num_train=3, num_test=2), "test", [1])[0]
    assert set(with_oracle) - set(without) == {"continuum", "sigma"}
    np.testing.assert_array_equal(with_oracle["sigma"], fake_block(1, 0, oracle=True)["sigma"][1])


def test_reading_needs_neither_lensjax_nor_tensorflow(tmp_path, fake_simulator):
    folder = build(tmp_path, num_train=5, num_test=2)
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        f"b = tfds.builder_from_directory({str(folder)!r})\n"
        "row = b.as_data_source(split='train')[4]\n"
        "assert row['flux'].shape == (1192,) and abs(b.info.metadata['loglam0'] - 3.5798) < 1e-9\n"
        "assert 'Lyman-alpha' in b.info.description and 'li2018' in b.info.citation\n"
        "assert not {'lensjax', 'configs', 'datasets', 'tensorflow', 'jax'} & set(sys.modules)\n"
        "print(float(row['flux'][7]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.float32(done.stdout) == fake_block(0, 0)["flux"][4, 7]


def test_importing_the_builder_loads_no_simulator():
    code = "import sys, datasets.lya_spectra; assert not {'jax', 'lensjax', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_killed_build_leaves_nothing_and_the_next_is_whole(tmp_path):
    code = (
        "import sys, time\n"
        "sys.path[:0] = ['tests/datasets']\n"
        "import test_lya_spectra as t\n"
        "def make(config):\n"
        "    def simulate(split, block):\n"
        "        time.sleep(0.2 * slow)\n"
        "        return t.fake_block(split, block)\n"
        "    return simulate\n"
        "t.lya_spectra.make_block_simulator = make\n"
        "slow = int(sys.argv[1])\n"
        f"t.build({str(tmp_path)!r}, num_train=20_000 if slow else 3000)\n"
    )
    parent = tmp_path / "lya_spectra" / "test"
    process = subprocess.Popen([sys.executable, "-c", code, "1"], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.time() + 60
    while not list(parent.glob("incomplete.*/*train*")) and time.time() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(parent.glob("incomplete.*")) and not (parent / "1.0.0").exists()

    subprocess.run([sys.executable, "-c", code, "0"], cwd=ROOT, check=True, capture_output=True)
    assert not list(parent.glob("incomplete.*"))
    assert len(rows(parent / "1.0.0", "train", range(3000))) == 3000


def test_a_built_set_is_not_built_again(tmp_path, fake_simulator, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in build(tmp_path, num_train=5, num_test=2).iterdir()}
    monkeypatch.setattr(lya_spectra, "make_block_simulator", lambda config: pytest.fail("simulated again"))
    assert {path: path.stat().st_mtime_ns for path in build(tmp_path, num_train=5, num_test=2).iterdir()} == before


def test_project_config_maps_onto_a_builder_config_with_a_name_of_its_own():
    config = lya_configs.get_config("paper")
    config.data.num_train, config.data.num_test, config.seed = 70, 30, 5
    ours = lya_spectra.builder_config(config)
    assert (ours.num_train, ours.num_test) == (70, 30)
    settings = ours.simulator_config()
    assert settings.seed == 5 and settings.sim == config.sim and settings.data.window == config.data.window
    config.sim.dirt = 0.25
    other = lya_spectra.builder_config(config)
    assert other.name != ours.name and other.simulator_config().sim.dirt == 0.25


def test_the_published_sizes_are_those_of_the_paper():
    default = lya_spectra.Builder.BUILDER_CONFIGS[0]
    assert default.num_train + default.num_test == 150_000
    assert default.num_train == 9 * default.num_test


def test_real_mocks_depend_on_seed_split_and_position_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(lya_spectra, "BLOCK", 8)
    small, large = (
        lya_spectra.LyaConfig(name="real", num_train=number, num_test=4, oracle=True, seed=3) for number in (6, 20)
    )
    simulate = lya_spectra.make_block_simulator(small)  # compiled once
    monkeypatch.setattr(lya_spectra, "make_block_simulator", lambda config: simulate)
    few, many = (
        prepare_module.prepare(lya_spectra.Builder(config=config, data_dir=tmp_path / str(config.num_train)))
        for config in (small, large)
    )
    for split, index in (("train", range(6)), ("test", range(4))):
        for one, other in zip(rows(few, split, index), rows(many, split, index), strict=True):
            assert all(np.array_equal(one[name], other[name]) for name in one)
    train, test = rows(many, "train", range(20)), rows(many, "test", range(4))
    assert len({row["flux"].tobytes() for row in [*train, *test]}) == 24
    for row in train:
        assert (row["snr"] > 0) == (row["wave"] > 0) == (row["label"] == 1)
        good = row["ivar"] > 0
        assert np.isfinite(row["flux"]).all() and (row["sigma"] > 0).all() and good.mean() > 0.9
        line = row["label"] * row["line_flux"]
        pull = (row["flux"] - row["continuum"])[good] / row["sigma"][good]
        assert line > 0 or np.median(np.abs(pull)) < 1.5  # 0.67 for pure noise
