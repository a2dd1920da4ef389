"""The memory-mapped copy of a published set equals the set, and survives what interrupts it."""

import errno
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds

from configs import lya
from lensjax.core.errors import UserError
from lensjax.data import source

ROWS = 5


class Builder(tfds.core.GeneratorBasedBuilder):
    """Ten rows of known numbers."""

    VERSION = tfds.core.Version("1.0.0")
    name = "counted"

    def _info(self):
        flux = tfds.features.Tensor(shape=(3,), dtype=np.float32, encoding="bytes")
        columns = {"flux": flux, "z": tfds.features.Scalar(np.float32), "label": tfds.features.Scalar(np.int32)}
        features = tfds.features.FeaturesDict(columns)
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(0), "test": self._generate_examples(100)}

    def _generate_examples(self, first):
        for i in range(ROWS):
            yield i, {"flux": np.arange(3, dtype=np.float32) + first + i, "z": 0.1 * i, "label": i % 2}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    builder = Builder(data_dir=tmp_path_factory.mktemp("tfds"), file_format="array_record")
    builder.download_and_prepare()
    return builder


@pytest.fixture
def config(published, monkeypatch):
    monkeypatch.setattr(source, "build", lambda config: source.pathlib.Path(published.data_dir))
    monkeypatch.setattr(source, "BLOCK", 2)  # more than one block, the last one short
    source.shutil.rmtree(source.pathlib.Path(published.data_dir) / "npy", ignore_errors=True)
    return lya.get_config("default")


def test_arrays_equal_the_records(config, published):
    arrays = source.load_split(config, "test")
    rows = list(published.as_data_source(split="test"))
    assert set(arrays) == {"flux", "z", "label"}
    for name, array in arrays.items():
        assert isinstance(array, np.memmap) and array.dtype == np.float32 and len(array) == ROWS
        np.testing.assert_array_equal(array, np.array([row[name] for row in rows], np.float32))


def test_a_copy_killed_half_way_is_not_used(config, monkeypatch):
    def die(*args):
        args[2].joinpath("flux.npy").write_text("half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(source, "_copy", die)
        source.load_split(config, "train")
    assert source.load_split(config, "train")["flux"].shape == (ROWS, 3)


def test_it_is_read_once(config, monkeypatch):
    first = source.load_split(config, "train")
    monkeypatch.setattr(source, "_copy", lambda *args: pytest.fail("read twice"))
    np.testing.assert_array_equal(source.load_split(config, "train")["z"], first["z"])


def test_wrong_names_are_named(config, monkeypatch):
    with pytest.raises(UserError, match="no split 'validation'"):
        source.load_split(config, "validation")
    monkeypatch.undo()
    config.data.dataset = "lya_specra"
    with pytest.raises(UserError, match="lya_specra"):
        source.load_split(config, "train")


def test_without_a_copy_a_read_only_set_is_refused_in_a_sentence(config, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"no \.npy copy of the split 'test' yet"):
        patch.setattr(source.pathlib.Path, "mkdir", refuse)
        source.load_split(config, "test")
    source.load_split(config, "test")
    monkeypatch.setattr(source, "locked", refuse)
    assert len(source.load_split(config, "test")["z"]) == ROWS


def test_a_full_disk_is_an_error_and_not_a_signal(config, monkeypatch):
    def refuse(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OSError, match="No space left"):
        source.load_split(config, "test")
