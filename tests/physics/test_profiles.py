"""Profiles against scipy's skew normal and closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from scipy.integrate import quad

from lensjax.physics import profiles


@pytest.mark.parametrize(("omega", "alpha"), [(1.0, 0.0), (2.5, 3.2), (4.0, -8.0), (5.7, 0.5)])
def test_pixel_profile_is_the_integral_of_scipys_skew_normal(omega, alpha):
    got = np.asarray(profiles.pixel_profile(200, jnp.float32(90.3), jnp.float32(omega), jnp.float32(alpha)))
    delta = alpha / np.sqrt(1 + alpha**2)
    law = scipy.stats.skewnorm(alpha, loc=90.3 - omega * delta * np.sqrt(2 / np.pi), scale=omega)
    expected = np.array([quad(law.pdf, i - 0.5, i + 0.5)[0] for i in range(75, 106)])
    np.testing.assert_allclose(got[75:106], expected, atol=3e-4 * expected.max() + 2e-4)


def test_profile_has_unit_flux_and_the_centre_as_its_mean():
    got = np.asarray(profiles.pixel_profile(300, jnp.float32(150.4), jnp.float32(3.0), jnp.float32(5.0)), np.float64)
    assert got.sum() == pytest.approx(1, abs=1e-4)
    assert (got * np.arange(300)).sum() == pytest.approx(150.4, abs=2e-3)


@pytest.mark.parametrize("centre", [-500.0, -30.0, 0.0, 199.0, 230.0, 5000.0])
def test_profile_near_or_beyond_an_edge_keeps_only_what_falls_inside(centre):
    wide = np.asarray(profiles.pixel_profile(800, jnp.float32(np.clip(centre, -200, 400) + 300), 4.0, 2.0))
    got = np.asarray(profiles.pixel_profile(200, jnp.float32(centre), 4.0, 2.0))
    np.testing.assert_allclose(got, wide[300:500], atol=2e-5)


def test_blur_adds_variances_and_keeps_the_third_moment():
    omega, alpha = profiles.blur(jnp.float32(2.0), jnp.float32(4.0), jnp.float32(1.5))
    before, after = scipy.stats.skewnorm(4.0, scale=2.0), scipy.stats.skewnorm(float(alpha), scale=float(omega))
    assert after.var() == pytest.approx(before.var() + 1.5**2, rel=1e-5)

    def third(law):
        return float(law.stats("s")) * law.var() ** 1.5

    assert third(after) == pytest.approx(third(before), rel=1e-4)
