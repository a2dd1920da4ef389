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
            batch = jax.vmap(simulate)(jax.random.split(jax.random.fold_in(key, block), self._size))
            return {name: x for name, x in batch.items() if name not in ORACLE}

        self._draw = jax.jit(draw)
        self._truth: dict[int, dict[str, np.ndarray]] = {}  # of the blocks that were drawn

    def __len__(self) -> int:
        return self._num

    def table(self) -> dict[str, np.ndarray]:
        """Columns (N,) or (N, B): mag, psfsize, noise, ebv, label, kind and the rest of the truth."""
        blocks = [self._block(i)[0] for i in range(-(-self._num // self._size))]
        columns = {name: np.concatenate([block[name] for block in blocks])[: self._num] for name in blocks[0]}
        return {"file": np.full(self._num, "mock"), "row": np.arange(self._num), **columns}

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Images (n, H, H, B) nanomaggies of rows (n,)."""
        block, within = np.divmod(np.asarray(rows), self._size)
        images = {i: self._block(i, images=True)[1] for i in np.unique(block)}
        return np.stack([images[b][w] for b, w in zip(block, within, strict=True)])

    def _block(self, number: int, images: bool = False) -> tuple[dict[str, np.ndarray], Any]:
        """(truth, images or None) of a block; drawn again only where the images are wanted."""
        number, drawn = int(number), None
        if images or number not in self._truth:
            batch = jax.device_get(self._draw(np.int32(number)))
            drawn = batch.pop("image")
            self._truth[number] = batch
        return self._truth[number], drawn
