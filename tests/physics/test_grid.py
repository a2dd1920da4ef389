"""The grid: the numbers of the survey files, and placement that never interpolates."""

import numpy as np
import pytest

from lensjax.physics import grid


def test_search_window_is_the_surveys_1192_pixels():
    loglam = grid.window(3800.0, 5000.0)
    assert loglam.shape == (1192,)
    np.testing.assert_allclose(loglam[[0, -1]], [3.5798, 3.6989], rtol=0, atol=1e-12)
    assert grid.wave(loglam)[0] >= 3800 and grid.wave(loglam)[-1] <= 5000


def test_pixel_width_in_velocity():
    np.testing.assert_allclose(grid.PIXEL_KMS, 69.03, atol=0.005)
    first, second = grid.wave(np.array([3.6, 3.6001]))
    assert (second / first - 1) * grid.C_KMS == pytest.approx(grid.PIXEL_KMS, rel=2e-4)


def test_edges_bracket_the_centres():
    loglam = grid.window(3800.0, 3900.0)
    edges = grid.edges(loglam)
    assert edges.shape == (len(loglam) + 1,)
    np.testing.assert_allclose(np.sqrt(edges[1:] * edges[:-1]), grid.wave(loglam), rtol=1e-12)


def test_pixel_inverts_wave():
    loglam = grid.window(3800.0, 5000.0)
    np.testing.assert_allclose(grid.pixel(grid.wave(loglam), loglam), np.arange(1192), atol=1e-8)


@pytest.mark.parametrize(
    ("first", "length"), [(35502, 4647), (35900, 50), (35790, 20), (35700, 90), (36980, 500), (30000, 5)]
)
def test_place_keeps_each_value_at_its_wavelength(first, length):
    target = grid.window(3800.0, 5000.0)
    source = np.float32(np.arange(first, first + length) * 1e-4)  # as survey files store it
    values = np.arange(2 * length, dtype=">f4").reshape(2, length)
    out = grid.place(source, values, target, fill=-1.0)
    want = np.full((2, 1192), -1.0)
    for i in range(length):
        where = first + i - 35798
        if 0 <= where < 1192:
            want[:, where] = values[:, i]
    np.testing.assert_array_equal(out, want)
    assert out.dtype == np.float32


def test_place_refuses_a_length_that_does_not_match():
    with pytest.raises(ValueError, match="3 values for 2 pixels"):
        grid.place(np.array([3.6, 3.6001]), np.zeros(3), grid.window(3800.0, 5000.0))


def test_window_refuses_an_inverted_range():
    with pytest.raises(ValueError, match="lo < hi"):
        grid.window(5000.0, 3800.0)
