"""What the network is given: monotonic, of order one, and the viewer's colours."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from lensjax.core.errors import UserError
from lensjax.surveys import viewer
from lensjax.tasks.stretch import make_stretch, viewer_rgb


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
