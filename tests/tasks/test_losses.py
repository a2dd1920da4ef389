"""Losses against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.tasks import losses


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0])
def test_focal_loss_is_that_of_lin_et_al(gamma):
    p = np.array([0.9, 0.2, 0.6, 0.01])
    label = np.array([1.0, 0.0, 0.0, 1.0])
    right = np.where(label == 1, p, 1 - p)
    expected = np.mean(-((1 - right) ** gamma) * np.log(right))
    np.testing.assert_allclose(losses.focal(jnp.log(p / (1 - p)), jnp.asarray(label), gamma), expected, rtol=1e-5)


def test_focal_loss_of_certain_logits_is_finite_with_its_gradient():
    logit, label = jnp.array([-1e4, 1e4, -1e4, 1e4]), jnp.array([0.0, 1.0, 1.0, 0.0])
    value, slope = jax.value_and_grad(losses.focal)(logit, label)
    np.testing.assert_allclose(value, 5e3, rtol=1e-6)
    np.testing.assert_allclose(slope, [0, 0, -0.25, 0.25], atol=1e-6)


def test_target_is_centred_on_the_line_and_sums_to_one():
    target = losses.pixel_target(jnp.array([10.3, 20.0]), jnp.ones((2, 40), bool))
    np.testing.assert_allclose(target.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose((target * jnp.arange(40.0)[None]).sum(1), [10.3, 20.0], atol=1e-2)


def test_a_line_off_the_window_or_on_bad_pixels_has_no_target():
    mask = jnp.ones((2, 40), bool).at[1, 8:13].set(False)
    target = losses.pixel_target(jnp.array([-30.0, 10.0]), mask)
    np.testing.assert_array_equal(target, np.zeros((2, 40)))


def test_localisation_counts_the_positives_alone():
    target = losses.pixel_target(jnp.array([10.0, 20.0]), jnp.ones((2, 40), bool), sigma=0.3)
    flat, label = jnp.zeros((2, 40)), jnp.array([1.0, 0.0])
    np.testing.assert_allclose(losses.localisation(flat, target, label), np.log(40), rtol=1e-5)
    np.testing.assert_allclose(losses.localisation(flat.at[1].set(7.0), target, label), np.log(40), rtol=1e-5)
    right, beside = (losses.localisation(flat.at[0, p].set(20.0), target, label) for p in (10, 12))
    assert right < 0.2 < 10 < beside
    assert losses.localisation(flat, target, jnp.zeros(2)) == 0


def test_localisation_gradient_survives_excluded_pixels():
    logit = jnp.zeros((1, 40)).at[0, 5:].set(-1e9)
    target = losses.pixel_target(jnp.array([2.0]), logit > -1)
    slope = jax.grad(losses.localisation)(logit, target, jnp.ones(1))
    assert jnp.isfinite(slope).all()


def test_kind_counts_lines_only_and_equals_the_cross_entropy():
    logit, label = np.array([[2.0, -1.0, 5.0], [1.0, 1.0, 0.0]], np.float32)
    first = np.array([True, True, False])
    expected = np.mean([np.log1p(np.exp(-2.0)), np.log1p(np.exp(1.0))])
    assert float(losses.kind(logit, first, label)) == pytest.approx(expected, rel=1e-5)
    assert float(losses.kind(logit, first, 0 * label)) == 0
