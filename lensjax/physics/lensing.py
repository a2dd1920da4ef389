"""Lens equation and galaxy profiles in closed form, for one object at any number of places.

Ellipticity is lenstronomy's (Birrer & Amara 2018): e1 = c cos 2 phi, e2 = c sin 2 phi, c = (1 - q) / (1 + q), with q
the minor over the major axis and phi the angle of the major axis from x towards y. Radii are those of the circle of
the same area, sqrt(q x'^2 + y'^2 / q) along the axes x', y'.
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

TERMS = 24  # of the incomplete gamma function
ROUND = 1e-8  # least 1 - q^2, where the deflection of an ellipse still has all its digits


def ellipticity(q, phi):
    """(e1, e2) of an axis ratio and a position angle (radian)."""
    c = (1 - q) / (1 + q)
    return c * jnp.cos(2 * phi), c * jnp.sin(2 * phi)


def axes(e1, e2):
    """(q, cos phi, sin phi): axis ratio and direction of the major axis."""
    c = jnp.sqrt(e1**2 + e2**2)
    phi = jnp.arctan2(e2, e1) / 2
    return (1 - c) / (1 + c), jnp.cos(phi), jnp.sin(phi)


def rotate(x, y, cos, sin):
    """Coordinates along axes that are turned by the angle of that cosine and sine."""
    return cos * x + sin * y, cos * y - sin * x


def elliptical_radius(x, y, e1, e2) -> jax.Array:
    """Area-preserving elliptical radius about the origin, in the unit of x and y."""
    q, cos, sin = axes(e1, e2)
    major, minor = rotate(x, y, cos, sin)
    return jnp.sqrt(q * major**2 + minor**2 / q)


def sie_deflection(x, y, theta_e, e1, e2) -> tuple[jax.Array, jax.Array]:
    """Deflection of a singular isothermal ellipsoid at the origin.

    Args:
        x, y: places in the image plane, arcsec.
        theta_e: Einstein radius, arcsec: convergence kappa = theta_e / (2 sqrt(q x'^2 + y'^2 / q)).
        e1, e2: ellipticity of kappa.

    Returns:
        alpha_x, alpha_y, arcsec; the source is at x - alpha_x, y - alpha_y.

    Kormann et al. (1994), eq. 27; in the notation of Keeton (2001), section 3.
    """
    q, cos, sin = axes(e1, e2)
    major, minor = rotate(x, y, cos, sin)
    psi = jnp.sqrt(q**2 * major**2 + minor**2)
    psi = jnp.maximum(psi, 1e-9)
    f = jnp.sqrt(jnp.maximum(1 - q**2, ROUND))
    scale = theta_e * jnp.sqrt(q) / f
    along = scale * jnp.arctan(f * major / psi)
    across = scale * jnp.arctanh(f * minor / psi)
    return rotate(along, across, cos, -sin)


def shear_deflection(x, y, gamma1, gamma2) -> tuple[jax.Array, jax.Array]:
    """Deflection (arcsec) of an external shear about the origin: potential gamma1 (x^2 - y^2) / 2 + gamma2 x y."""
    return gamma1 * x + gamma2 * y, gamma2 * x - gamma1 * y


def sersic_b(n) -> jax.Array:
    """b_n that makes the effective radius hold half the light: Ciotti & Bertin (1999), eq. 18; n > 0.36."""
    series = 4 / (405 * n) + 46 / (25515 * n**2) + 131 / (1148175 * n**3) - 7.151e-5 / n**4
    return 2 * n - 1 / 3 + series


def sersic_enclosed(radius, effective_radius, n) -> jax.Array:
    """Share of a Sersic profile's flux within a radius of a few R_e at most: gammainc(2n, b (R / R_e)^(1/n)).

    Graham & Driver (2005), eq. 2, by the series of the incomplete gamma function.
    """
    a, x = 2 * n, sersic_b(n) * jnp.exp(jnp.log(radius / effective_radius) / n)
    series = jnp.ones_like(x * a)
    for k in range(TERMS, 0, -1):
        series = 1 + series * x / (a + k)
    return jnp.exp(a * jnp.log(x) - x - gammaln(a + 1)) * series


def sersic(radius, effective_radius, n) -> jax.Array:
    """Surface brightness of a Sersic profile of unit flux, per square of the radius's unit.

    I(R) = I_e exp(-b ((R / R_e)^(1/n) - 1)), whose integral is 2 pi n R_e^2 I_e e^b b^(-2n) Gamma(2n): Graham & Driver
    (2005), eqs. 1 and 4. `radius` is the area-preserving one of an ellipse.
    """
    b = sersic_b(n)
    log_flux = jnp.log(2 * jnp.pi * n * effective_radius**2) - 2 * n * jnp.log(b) + gammaln(2 * n)
    power = jnp.exp(jnp.log(jnp.maximum(radius / effective_radius, 1e-9)) / n)
    return jnp.exp(-b * power - log_flux)
