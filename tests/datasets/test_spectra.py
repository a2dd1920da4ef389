"""Sets of spectra: truth survives the disk, readers need no lensjax and no TensorFlow, no build is left half."""

import errno
import importlib
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import lya
from datasets import lya_spectra, mgii_spectra, mocks, prepare, spectra
from lensjax.core.errors import UserError
from lensjax.core.files import content
from lensjax.data import source
from lensjax.search import emitters
from tests.datasets import sets

ROOT = pathlib.Path(__file__).parents[2]
SETS = {"lya": lya_spectra, "mgii": mgii_spectra}


@pytest.fixture(params=SETS)
def system(request):
    return request.param


@pytest.fixture
def module(system):
    return SETS[system]


@pytest.fixture
def fake_simulator(monkeypatch):
    monkeypatch.setattr(mocks, "make_block_simulator", sets.make_fake_simulator)
    monkeypatch.setattr(mocks, "SHARD_BLOCKS", 1)


def test_arrays_and_truth_come_back_bit_for_bit_in_order(module, tmp_path, fake_simulator, monkeypatch):
    monkeypatch.setattr(spectra.SpectraBuilder, "BLOCK", 64)
    folder = sets.build(module, tmp_path, num_train=90)
    splits = tfds.builder_from_directory(folder).info.splits
    assert {name: split.num_examples for name, split in splits.items()} == {"train": 90, "test": 40}
    assert splits["train"].num_shards == 2
    builder = sets.builder_of(module, tmp_path)
    for split, (name, index) in enumerate([("train", [0, 63, 64, 89]), ("test", [39])]):
        for i, row in zip(index, sets.rows(folder, name, index), strict=True):
            truth = sets.fake_block(builder, split, i // 64)
            assert set(truth) == set(row)
            for column, values in truth.items():
                np.testing.assert_array_equal(np.float32(row[column]), np.float32(values[i % 64]))


def test_oracle_arrays_are_stored_on_request_only(module, tmp_path, fake_simulator):
    with_oracle = sets.rows(sets.build(module, tmp_path / "a", num_train=3, num_test=2, oracle=True), "test", [1])[0]
    without = sets.rows(sets.build(module, tmp_path / "b", num_train=3, num_test=2), "test", [1])[0]
    assert set(with_oracle) - set(without) == set(module.Builder.COLUMNS.oracle)


def test_reading_needs_neither_lensjax_nor_tensorflow(module, system, tmp_path, fake_simulator):
    folder = sets.build(module, tmp_path, num_train=5, num_test=2)
    pixels, what, paper = {"lya": (1192, "Lyman-alpha", "li2018"), "mgii": (3841, "Mg II", "zhao2019")}[system]
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        f"b = tfds.builder_from_directory({str(folder)!r})\n"
        "row = b.as_data_source(split='train')[4]\n"
        f"assert row['flux'].shape == ({pixels},) and 3.5796 < b.info.metadata['loglam0'] < 3.5799\n"
        f"assert {what!r} in b.info.description and {paper!r} in b.info.citation\n"
        "assert not {'lensjax', 'configs', 'datasets', 'tensorflow', 'jax'} & set(sys.modules)\n"
        "print(float(row['flux'][7]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.float32(done.stdout) == sets.fake_block(sets.builder_of(module, tmp_path), 0, 0)["flux"][4, 7]


def test_importing_the_builder_loads_no_simulator(system):
    code = f"import sys, datasets.{system}_spectra; assert not {{'jax', 'lensjax', 'tensorflow'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_a_killed_build_leaves_nothing_and_the_next_is_whole(tmp_path):
    code = (
        "import sys, time\n"
        "from datasets import lya_spectra, mocks\n"
        "from tests.datasets import sets\n"
        "def make(builder):\n"
        "    def simulate(split, block):\n"
        "        time.sleep(0.2 * slow)\n"
        "        return sets.fake_block(builder, split, block)\n"
        "    return simulate\n"
        "mocks.make_block_simulator = make\n"
        "slow = int(sys.argv[1])\n"
        f"sets.build(lya_spectra, {str(tmp_path)!r}, num_train=20_000 if slow else 3000)\n"
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
    assert len(sets.rows(parent / "1.0.0", "train", range(3000))) == 3000


def test_a_built_set_is_not_built_again(module, tmp_path, fake_simulator, monkeypatch):
    def states():
        folder = sets.build(module, tmp_path, num_train=5, num_test=2)
        return {path: path.stat().st_mtime_ns for path in folder.iterdir()}

    before = states()
    monkeypatch.setattr(mocks, "make_block_simulator", lambda builder: pytest.fail("simulated again"))
    assert states() == before
    monkeypatch.setattr(prepare, "locked", lambda path: pytest.fail("a read-only disk has no room for a lock"))
    assert states() == before


def test_a_full_disk_is_said_in_a_line(tmp_path, fake_simulator, monkeypatch):
    def fill(builder):
        raise RuntimeError(f"write() failed: {os.strerror(errno.ENOSPC)}; Failed to close chunk_writer")

    monkeypatch.setattr(spectra.SpectraBuilder, "download_and_prepare", fill)
    with pytest.raises(OSError, match=r"No space left.*lya_spectra"):
        sets.build(lya_spectra, tmp_path, num_train=5, num_test=2)


def test_project_config_maps_onto_a_builder_config_with_a_name_of_its_own(module, system):
    config = importlib.import_module(f"configs.{system}").get_config("paper")
    config.data.num_train, config.data.num_test, config.seed = 70, 30, 5
    ours = module.builder_config(config)
    assert (ours.num_train, ours.num_test) == (70, 30) and isinstance(ours, type(module.Builder.BUILDER_CONFIGS[0]))
    settings = ours.simulator_config()
    assert settings.seed == 5 and settings.sim == config.sim and settings.data.window == config.data.window
    config.sim.dirt = 0.25
    other = module.builder_config(config)
    assert other.name != ours.name and other.simulator_config().sim.dirt == 0.25


def test_a_library_that_is_made_anew_makes_another_set(tmp_path):
    config, names = lya.get_config("smoke"), []
    config.sim.continuum = str(tmp_path / "continua.npz")
    for inside in (b"one", b"two"):
        (tmp_path / "continua.npz").write_bytes(inside)
        names.append(lya_spectra.builder_config(config).name)
        assert content(tmp_path / "continua.npz") in emitters.identity(config)  # and another search
    assert names[0] != names[1] and names[0].startswith("snr_")


def test_a_set_of_another_system_is_refused(tmp_path):
    config = lya.get_config("smoke")
    for name in ("mgii_spectra", "mocks"):
        config.data.update({"dataset": name, "dir": str(tmp_path)})
        with pytest.raises(UserError, match=f"'{name}', which is no data set of the system 'lya'"):
            source.build(config)


def test_masked_lines_of_ones_own_reach_the_simulator_and_name_the_set():
    config = lya.get_config("smoke")
    usual = lya_spectra.builder_config(config)
    assert usual.masked_lines is None and usual.name == "snr_96_05607997"  # as of sets that were built before the field
    config.data.masked_lines = (*config.data.masked_lines, 3000.0)
    more = lya_spectra.builder_config(config)
    assert more.name != usual.name
    assert more.simulator_config().data.masked_lines == config.data.masked_lines
