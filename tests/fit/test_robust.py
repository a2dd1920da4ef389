"""Quantiles and the noise scale against numpy."""

import jax
import numpy as np
import pytest

from lensjax.fit import robust


@pytest.mark.parametrize("q", [0.0, 0.025, 0.5, 0.975, 1.0])
@pytest.mark.parametrize("num", [1, 7, 400, 1192])
def test_quantile_equals_numpy(q, num):
    rng = np.random.default_rng(num)
    x = rng.standard_t(2, num).astype(np.float32)
    mask = rng.uniform(size=num) < 0.8
    mask[0] = True
    expected = np.quantile(x[mask], q, method="inverted_cdf")
    tolerance = 1e-6 + 1e-6 * float(np.ptp(x[mask]))
    assert float(robust.quantile(x, mask, q)) == pytest.approx(float(expected), abs=tolerance)


@pytest.mark.parametrize("num", [1, 31, 32, 100])
def test_sums_and_counts_take_every_pixel(num):
    x = np.random.default_rng(num).normal(size=num).astype(np.float32)
    assert float(robust.total(x)) == pytest.approx(float(x.astype(float).sum()), abs=1e-5)
    assert int(robust.count(jax.numpy.asarray(x > 0))) == int((x > 0).sum())


def test_masked_values_never_count_even_when_not_finite():
    x = np.array([np.nan, 1.0, 2.0, 3.0, np.inf], np.float32)
    mask = np.array([False, True, True, True, False])
    assert float(robust.quantile(x, mask, 0.5)) == pytest.approx(2.0)
    assert float(robust.quantile(x, np.zeros(5, bool), 0.5)) == 0.0


def test_noise_scale_finds_underestimated_errors_and_ignores_spikes():
    rng = np.random.default_rng(0)
    ivar = rng.uniform(0.5, 2, (300, 1192)).astype(np.float32)
    residual = (rng.normal(size=ivar.shape) * 1.5 / np.sqrt(ivar)).astype(np.float32)
    residual[:, ::200] += 1e4
    scale = jax.jit(jax.vmap(robust.noise_scale))(residual, ivar)
    assert float(np.mean(scale)) == pytest.approx(1.5 * 2 * 1.96 / 4, rel=0.03)
    half = np.where(np.arange(1192) % 2, ivar, 0)  # bad pixels do not count
    assert float(np.mean(jax.vmap(robust.noise_scale)(residual, half))) == pytest.approx(1.5 * 2 * 1.96 / 4, rel=0.04)
    assert float(robust.noise_scale(residual[0] * 0.1 * (ivar[0] > 3), ivar[0])) == 1.0
    assert float(robust.noise_scale(residual[0], ivar[0] * 0)) == 1.0


def test_clipped_scatter_finds_the_gaussian_under_lines_and_spikes():
    rng = np.random.default_rng(1)
    x = 1.3 * rng.normal(size=(400, 1192)).astype(np.float32)
    mask = rng.uniform(size=x.shape) < 0.95
    clean = np.asarray(jax.jit(jax.vmap(robust.clipped_scatter))(x, mask))
    assert clean.mean() == pytest.approx(1.3, rel=0.005)
    assert clean.std() / 1.3 < 1.15 / np.sqrt(2 * 0.95 * 1192)  # nearly as good as the plain one, where that is right
    x[:, 500:506] += 1.3 * np.array([2.0, 5.0, 8.0, 7.0, 4.0, 2.0], np.float32)
    x[:, 40] = 200.0
    assert np.asarray(jax.jit(jax.vmap(robust.clipped_scatter))(x, mask)).mean() == pytest.approx(1.3, rel=0.015)
    assert float(robust.clipped_scatter(x[0], np.zeros(1192, bool))) == 0
