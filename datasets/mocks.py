"""What the builders of mock data share: columns with their types, and splits that are simulated block by block.

The simulators are imported only while a set is being built. A set on disk is read by plain
`tfds.builder_from_directory`, without this module.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from datasets.shards import Simulate, shards

Layout = Mapping[str, tuple[tuple[int, ...], Any]]  # name -> shape of one example's, dtype
SPLITS = ("train", "test")  # the position of a split is folded into its random key
SHARD_BLOCKS = 8  # blocks of one file


class MockBuilder(tfds.core.ShardBasedBuilder, skip_registration=True):
    """Built shard by shard: the generator-based builder keeps a split in memory up to 1 GB and beyond that needs
    TensorFlow, while shards stream to disk at any size.

    Its builder_config has num_train, num_test and simulator_config(), whose `sim` and `seed` make the examples. BLOCK:
    examples of one simulator call; part of the random numbers, so part of the version.
    """

    BLOCK: ClassVar[int]
    builder_config: Any

    def __init__(self, *, file_format: str = "array_record", **kwargs):
        super().__init__(file_format=file_format, **kwargs)  # the library's own default needs TensorFlow

    def columns(self, settings) -> Layout:
        """All that is stored of an example."""
        raise NotImplementedError

    def about(self, settings) -> dict[str, Any]:
        """What a reader must know besides the simulator's settings."""
        raise NotImplementedError

    def make_simulator(self, settings) -> Callable:
        """simulate(key) -> one example, by the system's simulator."""
        raise NotImplementedError

    def _info(self) -> tfds.core.DatasetInfo:
        settings = self.builder_config.simulator_config()
        return self.dataset_info_from_configs(
            features=features(self.columns(settings)),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(**self.about(settings), sim=settings.sim.to_json()),
        )

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable[[], Iterator]]]:
        simulate, config = make_block_simulator(self), self.builder_config
        numbers = {"train": config.num_train, "test": config.num_test}
        return {
            split: shards(simulate, SPLITS.index(split), number, self.BLOCK, SHARD_BLOCKS)
            for split, number in numbers.items()
        }


def features(columns: Layout) -> tfds.features.FeaturesDict:
    """Arrays as raw bytes, single numbers as scalars."""

    def feature(shape: tuple[int, ...], dtype: Any) -> tfds.features.FeatureConnector:
        if shape:
            return tfds.features.Tensor(shape=shape, dtype=dtype, encoding="bytes")
        return tfds.features.Scalar(dtype=dtype)

    return tfds.features.FeaturesDict({name: feature(*column) for name, column in columns.items()})


def make_block_simulator(builder: MockBuilder) -> Simulate:
    """Returns simulate(split, block) -> dict of device arrays of BLOCK examples, the same on every call."""
    import jax

    settings = builder.builder_config.simulator_config()
    one, columns, size = builder.make_simulator(settings), builder.columns(settings), builder.BLOCK

    @jax.jit
    def simulate(split, block):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(settings.seed), split), block)
        batch = jax.vmap(one)(jax.random.split(key, size))
        return {name: batch[name].astype(dtype) for name, (_, dtype) in columns.items()}

    return simulate
