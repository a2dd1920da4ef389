"""Levenberg-Marquardt against scipy, on a model of a line and on one that knows nothing of lines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import curve_fit

from lensjax.fit import levenberg, skewnormal, staged

X = np.arange(30.0)


def decay(p, x):
    return p[0] * jnp.exp(-x / p[1]) + p[2]


def fit_decay(y, ivar, lower=(-9.0, 0.5, -9.0), upper=(9.0, 50.0, 9.0), iterations=40):
    with jax.enable_x64(True):
        data = levenberg.Data(jnp.asarray(X), jnp.asarray(y), jnp.asarray(ivar))
        bounds = [tuple(map(jnp.float64, b)) for b in (lower, upper)]
        start = tuple(map(jnp.float64, (1.0, 3.0, 0.0)))
        fit = levenberg.minimise(levenberg.forward(decay), start, *bounds, data, iterations)
        return jax.device_get((fit, levenberg.covariance(fit.normal)))


@pytest.fixture(scope="module")
def noisy():
    rng = np.random.default_rng(0)
    return 3 * np.exp(-X / 6) + 0.5 + 0.1 * rng.normal(size=30), np.full(30, 100.0)


def test_parameters_and_covariance_equal_scipy(noisy):
    y, ivar = noisy
    fit, spread = fit_decay(y, ivar)
    best, expected = curve_fit(lambda x, a, t, c: a * np.exp(-x / t) + c, X, y, (1, 3, 0), ivar**-0.5, True)
    assert fit.converged
    np.testing.assert_allclose(fit.params, best, rtol=1e-4)
    np.testing.assert_allclose(spread, expected, rtol=1e-3)


def test_bounds_hold_and_the_other_parameters_adapt(noisy):
    y, ivar = noisy
    fit, _ = fit_decay(y, ivar, upper=(9.0, 4.0, 9.0))
    best, _ = curve_fit(lambda x, a, c: a * np.exp(-x / 4) + c, X, y, (1, 0), ivar**-0.5, True)
    assert fit.converged and fit.params[1] == 4.0
    np.testing.assert_allclose((fit.params[0], fit.params[2]), best, rtol=1e-4)


def test_data_that_cannot_be_fitted_raise_nothing(noisy):
    fit, spread = fit_decay(noisy[0], np.zeros(30), iterations=3)
    assert np.isfinite(fit.params).all() and np.isinf(np.diagonal(spread)).all()


def test_analytic_derivatives_equal_forward_mode():
    params = tuple(map(jnp.float32, (5.0, 0.3, 0.4, 0.7, 0.6)))
    value, slopes = skewnormal.line(params)(jnp.float32(1.5))
    expected, forward = levenberg.forward(lambda p, x: skewnormal.line(p)(x)[0])(params)(jnp.float32(1.5))
    assert float(value) == pytest.approx(float(expected))
    np.testing.assert_allclose(slopes, forward, rtol=1e-4, atol=1e-5)


def test_float64_is_left_off_and_few_or_no_examples_are_fine():
    problem = staged.Problem(
        levenberg.forward(decay), lambda d: (d.y[0], d.y[0] * 0 + 3, d.y[-1]), (-9.0, 0.5, -9.0), (9.0, 50.0, 9.0),
        tuple(X),
    )  # fmt: skip
    y = np.stack([3 * np.exp(-X / t) for t in (2.0, 5.0, 8.0)], axis=1)
    for num in (0, 3):
        solution = staged.solve(problem, y[:, :num], np.full((30, num), 1e4))
        assert solution.params.shape == (3, num) and solution.params.dtype == np.float64
    np.testing.assert_allclose(solution.params[1], [2, 5, 8], rtol=1e-3)
    assert jnp.ones(1).dtype == jnp.float32


def test_the_bias_of_a_logarithm_is_minus_half_its_variance():
    """One pixel of exp(p): the fit is log y, whose mean is p - sigma^2 / (2 y^2) to second order."""
    model = levenberg.forward(lambda params, x: jnp.exp(params[0]) * x)
    params, sigma = (jnp.float32(0.7),), 0.1
    data = levenberg.Data(jnp.ones(1), jnp.exp(jnp.full(1, 0.7)), jnp.full(1, sigma**-2.0))
    spread = levenberg.covariance(levenberg.normal_equations(model, params, data))
    assert float(levenberg.bias(model, params, data, spread)[0]) == pytest.approx(-0.5 * (sigma / np.exp(0.7)) ** 2)
