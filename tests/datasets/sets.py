"""Sets of mock spectra without the simulation: blocks of random numbers in the columns of a builder."""

import numpy as np
import tensorflow_datasets as tfds

from datasets import prepare, spectra
from lensjax.physics import grid


def fake_block(builder, split: int, block: int) -> dict:
    """Every column of the builder's set, spectra.BLOCK rows."""
    rng = np.random.default_rng([split, block])
    config, columns = builder.builder_config, builder.COLUMNS
    settings = config.simulator_config()
    pixels, slots = len(grid.window(*settings.data.window)), settings.sim.get("max_absorbers", 0)
    number, arrays = spectra.BLOCK, columns.arrays + (columns.oracle if config.oracle else ())
    out = {name: rng.normal(size=(number, pixels)).astype(np.float32) for name in arrays}
    out |= {name: rng.integers(0, 2, (number, pixels)).astype(np.uint8) for name in columns.pixel_flags}
    out |= {name: rng.normal(size=(number, slots)).astype(np.float32) for name in columns.slots}
    out |= {name: rng.normal(size=number).astype(np.float32) for name in columns.scalars}
    return out | {name: rng.integers(0, 3, number).astype(np.int32) for name in columns.flags}


def make_fake_simulator(builder):
    """Stands in for `spectra.make_block_simulator`."""
    return lambda split, block: fake_block(builder, split, block)


def builder_of(module, folder, **settings):
    """A builder of `module`, a package of datasets/; 1500 + 40 spectra unless the settings say otherwise."""
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
    """Rows {split: (of 6 + 4 spectra, of 20 + 4)} of two sets by the real simulator, compiled once, blocks of 8."""
    monkeypatch.setattr(spectra, "BLOCK", 8)
    sizes = {number: {"num_train": number, "num_test": 4, **settings} for number in (6, 20)}
    simulate = spectra.make_block_simulator(builder_of(module, folder / "any", **sizes[6]))
    monkeypatch.setattr(spectra, "make_block_simulator", lambda builder: simulate)
    few, many = (build(module, folder / str(number), **size) for number, size in sizes.items())
    return {
        split: (rows(few, split, range(a)), rows(many, split, range(b)))
        for split, a, b in (("train", 6, 20), ("test", 4, 4))
    }
