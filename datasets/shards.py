"""Simulated examples as the shards of a TFDS builder: made block by block, the next one while this one is written."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Simulate = Callable[
    [int, int], dict
]  # (split, block) -> dict of device arrays, a block's examples along the first axis


def shards(
    simulate: Simulate, split: int, number: int, block: int, shard_blocks: int
) -> list[Callable[[], Iterator[tuple[int, dict]]]]:
    """One generator function for each file of a split of `number` examples: `shard_blocks` blocks of `block` each."""
    size = block * shard_blocks
    return [
        functools.partial(examples, simulate, split, start, min(start + size, number), block)
        for start in range(0, number, size)
    ]


def examples(simulate: Simulate, split: int, start: int, stop: int, block: int) -> Iterator[tuple[int, dict]]:
    """Examples `start` (a multiple of `block`) to `stop` of a split, keyed by their position: dicts of numpy values.

    The next block is simulated while this one is being written: JAX returns before the device has finished.
    """
    ahead = simulate(split, start // block)
    for first in range(start, stop, block):
        arrays = {name: np.asarray(values) for name, values in ahead.items()}
        if first + block < stop:
            ahead = simulate(split, first // block + 1)
        for i in range(min(block, stop - first)):
            yield first + i, {name: values[i] for name, values in arrays.items()}


def named(kind: str, settings: dict[str, Any]) -> dict[str, str]:
    """name and description of a set: its kind, size, and a digest of all settings, so that no two share a folder."""
    text = json.dumps(settings, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    number = settings["num_train"] + settings["num_test"]
    return {"name": f"{kind}_{number}_{digest}", "description": f"Simulated with {text}"}
