"""The lens finder: its encoder is the one it was given, both parts learn, and scores are of the central pixels."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import lens, ssl
from lensjax.core.checkpoint import save_weights
from lensjax.core.errors import UserError
from lensjax.core.journal import read_rows
from lensjax.core.optim import make_optimizer
from lensjax.core.task import begin, init_state, make_train_step
from lensjax.data.batches import make_batches
from lensjax.tasks import make_task
from lensjax.train import train
from tests.tiny import simulate_blob


def config(encoder=""):
    settings = lens.get_config("smoke")
    settings.finetune.encoder = str(encoder)
    settings.optim.update({"name": "adamw", "learning_rate": 0.02})
    return settings


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """(folder of the weights of an untrained ssl encoder, its params, its statistics)."""
    settings, folder = ssl.get_config("smoke"), tmp_path_factory.mktemp("ssl")
    params, state, _ = jax.jit(make_task(settings).init)(jax.random.key(5))
    save_weights(folder, params, state, settings)
    return folder, params, state


@pytest.fixture(scope="module")
def batch():
    return jax.jit(jax.vmap(simulate_blob))(jax.random.split(jax.random.key(1), 8))


def test_fine_tuning_begins_at_the_given_encoder_and_knows_nothing_yet(encoder, batch):
    folder, params, state = encoder
    task, tx = make_task(config(folder)), optax.identity()
    begun = begin(task, jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0)))
    mine, statistics, extra = begun.params, begun.model_state, begun.extra
    jax.tree.map(np.testing.assert_array_equal, mine["encoder"], params["encoder"])
    jax.tree.map(np.testing.assert_array_equal, statistics, state)
    assert extra == {}
    found = jax.jit(task.predict)(mine, statistics, {"image": batch["image"]})
    np.testing.assert_array_equal(found["score"], np.full(8, 0.5))
    plain = jax.jit(make_task(ssl.get_config("smoke")).predict)
    expected = plain(params, state, {"image": batch["image"]})["embedding"]
    np.testing.assert_allclose(found["embedding"], expected, rtol=1e-5, atol=1e-6)


def test_from_scratch_the_encoder_is_random():
    init = jax.jit(make_task(config()).init)
    one, two = (init(jax.random.key(seed))[0]["encoder"] for seed in (0, 1))
    assert not np.array_equal(one["conv_stem"]["kernel"], two["conv_stem"]["kernel"])


def test_both_parts_learn_the_encoder_more_slowly(encoder, batch):
    settings = config(encoder[0])
    task, tx = make_task(settings), make_optimizer(settings.optim, 1000)
    first = begin(task, jax.jit(lambda key: init_state(task, tx, key))(jax.random.key(0)))
    step, state, values = jax.jit(make_train_step(task, tx)), first, []
    for _ in range(30):
        state, metrics = step(state, batch, jax.random.key(2))
        values.append(float(metrics["loss"]))
    assert values[0] == pytest.approx(np.log(2), rel=1e-5)
    assert np.mean(values[-5:]) < 0.8 * values[0]
    assert "focal" in metrics  # what curves.png compares with the test split's loss
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), state.params, first.params)
    slowly, fast = moved["encoder"]["conv_stem"]["kernel"], moved["head"]["kernel"]
    assert 0 < slowly < 0.5 * fast


def test_weights_of_another_input_are_refused_by_name(encoder):
    settings = config(encoder[0])
    settings.model.stretch.name = "rgb"
    task = make_task(settings)
    with pytest.raises(UserError, match=r"config\.model\.stretch"):
        task.warm(*task.init(jax.random.key(0))[:2])


def test_a_run_that_goes_on_needs_no_folder_of_the_encoder(encoder, tmp_path):
    folder = shutil.copytree(encoder[0], tmp_path / "encoder")
    settings = config(folder)
    settings.train.update(dict(steps=2, batch_size=4, log_every=1, eval_every=2, checkpoint_every=1))
    settings.data.num_test = 8

    def run(name):
        train(settings, tmp_path / name, batches=make_batches(settings, simulate_blob), devices=jax.devices()[:1])
        return [row["step"] for row in read_rows(tmp_path / name / "metrics.jsonl") if row["split"] == "train"]

    assert run("one") == [1, 2]
    shutil.rmtree(folder)
    settings.train.steps = 3
    assert run("one") == [1, 2, 3]
    with pytest.raises(UserError, match="no weights"):
        run("other")


def test_likeness_is_added_with_its_weight(batch):
    values = []
    for weight in (0.0, 1.0, 2.0):
        settings = config()
        settings.loss.likeness_weight = weight
        task, tx = make_task(settings), make_optimizer(settings.optim, 10)
        state = jax.jit(lambda key, task=task, tx=tx: init_state(task, tx, key))(jax.random.key(0))
        values.append(float(jax.jit(task.loss)(state.params, state, batch, jax.random.key(1))[0]))
    assert batch["label"].sum() >= 2
    assert values[1] > values[0] + 0.1
    assert values[2] - values[0] == pytest.approx(2 * (values[1] - values[0]), rel=1e-4)


def test_a_run_that_stopped_at_a_wrong_encoder_gives_way(encoder, tmp_path):
    settings = config(tmp_path / "none")
    settings.train.update({"steps": 1, "eval_every": 1, "checkpoint_every": 1})
    with pytest.raises(UserError, match="no weights at"):
        train(settings, tmp_path / "run")
    settings.finetune.encoder = str(encoder[0])
    assert train(settings, tmp_path / "run")["step"] == 1
    settings.finetune.encoder = ""
    with pytest.raises(UserError, match=r"config\.finetune\.encoder = "):
        train(settings, tmp_path / "run")
