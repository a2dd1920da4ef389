"""Mock cutouts as a source to embed: as a survey's, with the truth in the table. Drawn where they are needed."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from ml_collections import config_dict

from lensjax.data.batches import ORACLE, SPLITS, make_simulator

MOCKS = len(SPLITS)  # seed: apart from the training and test splits


class MockSource:
    """config.embed.num mocks with config.embed.lens_fraction of lenses; rows are a function of config.seed.

    simulate: stands in for the system's simulator.
    """

    def __init__(self, config: Any, simulate: Callable[[jax.Array], dict[str, jax.Array]] | None = None):
        mocks: Any = config_dict.ConfigDict(config.to_dict())
        mocks.sim.lens_fraction = config.embed.lens_fraction
        simulate = simulate or make_simulator(mocks)
        key = jax.random.fold_in(jax.random.key(config.seed), MOCKS)
        self._size, self._num = config.embed.batch_size, config.embed.num
        self.stamp = f"mocks {mocks.seed} {self._num} {self._size} {mocks.sim.to_json()} {config.data.size}"

        def draw(block: Any) -> dict[str, jax.Array]:
            return jax.vmap(simulate)(jax.random.split(jax.random.fold_in(key, block), self._size))

        def truth(block: Any) -> dict[str, jax.Array]:
            return {name: x for name, x in draw(block).items() if x.ndim <= 2 and name not in ORACLE}

        self._images = jax.jit(lambda block: draw(block)["image"])
        self._truth = jax.jit(truth)  # the images that it does not return are not computed

    def __len__(self) -> int:
        return self._num

    def table(self) -> dict[str, np.ndarray]:
        """Columns (N,) or (N, B): mag, psfsize, noise, ebv, label, kind and the rest of the truth."""
        blocks = [jax.device_get(self._truth(np.int32(i))) for i in range(-(-self._num // self._size))]
        columns = {name: np.concatenate([block[name] for block in blocks])[: self._num] for name in blocks[0]}
        return {"file": np.full(self._num, "mock"), "row": np.arange(self._num), **columns}

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images (n, H, H, B) nanomaggies of rows (n,)."""
        rows = np.asarray(rows)
        block, within = np.divmod(rows, self._size)
        drawn = {i: np.asarray(self._images(np.int32(i))) for i in np.unique(block)}
        return np.stack([drawn[b][w] for b, w in zip(block, within, strict=True)])
