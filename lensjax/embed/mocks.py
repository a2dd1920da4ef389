"""Mock cutouts as a source to embed: as a survey's, with the truth in the table. Drawn where they are needed."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
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

        def draw(rows: jax.Array) -> dict[str, jax.Array]:
            block, within = jnp.divmod(rows, self._size)
            pick = jax.vmap(lambda b, w: jax.random.split(jax.random.fold_in(key, b), self._size)[w])
            batch = jax.vmap(simulate)(pick(block, within))
            return {name: x for name, x in batch.items() if name not in ORACLE}

        self._draw = jax.jit(draw)
        self._truth: dict[int, dict[str, np.ndarray]] = {}  # of the blocks that were drawn

    def __len__(self) -> int:
        return self._num

    def table(self) -> dict[str, np.ndarray]:
        """Columns (N,) or (N, B): mag, psfsize, noise, ebv, label, kind and the rest of the truth."""
        for start in range(0, self._num, self._size):
            if start not in self._truth:
                self._read(np.arange(start, start + self._size))
        blocks = [self._truth[start] for start in range(0, self._num, self._size)]
        columns = {name: np.concatenate([block[name] for block in blocks])[: self._num] for name in blocks[0]}
        return {"file": np.full(self._num, "mock"), "row": np.arange(self._num), **columns}

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images (n, H, H, B) nanomaggies of rows (n,), any of them, drawn a batch at a time."""
        rows = np.asarray(rows)
        return np.concatenate([self._read(rows[i : i + self._size]) for i in range(0, len(rows), self._size)])

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Images of at most a batch; the truth of a whole block is kept."""
        batch = jax.device_get(self._draw(np.resize(rows, self._size).astype(np.int32)))
        images = batch.pop("image")
        if rows[0] % self._size == 0 and np.array_equal(rows, rows[0] + np.arange(self._size)):
            self._truth[int(rows[0])] = batch
        return images[: len(rows)]
