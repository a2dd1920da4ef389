"""What the network is given: monotonic, of order one, and the viewer's colours."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from lensjax.core.errors import UserError
from lensjax.surveys import viewer
from lensjax.tasks.stretch import channels, difference, make_stretch, viewer_rgb


def settings(name):
    return config_dict.ConfigDict(dict(name=name, softening=(0.01, 0.01, 0.03), divisor=3.0))


def test_asinh_is_linear_in_the_noise_and_logarithmic_in_galaxies():
    stretch = make_stretch(settings("asinh"))
    flux = jnp.array([[-1e-4, 0.0, 3e-4], [1.0, 10.0, 30.0]])
    faint, bright = stretch(flux)
    np.testing.assert_allclose(faint, [-0.01 / 3, 0, 0.01 / 3], rtol=1e-3)
    np.testing.assert_allclose(bright, np.log([200, 2000, 2000]) / 3, rtol=1e-3)


def test_rgb_is_the_viewers_formula_in_plain_numbers():
    g, r, z = 0.05, 0.12, 0.2
    x = np.array([6.0 * g, 3.4 * r, 2.2 * z]) + 0.03
    intensity = x.mean()
    expected = (x * np.arcsinh(20 * intensity) / np.sqrt(20) / intensity)[::-1]
    np.testing.assert_allclose(make_stretch(settings("rgb"))(jnp.array([g, r, z])), expected, rtol=1e-5)


def test_rgb_is_what_the_viewer_module_shows():
    scale = 10 ** np.linspace(-4, 3, 5)[:, None]
    image = (np.random.default_rng(0).normal(size=(2, 5, 5, 3)) * scale).astype(np.float32)
    out = np.asarray(viewer_rgb(jnp.asarray(image)))
    np.testing.assert_allclose(out, viewer.to_rgb(image), atol=1e-5)
    assert out.min() >= 0 and out.max() <= 1


def test_another_name_is_refused():
    with pytest.raises(UserError, match="'log'"):
        make_stretch(settings("log"))


def scene(colour, arc, size=32):
    """A galaxy of one colour (B,), elliptical and centred, and an arc's flux (B,) in four pixels beside it."""
    y, x = (np.arange(size) - (size - 1) / 2)[:, None], (np.arange(size) - (size - 1) / 2)[None]
    image = np.exp(-0.5 * (x**2 / 9 + y**2 / 25))[..., None] * np.asarray(colour)
    image[8:10, 24:26] += arc
    return jnp.asarray(image, jnp.float32)


def test_values_of_other_bands_are_refused():
    with pytest.raises(UserError, match="has values of 3 bands for images of 5: give one a band"):
        make_stretch(settings("asinh"))(jnp.zeros((4, 4, 5)))


def test_difference_takes_the_galaxy_away_and_leaves_what_is_bluer():
    found = difference(scene((0.2, 0.8, 2.0), (0.3, 0.2, 0.1)))
    assert found.shape == (32, 32, 2)
    left = np.asarray(found).copy()
    expected = np.array([0.3 - 0.1 * 0.1, 0.2 - 0.4 * 0.1])  # the arc less its own z times the galaxy's colour
    np.testing.assert_allclose(left[8:10, 24:26], np.broadcast_to(expected, (2, 2, 2)), atol=2e-5)
    left[8:10, 24:26] = 0
    np.testing.assert_allclose(left, 0, atol=1e-5)


def test_difference_of_an_empty_centre_is_finite_and_its_ratio_bounded():
    image = jnp.zeros((16, 16, 3)).at[..., 0].set(1.0)
    np.testing.assert_allclose(difference(image), image[..., :2], atol=1e-6)
    red_missing = jnp.zeros((16, 16, 3)).at[..., 0].set(1.0).at[..., 2].set(0.1)  # ratio 10, held at 2
    np.testing.assert_allclose(difference(red_missing)[..., 0], 0.8, atol=1e-6)


def test_the_stretch_with_differences_has_the_planes_that_are_announced():
    image = scene((0.2, 0.8, 2.0), (0.3, 0.2, 0.1))[None]
    out = make_stretch(settings("difference"))(image)
    assert out.shape[-1] == channels(settings("difference"), 3) == 5
    assert channels(settings("asinh"), 3) == 3
    np.testing.assert_array_equal(out[..., :3], make_stretch(settings("asinh"))(image))
    np.testing.assert_allclose(out[..., 3], jnp.arcsinh(difference(image)[..., 0] / 0.01) / 3, rtol=1e-5)
