"""What the builders of mock spectra share: their settings, their columns, and the blocks that they simulate.

The simulators are imported only while a set is being built. A set on disk is read by plain
`tfds.builder_from_directory`, without this module.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from datasets.shards import named, shards

BLOCK = 1024  # spectra of one simulator call; part of the random numbers, so part of the version
SHARD_BLOCKS = 8  # blocks of one file
SPLITS = ("train", "test")  # the position of a split is folded into its random key


class Columns(NamedTuple):
    """Names of the columns of a set by what they hold; P pixels, S slots."""

    scalars: tuple[str, ...]  # float32
    flags: tuple[str, ...]  # int32
    arrays: tuple[str, ...] = ("flux", "ivar", "wdisp")  # (P,) float32
    oracle: tuple[str, ...] = ("continuum", "sigma")  # (P,) float32, stored on request
    pixel_flags: tuple[str, ...] = ()  # (P,) uint8
    slots: tuple[str, ...] = ()  # (S,) float32

    def names(self, oracle: bool) -> tuple[str, ...]:
        """All that are stored."""
        kept = self.oracle if oracle else ()
        return (*self.arrays, *self.pixel_flags, *self.slots, *self.scalars, *self.flags, *kept)

    def features(self, pixels: int, slots: int, oracle: bool) -> tfds.features.FeaturesDict:
        """Arrays as raw bytes, truth as scalars and short arrays."""
        tensor = functools.partial(tfds.features.Tensor, encoding="bytes")
        arrays = self.arrays + (self.oracle if oracle else ())
        columns: dict[str, Any] = {name: tensor(shape=(pixels,), dtype=np.float32) for name in arrays}
        columns |= {name: tensor(shape=(pixels,), dtype=np.uint8) for name in self.pixel_flags}
        columns |= {name: tensor(shape=(slots,), dtype=np.float32) for name in self.slots}
        columns |= {name: tfds.features.Scalar(dtype=np.float32) for name in self.scalars}
        columns |= {name: tfds.features.Scalar(dtype=np.int32) for name in self.flags}
        return tfds.features.FeaturesDict(columns)


@dataclasses.dataclass(kw_only=True)
class SpectraConfig(tfds.core.BuilderConfig):
    """What to simulate.

    Attributes:
      num_train, num_test: spectra of each split.
      oracle: also store the true continuum and the true noise of every pixel.
      variant: variant of the system's config that the simulator settings come from.
      sim: settings that replace the variant's; all of `config.sim` when made by `builder_config`.
      window: observed wavelength range, Angstrom; None takes the variant's.
      seed: of the random numbers; None takes the variant's.
    """

    SYSTEM: ClassVar[str] = ""  # configs/<SYSTEM>.py
    LAW: ClassVar[str] = ""  # the field of config.sim that a set is named after

    num_train: int
    num_test: int
    oracle: bool = False
    variant: str = "default"
    sim: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    window: tuple[float, float] | None = None
    seed: int | None = None

    def simulator_config(self):
        """The ml_collections config that the simulator is made from."""
        config = importlib.import_module(f"configs.{self.SYSTEM}").get_config(self.variant)
        config.sim.update(self.sim)
        if self.window is not None:
            config.data.window = tuple(self.window)
        if self.seed is not None:
            config.seed = self.seed
        return config

    @classmethod
    def of(cls, config):
        """The builder config of a project config.

        The name carries a digest of all settings, so two different simulations never share a folder.
        """
        settings = {
            "num_train": int(config.data.num_train),
            "num_test": int(config.data.num_test),
            "oracle": bool(config.data.get("oracle", False)),
            "variant": config.get("variant", "default"),
            "sim": config.sim.to_dict(),
            "window": tuple(config.data.window),
            "seed": int(config.seed),
        }
        return cls(**named(config.sim[cls.LAW], settings), **settings)


class SpectraBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Built shard by shard: the generator-based builder keeps a split in memory up to 1 GB and beyond that needs
    TensorFlow, while shards stream to disk at any size.
    """

    COLUMNS: ClassVar[Columns]

    def __init__(self, *, file_format: str = "array_record", **kwargs):
        super().__init__(file_format=file_format, **kwargs)  # the library's own default needs TensorFlow

    def make_simulator(self, settings) -> Callable:
        """simulate(key) -> one example, by the system's simulator."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        from lensjax.physics import grid

        settings = self.builder_config.simulator_config()
        loglam = grid.window(*settings.data.window)
        slots = settings.sim.get("max_absorbers", 0)
        return self.dataset_info_from_configs(
            features=self.COLUMNS.features(len(loglam), slots, self.builder_config.oracle),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                loglam0=float(loglam[0]), loglam_step=grid.STEP, sim=settings.sim.to_json()
            ),
        )

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable[[], Iterator]]]:
        simulate = make_block_simulator(self)
        numbers = {"train": self.builder_config.num_train, "test": self.builder_config.num_test}
        return {
            split: shards(simulate, SPLITS.index(split), number, BLOCK, SHARD_BLOCKS)
            for split, number in numbers.items()
        }


def make_block_simulator(builder: SpectraBuilder) -> Callable[[int, int], dict]:
    """Returns simulate(split, block) -> dict of device arrays of BLOCK spectra, the same on every call."""
    import jax
    import jax.numpy as jnp

    settings = builder.builder_config.simulator_config()
    one = builder.make_simulator(settings)
    names, size = builder.COLUMNS.names(builder.builder_config.oracle), BLOCK

    @jax.jit
    def simulate(split, block):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), split), block)
        batch = jax.vmap(one)(jax.random.split(key, size))
        batch |= {name: batch[name].astype(jnp.uint8) for name in builder.COLUMNS.pixel_flags}
        return {name: batch[name] for name in names}

    return simulate
