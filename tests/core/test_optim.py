"""The schedule, the clip and the decay do what their formulas say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from lensjax.core import optim
from lensjax.core.errors import UserError

PARAMS = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)}


def _settings(name, **values):
    settings = common.common().optim
    settings.update({"name": name, "learning_rate": 0.1, "warmup_steps": 0, **values})
    return settings


def _update(settings, grads, steps=10):
    tx = optim.make_optimizer(settings, steps)
    return tx.update(grads, tx.init(PARAMS), PARAMS)[0]


def test_one_cycle():
    rate = optim.one_cycle(2.0, 10, 110)
    assert rate(0) == pytest.approx(2.0 / 25)
    assert rate(10) == pytest.approx(2.0)
    assert rate(60) == pytest.approx(1.0)  # half of the cosine
    assert rate(110) == pytest.approx(0.0, abs=1e-6)
    assert rate(5) == pytest.approx((2.0 / 25 + 2.0) / 2)


@pytest.mark.parametrize("warmup, steps", [(500, 4), (1, 1), (0, 0)])
def test_a_run_shorter_than_its_warm_up(warmup, steps):
    rate = optim.one_cycle(1.0, warmup, steps)
    assert np.isfinite([rate(step) for step in range(steps + 1)]).all()


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_decay_spares_biases_and_scales(name):
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    update = _update(_settings(name, weight_decay=0.5), zero)
    np.testing.assert_allclose(update["kernel"], -0.1 * 0.5 * np.ones((2, 2)), rtol=1e-6)
    assert not update["bias"].any() and not update["scale"].any()


def test_the_clip_is_of_the_global_norm():
    grads = jax.tree.map(lambda p: 3.0 * jnp.ones_like(p), PARAMS)  # norm 3 sqrt(8)
    update = _update(_settings("sgd", weight_decay=0.0, clip_norm=1.0), grads)
    np.testing.assert_allclose(update["bias"], -0.1 / np.sqrt(8) * np.ones(2), rtol=1e-6)
    free = _update(_settings("sgd", weight_decay=0.0, clip_norm=0.0), grads)
    np.testing.assert_allclose(free["bias"], -0.3 * np.ones(2), rtol=1e-6)


def test_adam_has_no_decay():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    assert not _update(_settings("adam"), zero)["kernel"].any()


def test_an_unknown_name():
    with pytest.raises(UserError, match="'adamx'; expected one of adamw, adam, sgd"):
        optim.make_optimizer(_settings("adamx"), 10)


def test_the_encoder_learns_at_its_own_rate():
    params = {"encoder": {"kernel": jnp.ones((2, 2))}, "head": {"kernel": jnp.ones((2, 1))}}
    grads = jax.tree.map(lambda x: 0.3 * x, params)
    steps = []
    for factor in (1.0, 0.1):
        settings = _settings("sgd")
        with settings.unlocked():
            settings.encoder_factor = factor
        tx = optim.make_optimizer(settings, 10)
        steps.append(tx.update(grads, tx.init(params), params)[0])
    np.testing.assert_allclose(steps[1]["encoder"]["kernel"], 0.1 * steps[0]["encoder"]["kernel"], rtol=1e-6)
    np.testing.assert_array_equal(steps[1]["head"]["kernel"], steps[0]["head"]["kernel"])


def test_a_warm_up_longer_than_the_run_still_ends_at_zero():
    rate = optim.one_cycle(1.0, 100, 10)
    assert float(rate(9)) == pytest.approx(1.0) and float(rate(10)) == pytest.approx(0.0, abs=1e-6)
