"""The matched filter against scipy, its own algebra, and the noise law it promises."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy import ndimage

from lensjax.physics import filters


def test_gaussian_kernel_is_a_unit_gaussian():
    kernel = filters.gaussian_kernel(2.2, 15)
    assert kernel.sum() == pytest.approx(1.0, abs=1e-6)
    assert kernel[7] / kernel[9] == pytest.approx(np.exp(0.5 * (2 / 2.2) ** 2), rel=1e-6)
    with pytest.raises(ValueError, match="odd"):
        filters.gaussian_kernel(2.2, 14)


@pytest.mark.parametrize("pixels", [64, 67, 5])
def test_rebin_sums_bins_and_takes_the_last_one_short(pixels):
    values = np.random.default_rng(0).normal(size=(2, pixels)).astype(np.float32)
    padded = np.pad(values, ((0, 0), (0, -pixels % 8)))
    np.testing.assert_allclose(filters.rebin(values, 8), padded.reshape(2, -1, 8).sum(2), atol=1e-5)


def test_highest_is_numpys_argmax_also_among_equals():
    values = np.random.default_rng(0).integers(0, 5, (50, 20)).astype(np.float32)
    values[0] = -np.inf
    np.testing.assert_array_equal(jax.vmap(filters.highest)(values), values.argmax(1))


def test_correlate_equals_scipy_for_an_asymmetric_kernel():
    rng = np.random.default_rng(0)
    values, kernel = rng.normal(size=50).astype(np.float32), rng.normal(size=7).astype(np.float32)
    expected = ndimage.correlate1d(values.astype(float), kernel.astype(float), mode="constant")
    np.testing.assert_allclose(filters.correlate(jnp.asarray(values), kernel), expected, atol=1e-5)


def test_amplitude_and_snr_of_a_noiseless_line():
    kernel = filters.gaussian_kernel(2.2, 15)
    flux = np.zeros(100, np.float32)
    flux[43:58] = 30.0 * kernel
    ivar = np.full(100, 4.0, np.float32)
    amplitude, snr = filters.matched_filter(jnp.asarray(flux), jnp.asarray(ivar), kernel)
    assert int(jnp.argmax(snr)) == 50
    assert float(amplitude[50]) == pytest.approx(30.0, rel=1e-5)
    assert float(snr[50]) == pytest.approx(30.0 * np.sqrt(4.0 * np.sum(kernel.astype(float) ** 2)), rel=1e-5)


def test_snr_of_pure_noise_has_unit_variance_and_masked_pixels_do_not_count():
    rng = np.random.default_rng(1)
    ivar = rng.uniform(0.1, 10, (200, 300)).astype(np.float32)
    flux = rng.normal(size=ivar.shape) / np.sqrt(ivar)
    bad = rng.uniform(size=ivar.shape) < 0.2
    flux, ivar = np.where(bad, 1e6, flux), np.where(bad, 0, ivar)
    flux[:, 100:130], ivar[:, 100:130] = 7.0, 0.0
    kernel = filters.gaussian_kernel(2.2, 15)
    amplitude, snr = jax.jit(jax.vmap(lambda f, i: filters.matched_filter(f, i, kernel)))(
        jnp.float32(flux), jnp.float32(ivar)
    )
    assert float(jnp.std(snr[:, :90])) == pytest.approx(1.0, abs=0.02)
    assert np.all(np.asarray(snr[:, 107:123]) == 0) and np.all(np.asarray(amplitude[:, 107:123]) == 0)
    assert np.all(np.isfinite(snr))


def test_line_kernel_is_a_skew_normal_about_its_mean():
    for omega, alpha in ((1.9, 0.0), (4.0, 2.5)):
        kernel = filters.line_kernel(omega, alpha).astype(float)
        x = np.arange(len(kernel)) - len(kernel) // 2
        law = scipy.stats.skewnorm(alpha, scale=omega)
        assert x[-1] <= 2.6 * law.std() < x[-1] + 1
        expected = law.pdf(x + law.mean())
        np.testing.assert_allclose(kernel, expected / expected.sum(), atol=1e-6)
        assert (kernel * x).sum() == pytest.approx(0, abs=0.08 * omega)
