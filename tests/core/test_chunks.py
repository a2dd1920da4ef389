"""A batch in pieces gives what the whole batch gives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.core import chunks, sharding

SIZE = 12


def rows():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(SIZE, 5)).astype(np.float32), rng.integers(0, 2, SIZE)
    return {"x": jnp.asarray(x), "y": jnp.asarray(y), "good": jnp.asarray(x > -1)}


def loss(params, piece, key):
    """Least squares of the good pixels, without noise; y is of integers and good of booleans, as in a task's batch."""
    error = (jnp.where(piece["good"], piece["x"], 0.0) @ params["w"]) - piece["y"]
    return jnp.mean(error**2), {"error": jnp.mean(error)}


PARAMS = {"w": jnp.arange(5.0)}


@pytest.mark.parametrize("chunk", [0, 1, 4, 5, 6, 12, 100])
def test_mean_chunks_has_value_gradient_and_metrics_of_the_whole_batch(chunk):
    expected = jax.value_and_grad(loss, has_aux=True)(PARAMS, rows(), jax.random.key(0))
    got = jax.jit(jax.value_and_grad(chunks.mean_chunks(loss, chunk), has_aux=True))(PARAMS, rows(), jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)
    value, metrics = chunks.mean_chunks(loss, chunk)(PARAMS, rows(), jax.random.key(0))
    np.testing.assert_allclose([value, metrics["error"]], [expected[0][0], expected[0][1]["error"]], rtol=1e-5)


def test_a_gradient_of_something_of_the_loss_is_scaled_by_its_slope():
    def double(params):
        return jnp.sin(chunks.mean_chunks(loss, 4)(params, rows(), jax.random.key(0))[0])

    value, slope = jax.value_and_grad(lambda p: loss(p, rows(), jax.random.key(0))[0])(PARAMS)
    np.testing.assert_allclose(jax.grad(double)(PARAMS)["w"], jnp.cos(value) * slope["w"], rtol=1e-4)


@pytest.mark.parametrize(("chunk", "pieces"), [(0, 1), (3, 4), (5, 3), (7, 2), (11, 2), (12, 1)])
def test_pieces_are_as_large_as_fits_and_each_has_a_key_of_its_own(chunk, pieces):
    """The metric of a piece is a number of its key and of its size alone: no two are equal."""

    def draw(params, piece, key):
        return jnp.sum(params["w"]), {"size": jnp.float32(len(piece["x"])), "draw": jax.random.uniform(key)}

    _, metrics = chunks.mean_chunks(draw, chunk)(PARAMS, rows(), jax.random.key(3))
    keys = jax.random.split(jax.random.key(3), pieces) if pieces > 1 else jax.random.key(3)[None]
    assert metrics["size"] == SIZE / pieces
    np.testing.assert_allclose(metrics["draw"], np.mean([jax.random.uniform(key) for key in keys]), rtol=1e-5)


@pytest.mark.parametrize("devices", [1, 2, 3, 4])
def test_devices_have_the_value_and_gradient_of_one(devices):
    """Of 4 pieces: some for each device or, of 3 devices, all at once. The pieces keep their keys."""
    if devices > jax.device_count():
        pytest.skip(f"{jax.device_count()} devices, {devices} wanted")

    def noisy(params, piece, key):
        value, metrics = loss(params, piece, key)
        return value * (1 + jax.random.uniform(key)), metrics

    def step(state, batch, key):
        (value, metrics), gradient = jax.value_and_grad(chunks.mean_chunks(noisy, 3), has_aux=True)(state, batch, key)
        return gradient, {**metrics, "value": value}

    key, mesh = jax.random.key(3), sharding.make_mesh(jax.devices()[:devices])
    expected = step(PARAMS, rows(), key)
    given = {"w": np.asarray(PARAMS["w"])}  # which the step gives up
    got = sharding.compile_train_step(step, mesh)(given, sharding.shard_batch(mesh, rows()), key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), got, expected)


@pytest.mark.skipif(jax.device_count() < 2, reason="one device: nothing to wait for")
def test_devices_wait_for_each_other_once_a_step():
    def step(state, batch, key):
        return jax.grad(lambda p: chunks.mean_chunks(loss, 2)(p, batch, key)[0])(state), {}

    mesh = sharding.make_mesh(jax.devices()[:2])
    text = sharding.compile_train_step(step, mesh).lower(PARAMS, rows(), jax.random.key(0)).compile().as_text()
    outside = text[text.index("\nENTRY ") :]  # of the loop
    sent = [re.findall(r" (all-\w+|collective-\w+)\(", part) for part in (text, outside)]
    assert sent == [["all-reduce"], ["all-reduce"]] and " while(" in text


def test_other_devices_than_cpus_take_all_rows_at_once(monkeypatch):
    assert chunks.on_cpu(16) == 16
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert chunks.on_cpu(16) == 0


@pytest.mark.parametrize("chunk", [0, 1, 5, 12, 100])
def test_map_chunks_is_the_function_of_the_whole_batch(chunk):
    run = lambda batch: {"sum": batch["x"].sum(1), "both": batch["x"] * batch["y"][:, None]}  # noqa: E731
    jax.tree.map(np.testing.assert_array_equal, chunks.map_chunks(run, rows(), chunk), run(rows()))
