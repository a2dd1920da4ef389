"""The queue of MoCo shared by the devices: the same losses and keys as on one, and each holds only its rows."""

import math
import re

import jax
import numpy as np
import pytest

from lensjax.core import sharding
from lensjax.core.checkpoint import Checkpoints
from lensjax.core.task import init_state, make_train_step
from lensjax.tasks import contrast
from tests.tasks.test_contrast import KEY, Small, batch, case


def run(devices, split, steps=3):
    """(losses, the last state) on so many devices."""
    mesh = sharding.make_mesh(jax.devices()[:devices])
    _, task, tx, _, _ = case()
    state = sharding.compile_init(lambda key: init_state(task, tx, key), mesh, split)(KEY)
    step = sharding.compile_train_step(make_train_step(task, tx), mesh, split)
    losses = []
    for i in range(steps):
        state, metrics = step(state, sharding.shard_batch(mesh, batch(i)), KEY)
        losses.append(float(metrics["loss"]))
    return losses, state


def test_a_split_queue_changes_no_loss_and_no_key():
    assert case()[1].split == ("queue",)
    one, alone = run(1, ())
    four, shared = run(4, ("queue",))
    np.testing.assert_allclose(four, one, rtol=2e-5, atol=1e-6)
    queue = shared.extra["queue"]
    np.testing.assert_allclose(queue, alone.extra["queue"], rtol=1e-3, atol=1e-4)
    assert {part.data.shape for part in queue.addressable_shards} == {(len(queue) // 4, *queue.shape[1:])}
    for leaf in jax.tree.leaves((shared.params, shared.opt_state, shared.extra["key_params"])):
        assert leaf.sharding.is_fully_replicated


def exchanged(program):
    """Numbers in what each collective of a compiled program brings to a device."""
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
    results = re.findall(rf"= (.*?) (?:{kinds})(?:-start)?\(", program)
    shapes = (re.findall(r"\w+\[([\d,]*)\]", result) for result in results)
    return [sum(math.prod(int(n) for n in shape.split(",") if n) for shape in each) for each in shapes]


def test_neither_the_queue_nor_its_logits_move_between_devices():
    settings = case()[0].copy_and_resolve_references()
    settings.moco.queue = 16_384  # a device's part of it, and of the logits, are more than a batch of views
    task, tx = contrast.make_task(settings, Small()), case()[2]
    mesh = sharding.make_mesh(jax.devices()[:4])
    state = sharding.abstract_like(mesh, lambda key: init_state(task, tx, key), KEY, split=task.split)
    step = sharding.compile_train_step(make_train_step(task, tx), mesh, task.split)
    rows = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in batch().items() if name in contrast.OBSERVED}
    moved = exchanged(step.lower(state, rows, KEY).compile().as_text())
    queue = state.extra["queue"]
    assert queue.sharding.shard_shape(queue.shape) == (2, 2048, 8)
    assert len(moved) > 3  # of gradients and statistics
    assert max(moved) < queue.size / 4


@pytest.mark.parametrize("devices", [1, 2])
def test_a_split_queue_is_restored_on_any_number_of_devices(tmp_path, devices):
    config, task, tx, _, _ = case()
    _, state = run(4, ("queue",), steps=1)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, config)
    mesh = sharding.make_mesh(jax.devices()[:devices])
    like = sharding.abstract_like(mesh, lambda key: init_state(task, tx, key), KEY, split=("queue",))
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore_latest(like)
    np.testing.assert_array_equal(restored.extra["queue"], state.extra["queue"])
    assert len(restored.extra["queue"].sharding.device_set) == devices
