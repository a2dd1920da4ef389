"""Where absorbers are looked for, and the scaling of a quasar's flux (Zhao et al. 2019, section 2.1)."""

import numpy as np
import pytest

from lensjax.physics import grid, quasar

WAVE = grid.wave(grid.window(3799.0, 9200.0)).astype(np.float32)


def test_the_window_of_the_paper_has_its_pixels():
    assert len(WAVE) == 3841


@pytest.mark.parametrize("z", [0.5, 1.7, 3.5])
def test_the_search_window_is_between_civ_and_mgii_of_the_quasar(z):
    inside = np.asarray(quasar.search_window(WAVE, z))
    expected = WAVE[(WAVE > 1550 * (1 + z)) & (WAVE < 2800 * (1 + z)) & (WAVE * 2803.531 / 2796.352 < WAVE[-1])]
    np.testing.assert_array_equal(WAVE[inside], expected)


@pytest.mark.parametrize(
    ("z", "rest"), [(0.5, None), (1.0, None), (1.5, (3020, 3100)), (2.0, (2150, 2250)), (3.0, (1420, 1500))]
)
def test_the_range_that_flux_is_scaled_in(z, rest):
    expected = (4150, 4250) if rest is None else np.array(rest) * (1 + z)
    np.testing.assert_allclose(quasar.scaling_range(z), expected, rtol=1e-6)


@pytest.mark.parametrize("z", [0.6, 1.5, 2.0])
def test_rescaled_flux_is_flux_over_the_median_of_good_pixels_less_one(z):
    rng = np.random.default_rng(0)
    flux = rng.normal(3, 1, len(WAVE)).astype(np.float32)
    ivar = np.where(rng.random(len(WAVE)) < 0.2, 0, 1).astype(np.float32)
    low, high = np.asarray(quasar.scaling_range(z))
    median = np.median(flux[(WAVE >= low) & (WAVE <= high) & (ivar > 0)])
    scaled, found = quasar.rescale(flux, ivar, WAVE, z)
    kept = np.asarray(quasar.search_window(WAVE, z)) & (ivar > 0)
    assert float(found) == pytest.approx(median, rel=1e-6)
    np.testing.assert_allclose(scaled, np.where(kept, flux / median - 1, 0), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("level", "error"), [(-1.0, 1.0), (3.0, 0.0)])
def test_flux_without_a_positive_median_keeps_its_scale(level, error):
    flux, ivar = np.full(len(WAVE), level, np.float32), np.full(len(WAVE), error, np.float32)
    scaled, found = quasar.rescale(flux, ivar, WAVE, 1.5)
    assert found == 1 and np.isfinite(scaled).all()
