"""The viewer's stretch: its formula, and flux -> picture -> flux."""

import numpy as np
import pytest

from lensjax.surveys import viewer
from lensjax.surveys.block import BadFile


def scene(seed=0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :48] - 23.5
    galaxy = np.exp(-np.hypot(x, y) / 4)[..., None] * np.array([0.05, 0.2, 0.45])
    return (galaxy + rng.normal(0, 0.0015, galaxy.shape)).astype(np.float32)


def test_one_pixel_by_hand():
    g, r, z = 0.01, 0.03, 0.07
    stretched = np.array([6.0 * g, 3.4 * r, 2.2 * z]) + 0.03
    mean = stretched.mean()
    want = (stretched * np.arcsinh(20 * mean) / np.sqrt(20) / mean)[::-1]
    np.testing.assert_allclose(viewer.to_rgb(np.array([g, r, z])[None, None])[0, 0], want)


def test_flux_comes_back_where_no_colour_was_clipped():
    image = scene()
    flux, known = viewer.from_rgb(viewer.to_rgb(image))
    assert 0.9 < known.mean() < 1
    np.testing.assert_allclose(flux[known], image[known], atol=1e-6)


def test_eight_bits_cost_less_than_the_noise(tmp_path):
    image = scene()
    viewer.write_picture(tmp_path / "one.png", image)
    flux, known = viewer.read_picture(tmp_path / "one.png")
    dark = known & (image[..., 1] < 0.02)
    assert np.abs(flux - image)[dark].max() < 1e-3


def test_a_dark_pixel_and_a_saturated_one_are_finite():
    rgb = viewer.to_rgb(np.array([[[-0.1, -0.1, -0.1], [90.0, 90.0, 90.0]]]))
    flux, known = viewer.from_rgb(rgb)
    assert np.isfinite(flux).all() and not known.any()


def test_a_picture_that_is_none_says_so(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n1234")
    with pytest.raises(BadFile, match="save it from the viewer again"):
        viewer.read_picture(tmp_path / "broken.png")


def test_real_cutouts_survive_the_picture(real_data):
    saved = np.load(real_data / "cutouts" / "top64_even_grz_nmgy.npz")
    image = np.moveaxis(saved["images"], 1, -1)
    flux, known = viewer.from_rgb(viewer.to_rgb(image))
    assert known.mean() > 0.9
    np.testing.assert_allclose(flux[known], image[known], atol=1e-5)
