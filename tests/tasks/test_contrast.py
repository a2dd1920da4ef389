"""MoCo v2: what the loss starts at, what the queue holds, whom the key encoder follows, and that nothing leaks."""

import functools

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import ssl
from lensjax.core import sharding
from lensjax.core.checkpoint import Checkpoints
from lensjax.core.errors import UserError
from lensjax.core.optim import make_optimizer
from lensjax.core.task import begin, init_state, make_train_step
from lensjax.models import resnet2d
from lensjax.tasks import contrast
from tests.tiny import simulate_blob

KEY = jax.random.key(1)


class Small(nn.Module):
    """An encoder that compiles in no time: one convolution, BatchNorm, mean."""

    @nn.compact
    def __call__(self, image, train=False, groups=1):
        x = nn.Conv(16, (5, 5), (4, 4))(image)
        return nn.relu(resnet2d.BatchNorm(groups)(x, train)).mean((1, 2))


@functools.cache
def case():
    """(config, task, tx, state, jitted step) of the small encoder."""
    config = ssl.get_config("smoke")
    task, tx = contrast.make_task(config, Small()), make_optimizer(config.optim, 10)
    state = jax.jit(lambda key: init_state(task, tx, key))(KEY)
    return config, task, tx, state, jax.jit(make_train_step(task, tx))


def batch(seed=0, count=8):
    return jax.device_get(jax.jit(jax.vmap(simulate_blob))(jax.random.split(jax.random.key(seed), count)))


def test_keys_are_those_of_the_weights_that_a_run_begins_with():
    _, task, _, state, step = case()
    given = jax.tree.map(lambda x: np.asarray(x + 0.1, np.float16), state.params)  # as some weights are kept
    begun = begin(task._replace(warm=lambda params, model_state: (given, model_state)), state)
    assert {leaf.dtype for leaf in jax.tree.leaves(begun.params)} == {np.dtype("float32")}
    after, _ = step(begun, batch(), KEY)
    jax.tree.map(np.testing.assert_array_equal, after.extra["key_params"], given)


def test_the_loss_starts_near_log_of_the_queue():
    """Random directions in many dimensions: nothing tells the positive apart."""
    query, positive = (contrast.unit(jax.random.normal(jax.random.key(i), (64, 512))) for i in (1, 2))
    queue = contrast.unit(jax.random.normal(jax.random.key(3), (4096, 512)))
    loss, accuracy = contrast.info_nce(query, positive, queue.reshape(64, 64, 512), 0.2, 64)
    assert loss == pytest.approx(np.log(4097), abs=0.1)
    assert accuracy < 0.1


def test_info_nce_is_the_plain_formula():
    rng = np.random.default_rng(0)
    q, k, queue = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(n, 5)) for n in (4, 4, 9)))
    same, others = np.exp((q * k).sum(1) / 0.2), np.exp(q @ queue.T / 0.2).sum(1)
    q, k, queue = (jnp.asarray(x, jnp.float32) for x in (q, k, queue))
    loss, accuracy = contrast.info_nce(q, k, queue.reshape(3, 3, 5), 0.2, 3)
    assert loss == pytest.approx(-np.log(same / (same + others)).mean(), rel=1e-5)
    assert accuracy == np.mean((q * k).sum(1) > (q @ queue.T).max(1))
    assert contrast.info_nce(q, q, queue.reshape(3, 3, 5), 0.2, 3)[1] == 1


@pytest.mark.parametrize("filled", [0, 1, 3, 4, 9])
def test_the_loss_is_the_cross_entropy_of_all_logits_in_a_row(filled):
    """A part of the queue, the whole, and after many steps; with the gradient."""
    q, k, queue = (contrast.unit(jax.random.normal(jax.random.key(i), (n, 5))) for i, n in ((1, 8), (2, 8), (3, 32)))

    def plain(q):
        same = jnp.sum(q * k, axis=1, keepdims=True)
        logits = jnp.concatenate([same, q @ queue[: 8 * filled].T], axis=1) / 0.2
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, jnp.zeros(8, jnp.int32)).mean()

    steps = queue.reshape(4, 8, 5).swapaxes(0, 1)  # as `enqueue` leaves four batches of keys
    found = jax.value_and_grad(lambda q: contrast.info_nce(q, k, steps, 0.2, filled)[0])(q)
    for x, y in zip(found, jax.value_and_grad(plain)(q), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_steps_that_no_key_has_filled_do_not_count():
    q, queue = (
        contrast.unit(jax.random.normal(jax.random.key(i), shape)) for i, shape in ((1, (4, 5)), (2, (3, 3, 5)))
    )
    few = contrast.info_nce(q, q, queue[:, :1], 0.2, 1)
    np.testing.assert_allclose(contrast.info_nce(q, q, queue, 0.2, 1), few, rtol=1e-6)
    loss, gradient = jax.value_and_grad(lambda x: contrast.info_nce(x, q, queue, 0.2, 0)[0])(q)
    assert loss == pytest.approx(0, abs=1e-6) and np.isfinite(gradient).all()


def test_the_queue_is_first_in_first_out_and_holds_unit_keys():
    config, _, _, state, step = case()
    size, kept = config.train.batch_size, [np.asarray(state.extra["queue"])]
    for i in range(5):
        state, _ = step(state, batch(i), KEY)
        kept.append(np.asarray(state.extra["queue"]))
    np.testing.assert_allclose(np.linalg.norm(kept[-1], axis=2), 1, rtol=1e-5)
    slots = config.moco.queue // size
    assert kept[0].shape[:2] == (size, slots)
    for i in range(5):
        changed = np.any(kept[i] != kept[i + 1], axis=2)
        np.testing.assert_array_equal(changed, np.tile(np.arange(slots) == i % slots, (size, 1)))


def test_the_key_encoder_is_the_moving_average_of_the_query_encoders():
    config, _, _, state, step = case()
    m, expected = config.moco.momentum, state.extra["key_params"]
    for i in range(3):
        expected = jax.tree.map(lambda old, new: m * old + (1 - m) * new, expected, state.params)
        state, _ = step(state, batch(i), KEY)
    for x, y in zip(jax.tree.leaves(expected), jax.tree.leaves(state.extra["key_params"]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-7)


def test_no_gradient_reaches_the_keys():
    config, _, _, state, _ = case()
    state = state.replace(step=jnp.int32(4))  # the queue is full

    def with_momentum(momentum):
        changed = config.copy_and_resolve_references()
        changed.moco.momentum = momentum
        loss = contrast.make_task(changed, Small()).loss
        return jax.jit(jax.grad(lambda p: loss(p, state, batch(), KEY)[0]))(state.params)

    for x, y in zip(*(jax.tree.leaves(with_momentum(m)) for m in (0.0, 1.0)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-6)  # both copies start equal


def test_the_shuffle_moves_rows_between_groups_and_is_undone():
    rows = jnp.arange(64)
    shuffled = contrast.shuffle(KEY, rows)
    np.testing.assert_array_equal(contrast.unshuffle(KEY, shuffled), rows)
    stayed = np.mean(np.asarray(shuffled).reshape(8, 8) // 8 == np.arange(8)[:, None])
    assert stayed < 0.4


def test_collapse_is_seen():
    wide = jax.random.normal(KEY, (256, 32))
    good = contrast.spread(wide, contrast.unit(wide), contrast.unit(wide))
    assert good["rank"] > 25 and good["std"] == pytest.approx(1, abs=0.1)
    assert good["alignment"] == pytest.approx(0, abs=1e-6) and good["uniformity"] < -3
    point = jnp.ones((256, 32)) + 1e-4 * wide[:, :1]
    bad = contrast.spread(point, contrast.unit(point), contrast.unit(point))
    assert bad["rank"] < 1.1 and bad["std"] < 0.01
    assert bad["uniformity"] == pytest.approx(0, abs=1e-3)


def _losses(devices, steps=3):
    mesh = sharding.make_mesh(jax.devices()[:devices])
    _, task, tx, _, _ = case()
    state = sharding.compile_init(lambda key: init_state(task, tx, key), mesh)(KEY)
    step = sharding.compile_train_step(make_train_step(task, tx), mesh)
    losses = []
    for i in range(steps):
        state, metrics = step(state, sharding.shard_batch(mesh, batch(i)), KEY)
        losses.append(float(metrics["loss"]))
    return losses


def test_devices_do_not_change_the_losses():
    one = _losses(1)
    for devices in (2, jax.device_count()):
        np.testing.assert_allclose(_losses(devices), one, rtol=2e-5, atol=1e-6)


def test_predict_gives_the_query_encoders_features_of_the_centre():
    _, task, _, state, _ = case()
    out = jax.jit(task.predict)(state.params, state.model_state, batch(count=5))
    assert out["embedding"].shape == (5, 16) and out["embedding"].dtype == jnp.float32
    edge = batch(count=5)
    edge["image"] = edge["image"].copy()
    edge["image"][:, :4] = 1e3
    np.testing.assert_allclose(
        jax.jit(task.predict)(state.params, state.model_state, edge)["embedding"], out["embedding"]
    )


def test_a_resumed_run_equals_an_undisturbed_one(tmp_path):
    """Queue and key encoder come back from the checkpoint."""
    config, task, tx, state, step = case()
    for i in range(2):
        state, _ = step(state, batch(i), KEY)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, config)
    mesh = sharding.make_mesh(jax.devices()[:1])
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest(sharding.abstract_like(mesh, lambda key: init_state(task, tx, key), KEY))
    for i in range(2, 4):
        (state, one), (resumed, two) = step(state, batch(i), KEY), step(restored[0], batch(i), KEY)
        restored = resumed, None
        assert one["loss"] == two["loss"]
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(resumed), strict=True):
        np.testing.assert_array_equal(x, y)


def test_the_papers_step_lowers_for_cuda():
    """ResNet50 and the long queue: shapes alone, nothing is computed."""
    config = ssl.get_config()
    config.train.batch_size = 32
    config.moco.bn_groups = 4
    task, tx = contrast.make_task(config), make_optimizer(config.optim, 100)
    state = jax.eval_shape(lambda key: init_state(task, tx, key), KEY)
    assert state.extra["queue"].shape == (32, 262_144 // 32, 128)
    assert state.params["projector"]["hidden"]["kernel"].shape == (2048, 2048)
    shapes = {"image": (32, 152, 152, 3), "psfsize": (32, 3), "noise": (32, 3), "ebv": (32,)}
    given = {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}
    leaves, tree = jax.tree.flatten(state)
    step = make_train_step(task, tx)
    flat = jax.jit(lambda leaves, given, seed: step(tree.unflatten(leaves), given, jax.random.key(seed))[1])
    exported = jax.export.export(flat, platforms=["cuda"])(leaves, given, jax.ShapeDtypeStruct((), jnp.int32))
    assert exported.platforms == ("cuda",)


def test_the_projector_sees_the_statistics_of_its_group_alone():
    """Rows of another group change nothing, as on another device; rows of the same group do."""
    config = ssl.get_config("smoke")
    config.moco.projector.norm = True
    task = contrast.make_task(config, Small())
    state = jax.jit(lambda key: init_state(task, make_optimizer(config.optim, 10), key))(KEY)

    def loss_of(data):
        return task.loss(state.params, state, data, KEY)[1][1]["queue"]

    keys = jax.jit(loss_of)(batch())
    assert np.isfinite(keys).all()
    head, features = contrast.make_projector(config.moco.projector), jax.random.normal(KEY, (8, 16))
    apply = jax.vmap(lambda x: head.apply({"params": state.params["projector"]}, x))
    other = features.at[6].add(3.0)
    out, changed = (np.asarray(apply(x.reshape(2, 4, 16))).reshape(8, -1) for x in (features, other))
    np.testing.assert_array_equal(out[:4], changed[:4])
    assert np.abs(out[4] - changed[4]).max() > 1e-3


def test_the_encoder_of_a_stretch_with_differences_has_five_planes():
    config = ssl.get_config("smoke")
    config.model.stretch.name = "difference"
    params, _, extra = jax.eval_shape(contrast.make_task(config).init, KEY)
    assert params["encoder"]["conv_stem"]["kernel"].shape[2] == 5
    assert extra["key_params"]["encoder"]["conv_stem"]["kernel"].shape[2] == 5


@pytest.mark.parametrize(("queue", "groups", "said"), [(12, 2, "no multiple"), (32, 3, "groups"), (32, 8, "groups")])
def test_sizes_that_do_not_fit_are_refused(queue, groups, said):
    config = ssl.get_config("smoke")
    config.moco.update(dict(queue=queue, bn_groups=groups))
    with pytest.raises(UserError, match=said):
        contrast.make_task(config)


def test_the_schedule_is_a_cosine_from_the_first_step():
    optim = ssl.get_config().optim
    tx = make_optimizer(optim, 100)
    params = jnp.zeros(3)
    updates, _ = tx.update(jnp.ones(3), tx.init(params), params)
    np.testing.assert_allclose(updates, -optim.learning_rate, rtol=1e-5)
    assert optax.cosine_decay_schedule(1.0, 100)(50) == pytest.approx(0.5)


def test_likeness_equals_a_plain_loop_over_lenses_and_their_mates():
    features, label = np.random.default_rng(0).normal(size=(7, 5)), np.array([1, 0, 1, 0, 0, 1, 0], np.float32)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    parts = []
    for i in np.flatnonzero(label):
        weights = {j: np.exp(unit[i] @ unit[j] / 0.3) for j in range(7) if j != i}
        mates = [j for j in weights if label[j]]
        parts.append(-np.mean([np.log(weights[j] / sum(weights.values())) for j in mates]))
    found = contrast.likeness(jnp.asarray(features), jnp.asarray(label), 0.3)
    np.testing.assert_allclose(found, np.mean(parts), rtol=1e-5)
    np.testing.assert_allclose(contrast.likeness(jnp.asarray(9 * features), jnp.asarray(label), 0.3), found, rtol=1e-5)
    np.testing.assert_allclose(contrast.likeness(jnp.ones((7, 5)), jnp.asarray(label), 0.3), np.log(6), rtol=1e-5)


@pytest.mark.parametrize("lenses", [0, 1])
def test_likeness_without_two_lenses_is_zero_with_its_gradient(lenses):
    label = jnp.zeros(4).at[:lenses].set(1.0)
    value, slope = jax.value_and_grad(contrast.likeness)(jnp.zeros((4, 3)), label, 0.1)
    assert value == 0
    np.testing.assert_array_equal(slope, np.zeros((4, 3)))
