"""The task as a whole: it learns, says where the line is, and does not depend on how the batch is cut."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import lya
from lensjax.core import sharding
from lensjax.core.errors import UserError
from lensjax.core.task import init_state, make_train_step
from lensjax.physics import grid
from lensjax.tasks import classify, make_task

WINDOW = (3800.0, 3900.0)
LOGLAM = grid.window(*WINDOW)
PIXELS = len(LOGLAM)


def features():
    """Flux over error, and the S/N of a three-pixel filter; one constant, to be seen in the state."""

    def extract(example, constants):
        pull = constants["scale"] * example["flux"] * jnp.sqrt(example["ivar"])
        snr = jnp.convolve(pull, jnp.ones(3) / jnp.sqrt(3.0), mode="same")
        return {"x": jnp.stack([pull, snr], axis=-1), "snr": snr}

    return extract, {"scale": np.float32(1.0)}


def config(**model):
    config = lya.get_config()
    config.data.window = WINDOW
    config.model.update({"widths": (4, 4), "dropout": 0.0, **model})
    return config


def batch(size=16, seed=0):
    """Lines of three pixels at S/N 10 on white noise in every other spectrum, none within 8 pixels of the ends."""
    rng = np.random.default_rng(seed)
    flux = rng.normal(size=(size, PIXELS))
    label = np.arange(size) % 2
    place = rng.integers(8, PIXELS - 8, size)
    flux[np.arange(size)[:, None], place[:, None] + np.arange(-1, 2)] += 10 / np.sqrt(3) * label[:, None]
    out = {
        "flux": flux,
        "ivar": np.ones((size, PIXELS)),
        "wdisp": np.ones((size, PIXELS)),
        "z": np.full(size, 0.5),
        "label": label,
        "wave": label * grid.wave(LOGLAM)[place],
    }
    return {name: jnp.asarray(x, jnp.float32) for name, x in out.items()}


@pytest.fixture(scope="module")
def trained():
    """A task, and its state and losses after twenty steps on one batch."""
    task, tx = make(config()), optax.adam(3e-3)
    state = jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0))
    step, history = jax.jit(make_train_step(task, tx)), []
    for _ in range(20):
        state, metrics = step(state, batch(), jax.random.key(1))
        history.append({name: float(x) for name, x in metrics.items()})
    return task, state, history


def make(config):
    return classify.make_task(config, features())


def predict(task, state, batch):
    return jax.jit(task.predict)(state.params, state.model_state, batch)


def test_loss_goes_down(trained):
    _, state, history = trained
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert history[-1]["locate"] < history[0]["locate"]
    assert set(history[0]) == {"loss", "focal", "locate", "accuracy", "grad_norm"}
    assert state.model_state["constants"]["scale"] == 1  # carried, not trained


def test_line_is_found_within_a_pixel(trained):
    task, state, _ = trained
    fresh = batch(64, seed=5)
    out = predict(task, state, fresh)
    line = np.asarray(fresh["label"]) == 1
    offset = np.log10(out["wave"][line] / fresh["wave"][line]) / grid.STEP
    assert np.mean(np.abs(offset) < 1) > 0.9
    assert np.mean(np.asarray(out["snr"])[line] > 5) > 0.9
    np.testing.assert_allclose(out["score"], jax.nn.sigmoid(out["logit"]), rtol=1e-6)


def test_prediction_does_not_depend_on_the_chunks(trained):
    _, state, _ = trained
    fresh = batch(11, seed=7)
    predictions = [predict(make(config(chunk=c)), state, fresh) for c in (0, 4, 64)]
    for other in predictions[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), predictions[0], other)


@pytest.mark.parametrize("kinds", ["", "oii"])
def test_a_training_step_does_not_depend_on_the_chunks(trained, kinds):
    """In four pieces each has positives alone, or none; means over positives are those of the batch all the same."""
    rows = {**batch(), "kind": jnp.arange(16.0) // 2 % 2 + 1}
    slopes = []
    for chunk in (0, 4, 8):
        settings = config(kinds=kinds)
        settings.train.chunk = chunk
        task = make(settings)
        state = jax.jit(lambda key, task=task: init_state(task, optax.adam(1e-3), key))(jax.random.key(0))
        gradient = jax.jit(jax.value_and_grad(task.loss, has_aux=True))
        params = state.params if kinds else trained[1].params
        (value, (_, _, metrics)), slope = gradient(params, state, rows, jax.random.key(1))
        slopes.append((value, metrics, slope))
    assert set(slopes[0][1]) == {"focal", "locate", "accuracy"} | ({"kind"} if kinds else set())
    for other in slopes[1:]:
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, a, atol=5e-4 * abs(a).max() + 1e-6), slopes[0], other)


def test_devices_do_not_change_the_losses_of_chunks():
    """SGD, not Adam, which hides gradients wrong by a factor; in steps so small that rounding does not grow."""
    settings, histories = config(), []
    settings.train.chunk = 8
    task, tx = make(settings), optax.sgd(3e-4)
    for devices in (1, 2, 4):
        mesh = sharding.make_mesh(jax.devices()[:devices])
        state = sharding.compile_init(lambda key: init_state(task, tx, key), mesh)(jax.random.key(0))
        step, losses = sharding.compile_train_step(make_train_step(task, tx), mesh), []
        for i in range(4):
            state, metrics = step(state, sharding.shard_batch(mesh, jax.device_get(batch(seed=i))), jax.random.key(1))
            losses.append(float(metrics["loss"]))
        histories.append(losses)
    assert histories[0][-1] < histories[0][0]
    for other in histories[1:]:
        np.testing.assert_allclose(other, histories[0], rtol=1e-4)


def test_running_statistics_are_those_of_the_whole_batch():
    states = []
    for chunk in (0, 4):
        settings = config(norm="batch")
        settings.train.chunk = chunk
        task, tx = make(settings), optax.sgd(1e-3)
        state = jax.jit(lambda key, task=task, tx=tx: init_state(task, tx, key))(jax.random.key(0))
        states.append(jax.jit(make_train_step(task, tx))(state, batch(), jax.random.key(1))[0])
    assert states[0].model_state["batch_stats"]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_truth_does_not_reach_the_prediction(trained):
    task, state, _ = trained
    known = batch(4)
    blind = {name: known[name] for name in classify.OBSERVED}
    a, b = (predict(task, state, x) for x in (known, blind))
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_without_the_pixel_head_the_filter_says_where(norm):
    task = make(config(locate=False, norm=norm))
    params, model_state, extra = jax.jit(task.init)(jax.random.key(0))
    assert extra == {}
    data = batch(4)
    out = jax.jit(task.predict)(params, model_state, data)
    extract, constants = features()
    snr = jax.jit(jax.vmap(extract, (0, None)))(data, constants)["snr"]
    np.testing.assert_allclose(out["snr"], snr.max(1), rtol=1e-5)
    pixel = np.log10(out["wave"]) / grid.STEP - grid.index0(LOGLAM)
    assert np.all(np.abs(pixel - np.argmax(snr, axis=1)) < 2.5)


def test_centroid_of_a_parabola_is_its_vertex():
    guide = -0.5 * ((jnp.arange(30.0) - 12.3) / 1.1) ** 2
    best, position = classify.locate(guide)
    assert best == 12 and position == pytest.approx(12.3, abs=0.02)
    assert classify.locate(guide.at[10].set(-jnp.inf))[1] < 14  # a bad neighbour
    assert classify.locate(jnp.arange(5.0)[::-1])[0] == 0


def lopsided(size=32, seed=0):
    """The lines of `batch`, every other one with its tail on the red side, the others on the blue."""
    out, rng = batch(size, seed), np.random.default_rng(seed)
    alpha = rng.choice([-1.0, 1.0], size)
    pixel = np.round(np.log10(np.maximum(out["wave"], 1)) / grid.STEP).astype(int) - grid.index0(LOGLAM)
    flux, line = np.array(out["flux"]), np.asarray(out["label"]) == 1
    for side in (-1, 1):
        flux[line, pixel[line] + side] += 5 * side * alpha[line]
    return {**out, "flux": jnp.asarray(flux), "line_alpha": jnp.asarray(alpha, jnp.float32)}


def test_the_side_of_the_tail_is_learned():
    task, tx = make(config(kinds="skew", widths=(8, 8))), optax.adam(1e-2)
    state = jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0))
    step = jax.jit(make_train_step(task, tx))
    for seed in range(60):
        state, metrics = step(state, lopsided(seed=seed), jax.random.key(1))
    fresh = lopsided(64, seed=1000)
    kind, line = np.asarray(predict(task, state, fresh)["kind"]), np.asarray(fresh["label"]) == 1
    assert np.mean((kind > 0.5)[line] == (np.asarray(fresh["line_alpha"]) > 0)[line]) > 0.9
    assert metrics["kind"] < np.log(2)


def test_an_unknown_pair_of_kinds_is_told_the_known_ones():
    with pytest.raises(UserError, match="'colour': expected nothing, or one of skew, oii"):
        make(config(kinds="colour"))


def test_dropout_draws_from_the_key():
    task = make(config(dropout=0.5, locate=False))
    tx = optax.sgd(0.1)
    state = jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0))
    loss = jax.jit(lambda key: task.loss(state.params, state, batch(4), key)[0])
    a, b, c = (loss(jax.random.key(k)) for k in (1, 1, 2))
    assert a == b != c


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_and_prediction_lower_for_cuda(dtype):
    task, tx = make(config(dtype=dtype, chunk=0)), optax.adam(1e-3)
    state = jax.eval_shape(lambda key: init_state(task, tx, key), jax.random.key(0))
    data, key = batch(4), jax.random.key(0)
    step = jax.export.export(jax.jit(make_train_step(task, tx)), platforms=["cuda"])(state, data, key)
    predict = jax.export.export(jax.jit(task.predict), platforms=["cuda"])(state.params, state.model_state, data)
    assert "convolution" in step.mlir_module() and "convolution" in predict.mlir_module()
    assert ("bf16" in predict.mlir_module()) == (dtype == "bfloat16")


def test_unknown_system_is_named():
    broken = config()
    broken.system = "galaxies"
    with pytest.raises(UserError, match="'galaxies', expected one of lya"):
        make_task(broken)


@pytest.mark.parametrize("pixel", [0, 1, 9])
def test_a_line_at_an_end_of_the_window_is_placed_inside(pixel):
    best, position = classify.locate(jnp.full(10, -50.0).at[pixel].set(0.0))
    assert best == pixel and float(position) == pytest.approx(pixel, abs=1e-5)


def test_a_redshift_is_of_the_kind_that_the_line_is_said_to_be():
    made = lya.get_config("redshift")
    describe = classify.make_describe(made)
    wave = grid.wave(grid.window(*made.data.window))
    pixels = jnp.full((2, len(wave)), -50.0).at[:, 500].set(0.0)
    out = {"pixel_logit": pixels, "kind_logit": jnp.array([3.0, -3.0])}
    told = describe(out, jnp.ones_like(pixels), pixels > -99)
    np.testing.assert_allclose(told["z_source"], wave[500] / np.array([1215.67, 3728.48]) - 1, rtol=1e-4)
    mocks = {"kind": np.array([1.0, 2.0]), "line_alpha": np.array([3.0, -3.0])}  # Lyman-alpha, [OII]; red tail, blue
    assert all(first(mocks).tolist() == [True, False] for first in classify.KINDS.values())
