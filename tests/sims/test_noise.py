"""Noise: the statistics measured on real spectra come back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.physics import grid, lines
from lensjax.sims import noise

LOGLAM = grid.window(3800.0, 5000.0)
KEYS = jax.random.split(jax.random.key(0), 512)


@pytest.fixture(scope="module")
def instrument():
    return noise.make_instrument(LOGLAM)


def test_noise_is_white_or_correlated_as_measured():
    error = jnp.full(1192, 0.5)
    for correlation, expected in ((0.0, (0.0, 0.0, 0.0)), (1.0, (0.157, -0.132, 0.052))):
        draw = np.asarray(jax.jit(jax.vmap(lambda k, c=correlation: noise.draw_noise(k, error, c)))(KEYS))
        assert draw.std() == pytest.approx(0.5, rel=0.01)
        lags = [(draw[:, lag:] * draw[:, :-lag]).mean() / draw.var() for lag in (1, 2, 3)]
        np.testing.assert_allclose(lags, expected, atol=0.005)


def test_median_error_follows_the_measured_curve(instrument):
    faint = jnp.full(1192, 0.1)
    error = np.asarray(jax.jit(jax.vmap(lambda k: noise.draw_error(k, instrument, faint)))(KEYS))
    wave = grid.wave(LOGLAM)
    for low, high, expected in ((3800, 4000, 0.67), (4400, 4600, 0.37), (4800, 5000, 0.32)):
        assert np.median(error[:, (wave > low) & (wave < high)]) == pytest.approx(expected, rel=0.1)
    assert np.median(error[:, np.abs(wave - 4359.6) < 1] / error[:, np.abs(wave - 4380) < 1].mean()) > 1.5  # Hg I


def test_spikes_come_at_their_rate_and_height():
    error, setting = jnp.full(1192, 0.5), noise.Dirt(spike_rate=0.5)
    draw = np.asarray(jax.jit(jax.vmap(lambda k: noise.draw_spikes(k, error, setting, 1.0)))(KEYS)) / 0.5
    total = draw.sum(1)
    assert (total > 0).mean() == pytest.approx(1 - 0.5**3, abs=0.05)
    assert draw.max() <= 2 * 40.0 and (draw[draw > 0].max() > 20)
    assert ((draw > 0).sum(1) <= 6).all()
    assert not np.asarray(jax.jit(jax.vmap(lambda k: noise.draw_spikes(k, error, setting, 0.0)))(KEYS)).any()


def test_reported_errors_are_right_when_clean_and_wrong_by_at_most_the_factor():
    error = jnp.full(1192, 0.5)
    clean = np.asarray(jax.jit(jax.vmap(lambda k: noise.draw_reported_error(k, error, noise.Dirt(), 0.0)))(KEYS))
    dirty = np.asarray(jax.jit(jax.vmap(lambda k: noise.draw_reported_error(k, error, noise.Dirt(), 1.0)))(KEYS))
    np.testing.assert_allclose(clean, 0.5, rtol=1e-6)
    factor = np.median(dirty, axis=1) / 0.5
    assert 1 / 1.55 < factor.min() < 0.75 and 1.33 < factor.max() < 1.55


def test_airglow_residuals_sit_on_airglow_lines(instrument):
    error = jnp.ones(1192)
    draw = np.asarray(jax.jit(jax.vmap(lambda k: noise.draw_airglow(k, instrument, error, noise.Dirt(), 1.0)))(KEYS))
    rms = draw.std(0)
    assert abs(grid.wave(LOGLAM)[rms.argmax()] - 4359.6) < 2
    assert rms[np.abs(grid.wave(LOGLAM) - 4600) < 20].max() < 1e-3
    weak, strong = (rms[np.abs(grid.wave(LOGLAM) - line).argmin()] for line in (4047.6, 4359.6))
    assert weak / strong == pytest.approx(np.sqrt(lines.AIRGLOW[4047.6]), rel=0.1)


def test_variance_grows_with_the_light_and_the_errors_that_are_told_with_the_counts(instrument):
    variance = [
        np.asarray(noise.draw_error(KEYS[0], instrument, jnp.full(1192, level))) ** 2 for level in (0.0, 4.0, 8.0)
    ]
    np.testing.assert_allclose(variance[2] - variance[0], 2 * (variance[1] - variance[0]), rtol=1e-3)
    quiet = np.abs(grid.wave(LOGLAM) - 4600) < 20
    np.testing.assert_allclose(variance[1][quiet] / variance[0][quiet], 1.7, rtol=1e-3)  # as bright as the sky
    pulls = jnp.array([-1.0, 0.0, 1.0, 2.0])
    told = np.asarray(noise.follow_counts(jnp.full(4, 4.0), 3.0 * pulls, jnp.full(4, 3.0))) ** -0.5
    np.testing.assert_allclose(np.diff(np.log(told)), noise.COUNTS_SLOPE, rtol=1e-4)


def test_templates_fail_at_the_galaxys_own_wavelengths_and_nowhere_else(instrument):
    setting, z = noise.Dirt(wiggle=0.0, feature=0.1), 0.5
    draw = jax.jit(jax.vmap(lambda k: noise.draw_misfit(k, instrument, jnp.float32(z), setting, 1.0)))
    rms = np.asarray(draw(KEYS)).std(0)
    places = grid.pixel(np.array(lines.EMPIRICAL_REST) * (1 + z), LOGLAM)
    apart = np.abs(np.arange(1192)[:, None] - places).min(1)
    assert rms[apart > 15].max() == 0 and rms[apart < 0.5] == pytest.approx(0.1, rel=0.15)
    ripple = noise.Dirt(wiggle=0.1, feature=0.0)
    draw = jax.jit(jax.vmap(lambda k: noise.draw_misfit(k, instrument, jnp.float32(z), ripple, 0.5)))
    assert np.asarray(draw(KEYS)).std(0) == pytest.approx(0.05, rel=0.15)


def test_mask_flags_short_runs_now_and_then():
    good = np.asarray(jax.jit(jax.vmap(lambda k: noise.draw_mask(k, 1192)))(KEYS))
    bad = (~good).sum(1)
    assert 0.3 < (bad == 0).mean() < 0.6 and bad.max() <= 56


def test_stars_have_deep_lines_at_rest(instrument):
    transmission = np.asarray(jax.jit(jax.vmap(lambda k: noise.draw_stellar_lines(k, instrument)))(KEYS))
    wave = grid.wave(LOGLAM)
    assert 0.05 < transmission.min() < 0.25 and transmission.max() <= 1
    calcium, balmer = (transmission[:, np.abs(wave - line).argmin()] for line in (3934.8, 4862.7))
    assert calcium.mean() < 0.8 and balmer.mean() < 0.8
    assert ((calcium > 0.9) & (balmer < 0.6)).any() and ((calcium < 0.6) & (balmer > 0.9)).any()  # hot stars, cool ones
    assert transmission[:, np.abs(wave - 4600) < 20].min() > 0.99
