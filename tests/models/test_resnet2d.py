"""The image networks: torchvision's sizes, shapes of every stage, forms that agree, statistics that can be grouped."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from lensjax.core.errors import UserError
from lensjax.models import init_variables, make_model, make_projector, resnet2d

KEY = jax.random.key(0)
# Weights of torchvision's networks without their last layer (512 or 2048 x 1000, and 1000 biases), as published.
PUBLISHED = {
    "resnet18": 11_689_512 - 513_000,
    "resnet34": 21_797_672 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
}


def config(**changes):
    return config_dict.ConfigDict({"name": "resnet18", "width": 4, "stem": "7x7", "dtype": "float32", **changes})


def shapes(module, size=96):
    return jax.eval_shape(lambda key: init_variables(module, key, jnp.zeros((1, size, size, 3))), KEY)


def block():
    """(module, variables, x) of one bottleneck that halves the image."""
    module = resnet2d.Block(4, 2, True, jnp.float32, 1)
    x = jax.random.normal(KEY, (4, 10, 10, 6))
    return module, jax.jit(lambda key: init_variables(module, key, x, False))(KEY), x


@pytest.mark.parametrize(("name", "weights"), PUBLISHED.items())
def test_size_and_features_are_the_papers(name, weights):
    module = make_model(config(name=name, width=64))
    variables = shapes(module)
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == weights
    features = jax.eval_shape(module.apply, variables, jnp.zeros((5, 96, 96, 3)))
    assert features.shape == (5, 2048 if name == "resnet50" else 512)


@pytest.mark.parametrize("stem", resnet2d.STEMS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_small_ones_have_eight_times_their_width(stem, dtype):
    module = make_model(config(width=24, stem=stem, dtype=dtype))
    features = jax.eval_shape(module.apply, shapes(module), jnp.zeros((2, 96, 96, 5))[..., :3])
    assert features.shape == (2, 192) and features.dtype == jnp.float32


def test_the_stems_differ_in_resolution_alone():
    for stem, pixels in (("7x7", 24), ("3x3", 48)):
        module = resnet2d.ResNet2D("resnet18", 4, stem)
        _, state = jax.eval_shape(
            lambda v, module=module: module.apply(v, jnp.zeros((1, 96, 96, 3)), capture_intermediates=True),
            shapes(module),
        )
        first = state["intermediates"]["stage1_block0"]["__call__"][0]
        assert first.shape == (1, pixels, pixels, 4)
        last = state["intermediates"]["stage4_block1"]["__call__"][0]
        assert last.shape == (1, pixels // 8, pixels // 8, 32)


def test_a_bottleneck_halves_the_image_and_widens_four_times():
    module, variables, x = block()
    assert jax.jit(module.apply, static_argnums=2)(variables, x, False).shape == (4, 5, 5, 16)


def test_statistics_move_in_training_and_only_there():
    module, variables, x = block()
    for train in (True, False):
        apply = jax.jit(lambda v, x, train=train: module.apply(v, x, train, mutable=["batch_stats"])[1])
        after = apply(variables, x + 1)["batch_stats"]
        changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), variables["batch_stats"], after)
        assert set(jax.tree.leaves(changed)) == {train}


def test_he_values_keep_the_size_of_a_signal():
    module = resnet2d.Conv(64)
    x = jax.random.normal(KEY, (2, 20, 20, 32))
    y = module.apply(init_variables(module, KEY, x), x)[:, 1:-1, 1:-1]
    assert float(jnp.mean(jax.nn.relu(y) ** 2)) == pytest.approx(float(jnp.mean(x**2)), rel=0.1)


def test_projector():
    head = make_projector(config_dict.ConfigDict({"hidden": 2048, "size": 128}))
    variables = jax.eval_shape(lambda key: init_variables(head, key, jnp.zeros((1, 2048))), KEY)
    assert sum(x.size for x in jax.tree.leaves(variables)) == 2049 * 2048 + 2049 * 128
    assert jax.eval_shape(head.apply, variables, jnp.zeros((3, 2048))).shape == (3, 128)


def test_batch_normalisation_is_flax_own_with_its_gradient():
    theirs = nn.BatchNorm(momentum=0.9, epsilon=1e-5)
    x = 3 * jax.random.normal(KEY, (8, 5, 5, 6)) + 1
    variables = {
        "params": {"scale": jnp.linspace(0.5, 2, 6), "bias": jnp.linspace(-1, 1, 6)},
        "batch_stats": {"mean": jnp.linspace(0, 2, 6), "var": jnp.linspace(1, 5, 6)},
    }
    weights = jax.random.normal(jax.random.key(1), x.shape)

    def run(apply, variables, x, **kind):
        y, moved = apply(variables, x, mutable=["batch_stats"], **kind)
        return (y * weights).sum(), (y, moved)

    for train in (False, True):
        mine = jax.grad(functools.partial(run, resnet2d.BatchNorm().apply), (0, 1), has_aux=True)
        flax = jax.grad(functools.partial(run, theirs.apply), (0, 1), has_aux=True)
        jax.tree.map(
            functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4),
            mine(variables, x, train=train),
            flax(variables, x, use_running_average=not train),
        )


def test_statistics_are_of_the_group_alone_and_running_ones_their_mean():
    module = resnet2d.ResNet2D("resnet10", 4)
    images = jax.random.normal(KEY, (8, 32, 32, 3))
    variables = jax.jit(lambda key: init_variables(module, key, images))(KEY)
    run = jax.jit(
        lambda x, groups: module.apply(variables, x, train=True, groups=groups, mutable=["batch_stats"]),
        static_argnums=1,
    )
    features, moved = run(images, 2)
    halves = [run(half, 1) for half in (images[:4], images[4:])]
    np.testing.assert_allclose(features, np.concatenate([f for f, _ in halves]), rtol=1e-3, atol=1e-4)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, halves[0][1], halves[1][1])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), moved, mean)
    other = run(images.at[4:].add(1.0), 2)[0]
    np.testing.assert_allclose(other[:4], features[:4], rtol=1e-3, atol=1e-4)


def test_a_projector_with_norm_does_not_care_for_the_features_scale_and_place():
    head = make_projector(config_dict.ConfigDict({"hidden": 32, "size": 8, "norm": True}))
    features = jax.random.normal(KEY, (16, 12))
    variables = init_variables(head, KEY, features)
    out = head.apply(variables, features)
    np.testing.assert_allclose(head.apply(variables, 100 * features + 7), out, atol=1e-4)
    plain = make_projector(config_dict.ConfigDict({"hidden": 32, "size": 8}))
    assert np.abs(plain.apply(variables, 100 * features + 7) - plain.apply(variables, features)).max() > 1


@pytest.mark.parametrize(("key", "value"), [("name", "resnet19"), ("stem", "5x5")])
def test_unknown_values_are_refused(key, value):
    with pytest.raises(UserError, match=rf"model.{key} is '{value}'"):
        make_model(config(**{key: value}))
