"""TFDS builder of mock BOSS galaxy spectra, half of them with a background Lyman-alpha line.

The simulator is imported only while a set is being built. A set on disk is read by plain
`tfds.builder_from_directory`, without this module.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from datasets.shards import shards

BLOCK = 1024  # spectra of one simulator call; part of the random numbers, so part of the version
SHARD_BLOCKS = 8  # blocks of one file
SPLITS = ("train", "test")  # the position of a split is folded into its random key
ARRAYS = ("flux", "ivar", "wdisp")
ORACLE = ("continuum", "sigma")
SCALARS = ("z", "wave", "snr", "line_flux", "line_sigma", "line_alpha", "peak")
FLAGS = ("label", "kind")


@dataclasses.dataclass(kw_only=True)
class LyaConfig(tfds.core.BuilderConfig):
    """What to simulate.

    Attributes:
      num_train, num_test: spectra of each split (9:1 in Li et al. 2018).
      oracle: also store the true continuum and the true noise of every pixel (1.7 x the size).
      variant: variant of configs/lya.py that the simulator settings come from.
      sim: settings that replace the variant's; all of `config.sim` when made by `builder_config`.
      window: observed wavelength range, Angstrom; None takes the variant's.
      seed: of the random numbers; None takes the variant's.
    """

    num_train: int = 135_000
    num_test: int = 15_000
    oracle: bool = False
    variant: str = "default"
    sim: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    window: tuple[float, float] | None = None
    seed: int | None = None

    def simulator_config(self):
        """The ml_collections config that the simulator is made from."""
        from configs import lya

        config = lya.get_config(self.variant)
        config.sim.update(self.sim)
        if self.window is not None:
            config.data.window = tuple(self.window)
        if self.seed is not None:
            config.seed = self.seed
        return config


def builder_config(config) -> LyaConfig:
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
    text = json.dumps(settings, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    number = settings["num_train"] + settings["num_test"]
    name = f"{config.sim.line_law}_{number}_{digest}"
    return LyaConfig(name=name, description=f"Simulated with {text}", **settings)


class Builder(tfds.core.ShardBasedBuilder):
    """150,000 mock spectra by default; see README.md for the columns.

    Built shard by shard: the generator-based builder keeps a split in memory up to 1 GB and beyond that needs
    TensorFlow, while shards stream to disk at any size.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}
    BUILDER_CONFIGS = [
        LyaConfig(name="default", description="Uniform in matched-filter S/N, as dirty as real data."),
        LyaConfig(name="paper", description="The recipe of Li et al. 2018.", variant="paper"),
        LyaConfig(name="lesser", description="Fluxes and shapes of Cao et al. 2020.", sim={"line_law": "lesser"}),
        LyaConfig(name="smoke", description="Tiny, for tests.", num_train=90, num_test=10),
    ]

    def __init__(self, *, file_format: str = "array_record", **kwargs):
        super().__init__(file_format=file_format, **kwargs)  # the library's own default needs TensorFlow

    def _info(self) -> tfds.core.DatasetInfo:
        from lensjax.physics import grid

        config: LyaConfig = self.builder_config
        settings = config.simulator_config()
        pixels = len(grid.window(*settings.data.window))
        return self.dataset_info_from_configs(
            features=features(pixels, config.oracle),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                loglam0=float(grid.window(*settings.data.window)[0]), loglam_step=grid.STEP, sim=settings.sim.to_json()
            ),
        )

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable[[], Iterator]]]:
        config: LyaConfig = self.builder_config
        simulate = make_block_simulator(config)
        numbers = {"train": config.num_train, "test": config.num_test}
        return {
            split: shards(simulate, SPLITS.index(split), number, BLOCK, SHARD_BLOCKS)
            for split, number in numbers.items()
        }


def features(pixels: int, oracle: bool) -> tfds.features.FeaturesDict:
    """Columns of the set: `pixels`-long float32 arrays as raw bytes, truth as scalars."""
    arrays = ARRAYS + (ORACLE if oracle else ())
    tensor = functools.partial(tfds.features.Tensor, shape=(pixels,), dtype=np.float32, encoding="bytes")
    columns = {name: tensor() for name in arrays}
    columns |= {name: tfds.features.Scalar(dtype=np.float32) for name in SCALARS}
    columns |= {name: tfds.features.Scalar(dtype=np.int32) for name in FLAGS}
    return tfds.features.FeaturesDict(columns)


def make_block_simulator(config: LyaConfig) -> Callable[[int, int], dict]:
    """Returns simulate(split, block) -> dict of device arrays of BLOCK spectra, the same on every call."""
    import jax

    from lensjax.sims import lya, whole

    settings = config.simulator_config()
    one = (whole if settings.sim.whole_range else lya).make_simulator(settings)
    names = ARRAYS + SCALARS + FLAGS + (ORACLE if config.oracle else ())

    @jax.jit
    def simulate(split, block):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), split), block)
        batch = jax.vmap(one)(jax.random.split(key, BLOCK))
        return {name: batch[name] for name in names}

    return simulate
