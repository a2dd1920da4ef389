"""Batches as a pure function of (seed, step): from the arrays of a data set, or drawn fresh from a simulator."""

import collections
import functools
import hashlib
import importlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import config_dict

from lensjax.core import sharding
from lensjax.core.errors import UserError
from lensjax.core.files import content

Batch = dict[str, Any]

# Where the simulator of a system lives: make_simulator(config) -> simulate(key) -> example.
SIMULATORS = {"lya": "lensjax.sims.lya", "mgii": "lensjax.sims.mgii"}
SIMULATORS |= dict.fromkeys(("ssl", "lens"), "lensjax.sims.lenses")
OWN_DATA = {"mgii": ("absorbers",), "ssl": ("cutouts",), "lens": ("cutouts",)}  # sources beside the mocks
WHOLE_RANGE = "lensjax.sims.whole"  # of spectra where config.sim.whole_range is set
FRACTIONS = {"lya": "line_fraction", "mgii": "absorber_fraction"}  # config.sim: of the mocks, those that have any
SMALL = 8  # values of an object at most that its identity is made of
READERS = 2  # threads that gather batches, each its own
SPLITS = {"train": 0, "test": 1}  # seeds of the two splits never meet
# What no observer knows: neither computed nor read to train, but for what `config.loss.teach_weight` has use for.
ORACLE = ("continuum", "sigma", "artefact", "profile", "clean")
TAUGHT = ("continuum", "sigma")


class Batches(NamedTuple):
    """train(step) -> batch. test() -> batches of the same shape; rows from num_test on are padding."""

    train: Callable[[int], Batch]
    test: Callable[[], Iterator[Batch]]
    num_train: int  # examples of an epoch
    num_test: int
    on_device: bool = False  # drawn by a jitted simulator, not gathered from host arrays
    identity: str = ""  # changes with the objects of both splits, or the file of continua they are drawn from


def make_batches(config: Any, simulator: Callable | None = None, mesh: Any = None) -> Batches:
    """Batches of config.data.source: "simulate" (fresh mocks on the device), "tfds" (the published set), "cutouts" or
    "absorbers" (a user's own images; spectra labelled by a catalogue).

    simulator: stands in for the system's own. mesh: devices the mocks are made on; default, all.
    Raises UserError for an unknown system, or a source that it has not.
    """
    sources = ("simulate", "tfds", *OWN_DATA.get(config.system, ()))
    if config.data.source not in sources:
        raise UserError(f"config.data.source is {config.data.source!r}: expected one of {', '.join(sources)}.")
    if config.data.get("twins", False) and config.data.source != "simulate":
        raise UserError(f"config.data.twins is of fresh mocks, not of config.data.source {config.data.source!r}.")
    if _taught(config) and config.data.source != "simulate":
        raise UserError(
            f"config.loss.teach_weight teaches odds of fresh mocks: config.data.source {config.data.source!r} does not "
            "hold their continuum and noise. Take 'simulate'."
        )
    if config.data.source == "tfds":
        from lensjax.data.source import load_split

        arrays = {split: load_split(config, split) for split in SPLITS}
        share = config.data.get("lens_share", 0.0)
        return from_arrays(arrays["train"], arrays["test"], config.train.batch_size, config.seed, share)
    if config.data.source == "cutouts":
        from lensjax.data.cutouts import load_cutouts

        share = config.data.get("lens_share", 0.0)
        return from_arrays(*load_cutouts(config), config.train.batch_size, config.seed, share)
    if config.data.source == "absorbers":
        from lensjax.data.absorbers import load_absorbers

        return from_arrays(*load_absorbers(config), config.train.batch_size, config.seed)
    simulate = simulator or make_simulator(config)
    twins = make_twins(config) if config.data.get("twins", False) else None
    return from_simulator(simulate, config, mesh or sharding.make_mesh(), twins)


def _taught(config: Any) -> tuple[str, ...]:
    """Names of the truth that training looks at."""
    return TAUGHT if config.get("loss", {}).get("teach_weight") else ()


def make_simulator(config: Any) -> Callable[[jax.Array], Batch]:
    """simulate(key) -> one example of config.system."""
    if config.system not in SIMULATORS:
        raise UserError(f"no simulator for config.system = {config.system!r}; expected one of {', '.join(SIMULATORS)}.")
    module = WHOLE_RANGE if config.sim.get("whole_range", False) else SIMULATORS[config.system]
    return importlib.import_module(module).make_simulator(config)


def make_twins(config: Any) -> Callable[[jax.Array], Batch]:
    """simulate(key) -> two examples, one with what is looked for and one without, in either order, by chance.

    Object, noise and all else are the same, so that what the loss says of the two is about the line alone. UserError
    for a system without lines.
    """
    if config.system not in FRACTIONS:
        raise UserError(f"config.data.twins is of {' and '.join(FRACTIONS)}, not of {config.system}: leave it False.")
    sure = {}
    for label in (1.0, 0.0):
        changed = config_dict.ConfigDict(config.to_dict())
        changed.update({"sim": {FRACTIONS[config.system]: label}})
        sure[label] = make_simulator(changed)

    def simulate(key: jax.Array) -> Batch:
        pair = sure[1.0](key), sure[0.0](key)
        turned = jax.random.bernoulli(jax.random.fold_in(key, 1))  # a batch is cut into pieces: labels stay mixed
        return jax.tree.map(
            lambda one, other: jnp.where(turned, jnp.stack([other, one]), jnp.stack([one, other])), *pair
        )

    return simulate


def from_simulator(
    simulate: Callable[[jax.Array], Batch], config: Any, mesh: Any, twins: Callable[[jax.Array], Batch] | None = None
) -> Batches:
    """Fresh mocks: batch `step` of a split has the key fold_in(fold_in(key(seed), split), step).

    The test split is the same mocks at every call. An epoch is config.data.num_train examples by name only.
    twins: `make_twins`, of which the training split is then made.
    """
    size = config.train.batch_size
    if twins and size % (2 * mesh.size):
        raise UserError(
            f"config.train.batch_size is {size}: twins on {mesh.size} devices need a multiple of {2 * mesh.size}."
        )

    left_out = set(ORACLE).difference(_taught(config))

    def draw(simulate: Callable[[jax.Array], Batch], share: int) -> Callable[..., Batch]:
        """Of simulate(key) -> `share` examples."""

        def make_keys(split: Any, step: Any) -> jax.Array:
            key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), split), step)
            return jax.random.split(key, size // share)

        def make(keys: jax.Array) -> Batch:
            examples = {name: x for name, x in jax.vmap(simulate)(keys).items() if name not in left_out}
            return examples if share == 1 else {name: x.reshape(-1, *x.shape[2:]) for name, x in examples.items()}

        return sharding.compile_batch(make_keys, make, mesh)

    draw_test = draw(simulate, 1)
    draw_train = draw(twins, 2) if twins else draw_test
    num_test = config.data.num_test

    def test() -> Iterator[Batch]:
        return (draw_test(np.int32(SPLITS["test"]), np.int32(i)) for i in range(-(-num_test // size)))

    def train(step: int) -> Batch:
        return draw_train(np.int32(SPLITS["train"]), np.int32(step))

    identity = content(config.get("sim", {}).get("continuum", ""))
    return Batches(train, test, config.data.num_train, num_test, on_device=True, identity=identity)


@functools.lru_cache(maxsize=4)
def permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order of an epoch, a function of (seed, epoch) alone; kept, since every batch of the epoch asks for it."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def epoch_rows(n: int, size: int, seed: int, step: int) -> np.ndarray:
    """Rows (size,) of batch `step` in shuffled epochs over n examples; the last partial batch of an epoch is dropped.

    Where a batch is longer than an epoch, it is filled from as many epochs as it takes.
    """
    if n >= size:
        epoch, within = divmod(step, n // size)
        return permutation(n, seed, epoch)[within * size : (within + 1) * size]
    epochs = -(-size // n)
    return np.concatenate([permutation(n, seed, step * epochs + i) for i in range(epochs)])[:size]


def shared_rows(label: np.ndarray, share: float, size: int, seed: int, step: int) -> np.ndarray:
    """Rows (size,) of batch `step`, `share` of them with label (n,) 1: either class in shuffled epochs of its own.

    Stein et al. (2022), section 3.4: the few lenses are seen more often. One of either class at least; UserError
    where a class is empty, and for batches of one.
    """
    classes = [np.flatnonzero(np.asarray(label) > 0.5), np.flatnonzero(np.asarray(label) <= 0.5)]
    if size < 2:
        raise UserError(f"config.train.batch_size is {size}: config.data.lens_share needs 2, one of either class.")
    if not all(len(rows) for rows in classes):
        raise UserError(
            f"of {len(label)} training objects {len(classes[0])} are lenses: expected some of either, or "
            "config.data.lens_share 0."
        )
    first = min(max(round(share * size), 1), size - 1)
    numbers = (first, size - first)
    chosen = [
        rows[epoch_rows(len(rows), number, seed + i, step)]
        for i, (rows, number) in enumerate(zip(classes, numbers, strict=True))
    ]
    return np.random.default_rng([seed, step]).permutation(np.concatenate(chosen))


def from_arrays(train: Batch, test: Batch, size: int, seed: int, share: float = 0.0) -> Batches:
    """Batches of two dicts of arrays with a common leading axis, memory-mapped or not; this process's rows of each.

    share: of a training batch, objects with label 1 (`shared_rows`); 0: as they come.
    """
    keep = [name for name in train if name not in ORACLE]
    n_train, n_test = len(train[keep[0]]), len(test[keep[0]])
    local = sharding.local_rows(size)

    def take(arrays: Batch, rows: np.ndarray) -> Batch:
        return {name: np.asarray(arrays[name][rows[local]]) for name in keep}

    def test_batches() -> Iterator[Batch]:
        for start in range(0, n_test, size):
            yield take(test, np.minimum(np.arange(start, start + size), n_test - 1))

    def rows_of(step: int) -> np.ndarray:
        if share:
            return shared_rows(train["label"], share, size, seed, step)
        return epoch_rows(n_train, size, seed, step)

    identity = _identity([train, test])
    return Batches(lambda step: take(train, rows_of(step)), test_batches, n_train, n_test, identity=identity)


def _identity(splits: list[Batch]) -> str:
    """Numbers of objects, and a digest of what is small of each: of labels, not of images."""
    digest, sizes = hashlib.sha256(), []
    for arrays in splits:
        small = {name: x for name, x in sorted(arrays.items()) if isinstance(x, np.ndarray) and x[:1].size <= SMALL}
        for name, values in small.items():
            digest.update(name.encode() + np.ascontiguousarray(values).tobytes())
        sizes.append(str(len(next(iter(arrays.values())))))
    return f"{' + '.join(sizes)} objects, {digest.hexdigest()}\n"


def stream(batches: Batches, steps: range) -> Iterator[Batch]:
    """The train batch of each step, the next ones under way while the caller works on this one.

    Host arrays are gathered in READERS threads. Mocks are only dispatched, and from this thread: programs of several
    devices that two threads dispatch can wait for each other for ever.
    """
    if batches.on_device:
        return _look_ahead(batches.train, steps)
    return _prefetch(batches.train, steps)


def _look_ahead(get: Callable[[int], Batch], steps: range) -> Iterator[Batch]:
    following = get(steps.start) if steps else {}
    for step in steps:
        batch, following = following, get(step + 1) if step + 1 in steps else {}
        yield batch


def _prefetch(get: Callable[[int], Batch], steps: range) -> Iterator[Batch]:
    with ThreadPoolExecutor(READERS, thread_name_prefix="batches") as pool:
        waiting = collections.deque()
        for step in steps:
            waiting.append(pool.submit(get, step))
            if len(waiting) > READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
