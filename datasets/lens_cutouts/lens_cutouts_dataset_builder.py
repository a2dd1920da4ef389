"""TFDS builder of mock g, r, z cutouts, half of them with a strong lens.

The simulator is imported only while a set is being built. A set on disk is read by plain
`tfds.builder_from_directory`, without this module.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from datasets.shards import named, shards

BLOCK = 256  # cutouts of one simulator call; part of the random numbers, so part of the version
SHARD_BLOCKS = 8  # blocks of one file
SPLITS = ("train", "test")  # the position of a split is folded into its random key
VECTORS = ("psfsize", "noise", "mag")  # one value a band
SCALARS = (
    "ebv", "centre_x", "centre_y", "z_lens", "theta_e", "lens_e1", "lens_e2", "gamma1", "gamma2", "source_x",
    "source_y", "source_re", "source_mag", "magnification", "arc_snr",
)  # fmt: skip
FLAGS = ("label", "kind")


@dataclasses.dataclass(kw_only=True)
class CutoutConfig(tfds.core.BuilderConfig):
    """What to simulate.

    Attributes:
      num_train, num_test: cutouts of each split.
      size: pixels of a cutout, along either axis.
      sim: settings that replace those of configs/cutouts.py; all of `config.sim` when made by `builder_config`.
      seed: of the random numbers.
    """

    num_train: int = 50_000
    num_test: int = 5_000
    size: int = 96
    sim: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0

    def simulator_config(self):
        """The ml_collections config that the simulator is made from."""
        from ml_collections import config_dict

        from configs.cutouts import lenses

        config = config_dict.ConfigDict({"data": {"size": self.size}, "seed": self.seed})
        config.sim = lenses()
        config.sim.update(self.sim)
        return config


def builder_config(config) -> CutoutConfig:
    """The builder config of a project config.

    The name carries a digest of all settings, so two different simulations never share a folder.
    """
    settings = {
        "num_train": int(config.data.num_train),
        "num_test": int(config.data.num_test),
        "size": int(config.data.size),
        "sim": config.sim.to_dict(),
        "seed": int(config.seed),
    }
    return CutoutConfig(**named(f"{settings['size']}px", settings), **settings)


class Builder(tfds.core.ShardBasedBuilder):
    """55,000 mock cutouts by default; see README.md for the columns. Built shard by shard, at any size."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        CutoutConfig(name="default", description="Half lenses, half look-alikes of seven kinds, 96 pixels."),
        CutoutConfig(name="large", description="As default, 152 pixels: room for rotation and jitter.", size=152),
        CutoutConfig(name="smoke", description="Tiny, for tests.", num_train=24, num_test=8, size=48),
    ]

    def __init__(self, *, file_format: str = "array_record", **kwargs):
        super().__init__(file_format=file_format, **kwargs)  # the library's own default needs TensorFlow

    def _info(self) -> tfds.core.DatasetInfo:
        from lensjax.physics import bands
        from lensjax.sims.galaxies import KINDS

        config: CutoutConfig = self.builder_config
        settings = config.simulator_config()
        return self.dataset_info_from_configs(
            features=features(config.size),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                bands=list(bands.BANDS), pixel=bands.PIXEL, kinds=list(KINDS), sim=settings.sim.to_json()
            ),
        )

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable[[], Iterator]]]:
        config: CutoutConfig = self.builder_config
        simulate = make_block_simulator(config)
        numbers = {"train": config.num_train, "test": config.num_test}
        return {
            split: shards(simulate, SPLITS.index(split), number, BLOCK, SHARD_BLOCKS)
            for split, number in numbers.items()
        }


def features(size: int) -> tfds.features.FeaturesDict:
    """Columns of the set: the image as raw bytes, truth as numbers."""
    tensor = functools.partial(tfds.features.Tensor, dtype=np.float32, encoding="bytes")
    columns: dict[str, Any] = {"image": tensor(shape=(size, size, 3))}
    columns |= {name: tensor(shape=(3,)) for name in VECTORS}
    columns |= {name: tfds.features.Scalar(dtype=np.float32) for name in SCALARS}
    columns |= {name: tfds.features.Scalar(dtype=np.int32) for name in FLAGS}
    return tfds.features.FeaturesDict(columns)


def make_block_simulator(config: CutoutConfig) -> Callable[[int, int], dict]:
    """Returns simulate(split, block) -> dict of device arrays of BLOCK cutouts, the same on every call."""
    import jax

    from lensjax.sims import lenses

    settings = config.simulator_config()
    one = lenses.make_simulator(settings)

    @jax.jit
    def simulate(split, block):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), split), block)
        batch = jax.vmap(one)(jax.random.split(key, BLOCK))
        batch |= {name: batch[name].astype(np.int32) for name in FLAGS}
        return {name: batch[name] for name in ("image", *VECTORS, *SCALARS, *FLAGS)}

    return simulate
