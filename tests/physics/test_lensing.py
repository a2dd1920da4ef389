"""Deflections against lenstronomy, profiles against their integrals and astropy."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from lensjax.physics import lensing

Y, X = np.mgrid[-4:4:81j, -4:4:81j]
X, Y = X + 0.013, Y - 0.017  # off the axes, where lenstronomy's own softening shows


def lenstronomy_model(*names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lenstronomy.LensModel.lens_model import LensModel
    return LensModel(lens_model_list=list(names))


@pytest.mark.parametrize(("q", "phi"), [(0.5, 0.3), (0.7, -1.2), (0.95, 2.0), (1.0, 0.0)])
def test_deflection_is_lenstronomys(q, phi):
    e1, e2 = lensing.ellipticity(q, phi)
    sie = lensing.sie_deflection(X, Y, 1.6, e1, e2)
    shear = lensing.shear_deflection(X, Y, 0.05, -0.03)
    ours = np.array(sie) + np.array(shear)
    parameters = [
        {"theta_E": 1.6, "e1": float(e1), "e2": float(e2), "center_x": 0, "center_y": 0},
        {"gamma1": 0.05, "gamma2": -0.03},
    ]
    theirs = np.array(lenstronomy_model("SIE", "SHEAR").alpha(X, Y, parameters))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_deflection_is_finite_at_the_centre_and_differentiable_off_it():
    assert np.isfinite(np.array(lensing.sie_deflection(0.0, 0.0, 1.0, 0.1, 0.2))).all()
    jacobian = jax.jacfwd(lambda p: jnp.stack(lensing.sie_deflection(p[0], p[1], 1.6, 0.1, 0.2)))(jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(jacobian, jacobian.T, atol=1e-6)  # the deflection is a gradient
    kappa = 1.6 / (2 * lensing.elliptical_radius(1.0, 2.0, 0.1, 0.2))
    np.testing.assert_allclose(jnp.trace(jacobian) / 2, kappa, rtol=1e-5)  # of a potential with laplacian 2 kappa


@pytest.mark.parametrize("n", [0.5, 1.0, 2.5, 4.0])
def test_half_of_the_unit_flux_is_within_the_effective_radius(n):
    def ring(r):
        return 2 * np.pi * r * float(lensing.sersic(r, 0.8, n))

    inside = scipy.integrate.quad(ring, 0, 0.8, epsrel=1e-4)[0]
    outside = scipy.integrate.quad(ring, 0.8, 400, epsrel=1e-4, limit=200)[0]
    assert inside == pytest.approx(0.5, abs=1e-3)
    assert inside + outside == pytest.approx(1, abs=1e-3)


def test_enclosed_flux_is_the_incomplete_gammas():
    import scipy.special

    for n, ratio in ((0.5, 0.3), (1.0, 0.1), (2.5, 0.05), (4.0, 0.08), (5.0, 1.0)):
        b = scipy.special.gammaincinv(2 * n, 0.5)
        want = scipy.special.gammainc(2 * n, b * ratio ** (1 / n))
        np.testing.assert_allclose(lensing.sersic_enclosed(ratio * 0.7, 0.7, n), want, rtol=2e-3)


def test_profile_is_astropys_with_the_same_axes():
    from astropy.modeling.models import Sersic2D

    q, phi, n, radius = 0.6, 0.7, 1.7, 1.1
    r_major = radius / np.sqrt(q)  # astropy's radius is along the major axis
    astropys = Sersic2D(amplitude=1, r_eff=r_major, n=n, ellip=1 - q, theta=phi)(X, Y)
    r = lensing.elliptical_radius(X, Y, *lensing.ellipticity(q, phi))
    ours = np.asarray(lensing.sersic(r, radius, n))
    np.testing.assert_allclose(ours / ours.max(), astropys / astropys.max(), rtol=2e-4)


def test_half_light_constant_is_the_incomplete_gammas():
    import scipy.special

    n = np.linspace(0.5, 8, 40)
    np.testing.assert_allclose(lensing.sersic_b(n), scipy.special.gammaincinv(2 * n, 0.5), rtol=5e-4)
