"""Transfer functions against numerical transforms of the profiles they stand for."""

import numpy as np
import pytest
import scipy.integrate
import scipy.special

from lensjax.core.errors import UserError
from lensjax.physics import bands, psf


def profile(shape, r, fwhm):
    if shape == "gaussian":
        return 0.5 ** ((2 * r / fwhm) ** 2)
    beta = float(shape.removeprefix("moffat"))
    return (1 + (2 ** (1 / beta) - 1) * (2 * r / fwhm) ** 2) ** -beta


@pytest.mark.parametrize("shape", psf.SHAPES)
def test_transfer_is_the_hankel_transform_of_the_profile(shape):
    r = np.geomspace(1e-4, 2000, 400_001)
    weight = r * profile(shape, r, 1.3)
    for frequency in (0.0, 0.1, 0.4, 0.8):
        got = scipy.integrate.simpson(weight * scipy.special.j0(2 * np.pi * frequency * r), x=r)
        want = got / scipy.integrate.simpson(weight, x=r)
        np.testing.assert_allclose(psf.transfer(shape, 1.3, np.float32(frequency)), want, atol=3e-4)


def test_unknown_shape_names_the_known_ones():
    with pytest.raises(UserError, match=r"moffat3\.5"):
        psf.transfer("airy", 1.0, np.float32(0))


def test_catalogue_noise_and_dust():
    sigma = bands.pixel_noise(100.0, 1.48)
    assert float(sigma) == pytest.approx(1 / np.sqrt(4 * np.pi * 100 * (1.48 / 2.3548 / 0.262) ** 2), rel=1e-4)
    np.testing.assert_allclose(
        bands.transmission(np.float32(0.1)), 10 ** (0.1 * np.array([-1.2856, -0.866, -0.4844])), rtol=1e-5
    )
    assert float(bands.mag(bands.flux(21.3))) == pytest.approx(21.3, abs=1e-4)
    assert float(bands.mag(-1.0)) == pytest.approx(32.5, abs=1e-4)
