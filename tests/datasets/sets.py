"""Sets of mocks without the simulation: blocks of random numbers in the columns of a builder."""

import numpy as np
import tensorflow_datasets as tfds

from datasets import mocks, prepare


def fake_block(builder, split: int, block: int) -> dict:
    """Every column of the builder's set, BLOCK rows."""
    rng = np.random.default_rng([split, block])

    def draw(shape, dtype):
        integers = np.issubdtype(dtype, np.integer)
        return (rng.integers(0, 2, shape) if integers else rng.normal(size=shape)).astype(dtype)

    columns = builder.columns(builder.builder_config.simulator_config())
    return {name: draw((builder.BLOCK, *shape), dtype) for name, (shape, dtype) in columns.items()}


def make_fake_simulator(builder):
    """Stands in for `mocks.make_block_simulator`."""
    return lambda split, block: fake_block(builder, split, block)


def builder_of(module, folder, **settings):
    """A builder of `module`, a package of datasets/; 1500 + 40 examples unless the settings say otherwise."""
    kind = type(module.Builder.BUILDER_CONFIGS[0])
    config = kind(name="test", **{"num_train": 1500, "num_test": 40} | settings)
    return module.Builder(config=config, data_dir=folder)


def build(module, folder, **settings):
    """Folder of the set, built."""
    return prepare.prepare(builder_of(module, folder, **settings))


def rows(folder, split, index):
    """Records of a set on disk."""
    return tfds.builder_from_directory(folder).as_data_source(split=split).__getitems__(index)


def small_and_large(module, folder, monkeypatch, **settings):
    """Rows {split: (of 6 + 4 examples, of 20 + 4)} of two sets by the real simulator, compiled once, blocks of 8."""
    monkeypatch.setattr(module.Builder, "BLOCK", 8)
    sizes = {number: {"num_train": number, "num_test": 4, **settings} for number in (6, 20)}
    simulate = mocks.make_block_simulator(builder_of(module, folder / "any", **sizes[6]))
    monkeypatch.setattr(mocks, "make_block_simulator", lambda builder: simulate)
    few, many = (build(module, folder / str(number), **size) for number, size in sizes.items())
    return {
        split: (rows(few, split, range(a)), rows(many, split, range(b)))
        for split, a, b in (("train", 6, 20), ("test", 4, 4))
    }
