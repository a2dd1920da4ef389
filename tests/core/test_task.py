"""The one step: its gradient is the closed form, its randomness a function of (key, step), its devices invisible."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lensjax.core import sharding
from lensjax.core.errors import UserError
from lensjax.core.task import Task, init_state, make_train_step
from tests.tiny import simulate, tiny_task

ROOT = pathlib.Path(__file__).parents[2]
KEY = jax.random.key(3)


def line_task() -> Task:
    """Least squares of y on x, mean over the batch."""

    def loss(params, state, batch, key):
        return jnp.mean((params * batch["x"] - batch["y"]) ** 2) / 2, ({}, {}, {})

    return Task(lambda key: (jnp.float32(2.0), {}, {}), loss, lambda params, _, batch: {"y": params * batch["x"]})


def test_a_gradient_step_is_the_closed_form():
    x, y = np.array([1.0, 2.0, 3.0], np.float32), np.array([0.0, 1.0, 5.0], np.float32)
    tx = optax.sgd(0.1)
    state, metrics = make_train_step(line_task(), tx)(init_state(line_task(), tx, KEY), {"x": x, "y": y}, KEY)
    gradient = np.mean((2 * x - y) * x)
    assert state.params == pytest.approx(2 - 0.1 * gradient)
    assert metrics["loss"] == pytest.approx(np.mean((2 * x - y) ** 2) / 2)
    assert metrics["grad_norm"] == pytest.approx(abs(gradient))
    assert state.step == 1


def test_the_randomness_is_a_function_of_key_and_step():
    tx = optax.sgd(0.1)
    step, state = make_train_step(tiny_task(), tx), init_state(tiny_task(), tx, KEY)
    batch = jax.jit(jax.vmap(simulate))(jax.random.split(KEY, 8))
    first, again, later = (step(state.replace(step=jnp.int32(n)), batch, KEY)[1]["loss"] for n in (0, 0, 1))
    assert first == again
    assert first != later


def _losses(devices: int, steps: int = 6) -> np.ndarray:
    mesh = sharding.make_mesh(jax.devices()[:devices])
    task, tx = tiny_task(), optax.sgd(0.5, momentum=0.9)
    state = sharding.compile_init(lambda key: init_state(task, tx, key), mesh)(KEY)
    step = sharding.compile_train_step(make_train_step(task, tx), mesh)
    losses = []
    for i in range(steps):
        host = jax.device_get(jax.jit(jax.vmap(simulate))(jax.random.split(jax.random.key(i), 16)))
        state, metrics = step(state, sharding.shard_batch(mesh, host), KEY)
        losses.append(float(metrics["loss"]))
    return np.array(losses)


def test_devices_do_not_change_the_losses():
    """SGD, not Adam: Adam hides gradients that are wrong by a factor."""
    one = _losses(1)
    assert one[-1] < 0.8 * one[0]
    for devices in (2, 4):
        np.testing.assert_allclose(_losses(devices), one, atol=1e-6, rtol=0)


def test_eight_devices():
    code = "from tests.core.test_task import _losses; print(*_losses(8))"
    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    np.testing.assert_allclose(np.array(out.stdout.split(), float), _losses(1), atol=1e-6, rtol=0)


def test_a_batch_is_split_by_rows():
    mesh = sharding.make_mesh(jax.devices()[:4])
    batch = sharding.shard_batch(mesh, {"x": np.arange(8.0, dtype=np.float32)})
    assert [list(shard.data) for shard in batch["x"].addressable_shards] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    again = sharding.shard_batch(sharding.make_mesh(jax.devices()[:2]), batch)
    assert len(again["x"].addressable_shards) == 2
    np.testing.assert_array_equal(again["x"], np.arange(8.0))


def test_a_batch_that_cannot_be_shared_is_refused():
    mesh = sharding.make_mesh(jax.devices()[:4])
    sharding.check_batch_size(mesh, 12)
    with pytest.raises(UserError, match=r"train.batch_size is 10, which 4 devices"):
        sharding.check_batch_size(mesh, 10)
