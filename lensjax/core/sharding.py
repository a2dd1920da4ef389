"""Data parallelism: one mesh axis `data`, arrays either replicated or split along their leading axis.

The same program runs on one CPU, the GPUs of one host, or many hosts after `jax.distributed.initialize`.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lensjax.core.errors import UserError


def split_cpu(size: int, least: int) -> None:
    """Make JAX see the CPU as a device for each core, fewer where each would have no even share or less than `least`
    of `size` rows.

    Cores that work on rows of their own wait for each other less than those that share every operation. Where JAX knows
    its devices already, or JAX_NUM_CPU_DEVICES or XLA's flag tell their number, nothing changes.
    """
    if "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", ""):
        return
    most = min(cores(), size // max(least, 1))
    with contextlib.suppress(RuntimeError):  # JAX knows its devices
        jax.config.update("jax_num_cpu_devices", next((n for n in range(most, 1, -1) if size % n == 0), 1))


def cores() -> int:
    """Cores of the CPU that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_mesh(devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices, or of those given, along `data`. Auto axes: XLA places what we do not."""
    devices = jax.devices() if devices is None else devices
    return Mesh(np.array(devices), ("data",), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The leading axis split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(mesh: Mesh, size: int, key: str = "train.batch_size") -> None:
    """Raise UserError if a batch cannot be split evenly."""
    if size % mesh.size:
        raise UserError(
            f"config.{key} is {size}, which {mesh.size} devices cannot share evenly: give a multiple of {mesh.size}."
        )


def local_rows(size: int) -> slice:
    """The rows of a global batch of `size` that this process supplies."""
    share = size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def shard_batch(mesh: Mesh, batch: dict[str, Any]) -> dict[str, jax.Array]:
    """Put a batch on the mesh, split by rows. Host arrays are this process's rows (all of them with one process)."""
    sharding = batch_sharding(mesh)

    def put(x: Any) -> jax.Array:
        if isinstance(x, jax.Array):
            return jax.device_put(x, sharding)
        return jax.make_array_from_process_local_data(sharding, np.asarray(x))

    return {name: put(x) for name, x in batch.items()}


def to_host(tree: Any) -> Any:
    """Copies of the arrays as numpy, whole in every process: true copies, since a step may give up the originals."""

    def fetch(x: Any) -> np.ndarray:
        if isinstance(x, jax.Array) and not (x.is_fully_addressable or x.is_fully_replicated):
            x = multihost_utils.process_allgather(x, tiled=True)
        return np.array(x, copy=True)

    return jax.tree.map(fetch, tree)


def any_process(flag: bool) -> bool:
    """Whether the flag is set in one process or another. Every process must ask."""
    return flag if jax.process_count() == 1 else bool(multihost_utils.process_allgather(np.array(flag)).any())


def places(mesh: Mesh, state: Any, split: tuple[str, ...]) -> Any:
    """The sharding of every array of a state: rows split for the entries `split` of a dict in it, else replicated."""
    whole, rows = replicated(mesh), batch_sharding(mesh)

    def place(path: tuple[Any, ...], _: Any) -> NamedSharding:
        return rows if any(getattr(entry, "key", None) in split for entry in path) else whole

    return jax.tree_util.tree_map_with_path(place, state)


def abstract_like(mesh: Mesh, make: Callable[..., Any], *args: Any, split: tuple[str, ...] = ()) -> Any:
    """Shapes, dtypes and shardings (`places`) of what make(*args) returns: what a checkpoint restores into."""
    shapes = jax.eval_shape(make, *args)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        shapes,
        places(mesh, shapes, split),
    )


def compile_init(init: Callable[..., Any], mesh: Mesh, split: tuple[str, ...] = ()) -> Callable[..., Any]:
    """init(key) -> state, where `places` says."""

    def run(key: jax.Array) -> Any:
        return jax.jit(init, out_shardings=places(mesh, jax.eval_shape(init, key), split))(key)

    return run


def compile_train_step(step: Callable[..., Any], mesh: Mesh, split: tuple[str, ...] = ()) -> Callable[..., Any]:
    """step(state, batch, key) -> (state, metrics), the batch split, the state where `places` says, the rest replicated.

    The old state is given up. What is in `on_each_device` knows the mesh.
    """
    whole, rows = replicated(mesh), batch_sharding(mesh)

    def run(state: Any, batch: Any, key: jax.Array) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            moved, metrics = step(state, batch, key)
        return jax.lax.with_sharding_constraint(moved, places(mesh, moved, split)), metrics

    return jax.jit(run, in_shardings=(None, rows, whole), out_shardings=(None, whole), donate_argnums=0)


def sharing() -> int:
    """How many devices share the batch of the step that is being traced; 1 outside of `compile_train_step`."""
    return max(jax.sharding.get_abstract_mesh().size, 1)


def on_each_device(run: Callable[[Any, Any], tuple[Any, Any]], whole: Any, rows: Any) -> tuple[Any, Any]:
    """run(whole, rows) -> (arrays by row, means over the rows), each device of the step being traced on its own rows.

    The arrays come back as if one device had had all rows, the means as the mean of the devices': they wait for each
    other there alone, and where gradients of `whole` are summed. Left to itself, XLA sums those of every operation, and
    in a loop at every turn. The number of rows must be a multiple of `sharing()`.
    """
    if sharing() == 1:
        return run(whole, rows)

    def local(whole: Any, rows: Any) -> tuple[Any, Any]:
        out, means = run(whole, rows)
        return out, jax.lax.pmean(means, "data")

    every, split = PartitionSpec(), PartitionSpec("data")
    return jax.shard_map(local, in_specs=(every, split), out_specs=(split, every), check_vma=False)(whole, rows)


def compile_predict(predict: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """predict(params, model_state, batch) -> outputs gathered whole on every device; rows must be independent.

    Each device works on its own rows and waits for none: left to itself, XLA would give every device the whole batch
    where predict goes through it in pieces (`lax.map`).
    """
    whole, split = replicated(mesh), batch_sharding(mesh)
    local = _by_rows(predict, mesh, (whole.spec, whole.spec, split.spec))
    return jax.jit(local, in_shardings=(whole, whole, split), out_shardings=whole)


def compile_batch(make_keys: Callable[..., jax.Array], make: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """(...) -> batch: make(keys (n,)) of the keys make_keys(...) (N,), each device making the rows that it will use.

    XLA would have every device transform the whole batch where `make` has a Fourier transform.
    """
    split = batch_sharding(mesh)
    local = _by_rows(make, mesh, split.spec)
    return jax.jit(lambda *args: local(make_keys(*args)), out_shardings=split)


def _by_rows(function: Callable[..., Any], mesh: Mesh, in_specs: Any) -> Callable[..., Any]:
    """The function on each device's rows; without the check of replication, as there is no communication in it."""
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=PartitionSpec("data"), check_vma=False)
