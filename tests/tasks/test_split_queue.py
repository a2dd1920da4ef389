"""The queue of MoCo shared by the devices: the same losses and keys as on one, and each holds only its rows."""

import jax
import numpy as np
import pytest

from lensjax.core import sharding
from lensjax.core.checkpoint import Checkpoints
from lensjax.core.task import init_state, make_train_step
from tests.tasks.test_contrast import KEY, batch, case


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
    assert {part.data.shape for part in queue.addressable_shards} == {(len(queue) // 4, queue.shape[1])}
    for leaf in jax.tree.leaves((shared.params, shared.opt_state, shared.extra["key_params"])):
        assert leaf.sharding.is_fully_replicated


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
