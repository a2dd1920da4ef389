"""The other lines of a nearer galaxy: closed forms, odds that follow the data, and [OII] told from one line."""

import numpy as np
import pytest
from scipy import stats

from configs import vetting
from lensjax.fit import companions, oii
from lensjax.physics import grid, lines

LOGLAM = grid.window(3600, 9800)
NUM = len(LOGLAM)
WAVE = grid.wave(LOGLAM)
SETTINGS = vetting.vetting().oii
ANGSTROM = WAVE * np.log(10) * grid.STEP  # of a pixel


def gaussian(wave, flux, sigma):
    """A line of a flux (1e-17 erg/s/cm2) and width (pixels), integrated over pixels, on the whole spectrum."""
    place = grid.pixel(np.array(wave), LOGLAM)
    edges = (np.arange(NUM + 1) - 0.5 - place) / sigma
    return flux * np.diff(stats.norm.cdf(edges)) / ANGSTROM


def galaxy(z, flux=20.0, ratios=(0.4, 0.4, 1.3), sigma=1.4, share=0.58):
    """[OII], Hbeta, [OIII] and Halpha of one galaxy."""
    hbeta, oiii, halpha = ratios
    rest = (*lines.OII_DOUBLET, lines.HBETA, lines.OIII[0], lines.OIII[1], lines.HALPHA)
    parts = (1 - share, share, hbeta, oiii / companions.OIII_RATIO, oiii, halpha)
    return sum(gaussian(wave * (1 + z), flux * part, sigma) for wave, part in zip(rest, parts, strict=True))


def measured(flux, ivar, z, sigma=1.4):
    num = len(flux)
    return companions.measure_companions(flux, ivar, np.full(num, z), np.full(num, sigma), LOGLAM)


def test_profile_on_a_constant_equals_least_squares():
    rng = np.random.default_rng(0)
    half, sigma, offset = 20, 1.7, 0.3
    y, ivar = rng.normal(size=(2 * half + 1, 1)), rng.uniform(0.2, 2, (2 * half + 1, 1))
    ivar[5:8] = 0
    x = np.arange(-half, half + 1) - offset
    design = np.stack([stats.norm.pdf(x, scale=np.sqrt(sigma**2 + 1 / 12)), np.ones(len(x))], axis=1)
    spread = np.linalg.inv(design.T @ (ivar * design))
    expected = spread @ design.T @ (ivar[:, 0] * y[:, 0])
    flux, error = companions.fit_profile(y, ivar, np.array([offset]), np.array([sigma]))
    np.testing.assert_allclose([flux[0], error[0]], [expected[0], np.sqrt(spread[0, 0])], rtol=1e-10)


def test_a_line_without_pixels_has_no_flux_and_an_infinite_error():
    ivar = np.ones((41, 3))
    ivar[18:24, 0] = 0  # its middle
    ivar[:, 1] = 0
    flux, error = companions.fit_profile(np.ones((41, 3)), ivar, np.zeros(3), np.full(3, 1.2))
    assert np.isinf(error[:2]).all() and np.isfinite(error[2]) and flux[0] == flux[1] == 0


def test_fluxes_are_those_put_in_and_errors_hold_where_pixels_scatter_more():
    rng = np.random.default_rng(1)
    z, num = 0.2, 300
    clean = np.repeat(galaxy(z)[None], num, axis=0)
    noise = np.where(np.abs(WAVE / (lines.HALPHA * (1 + z)) - 1) < 0.02, 3.0, 1.0)  # stated too small around Halpha
    out = measured(clean + 0.2 * noise * rng.normal(size=clean.shape), np.full(clean.shape, 25.0), z)
    for name, true in (("hbeta", 8.0), ("oiii", 8.0), ("halpha", 26.0)):
        pull = (out[f"flux_{name}"] - true) / out[f"flux_{name}_err"]
        assert abs(pull.mean()) < 0.2 and 0.85 < pull.std() < 1.15, name


def odds(flux, ivar, z, oii_flux=20.0):
    columns = measured(flux, ivar, z) | {"oii_flux": np.full(len(flux), oii_flux), "oii_chi2": np.full(len(flux), 30.0)}
    return companions.oii_odds(columns, np.full(len(flux), 30.0), SETTINGS)


def test_absence_counts_as_presence_does_and_no_data_for_nothing():
    z, ivar = 0.2, np.full((1, NUM), 25.0)
    present, absent = odds(galaxy(z)[None], ivar, z), odds(np.zeros((1, NUM)), ivar, z)
    assert present > 3 and absent < -2
    assert odds(galaxy(z)[None], ivar * 0, z) == 0
    faint = odds(np.zeros((1, NUM)), ivar * 1e-6, z)  # errors so large that nothing could be seen
    assert abs(faint[0]) < 0.05


def test_the_profile_alone_says_no_more_than_its_bound():
    limit, unseen = SETTINGS.doublet_limit, {f"flux_{name}_err": np.full(3, np.inf) for name in SETTINGS.ratios}
    unseen |= {f"snr_{name}": np.zeros(3) for name in SETTINGS.ratios} | {"oii_flux": np.full(3, 20.0)}
    chi2 = 30.0 + 2 * np.log(10) * np.array([-9 * limit, 0.5 * limit, 9 * limit])  # of the single line
    found = companions.oii_odds(unseen | {"oii_chi2": np.full(3, 30.0)}, chi2, SETTINGS)
    np.testing.assert_allclose(found, [-limit, 0.5 * limit, limit])


def test_one_spike_at_one_place_is_held_against_the_other_two():
    z = 0.2
    spike = gaussian(lines.HALPHA * (1 + z), 90.0, 1.0)[None]
    assert odds(spike, np.full((1, NUM), 25.0), z) < SETTINGS.max_odds


def test_odds_are_calibrated_where_the_prior_and_the_noise_are_as_assumed():
    """Among draws from the two hypotheses in equal number, odds of 10 to the x are right in 10^x of 10^x + 1."""
    rng = np.random.default_rng(2)
    num = 40_000
    columns, unit = {}, 1 / 0.6
    there = rng.uniform(size=num) < 0.5
    for name, (median, scatter) in SETTINGS.ratios.items():
        true = median * 10 ** (scatter * rng.normal(size=num)) * there
        wide = np.where(rng.uniform(size=num) < SETTINGS.outliers, 10.0, 1.0)
        error = np.full(num, 1 / unit)
        columns[f"flux_{name}"] = true + error * wide * rng.normal(size=num)
        columns |= {f"flux_{name}_err": error, f"snr_{name}": columns[f"flux_{name}"] / error}
    found = companions.weigh(columns, np.ones(num), dict(SETTINGS.ratios), SETTINGS.outliers)
    for low in (-1.0, -0.5, 0.0, 0.5):
        near = (found > low) & (found < low + 0.5)
        expected = np.mean(1 / (1 + 10 ** -found[near]))
        assert there[near].mean() == pytest.approx(expected, abs=4 * np.sqrt(0.25 / near.sum()))


def test_a_line_of_a_very_near_galaxy_is_known_by_its_others():
    z = 0.01  # [OII] at 3766 A: outside the search's window; Hbeta at 4911 A is the hit
    ivar = np.full((2, NUM), 25.0)
    flux = np.stack([galaxy(z), gaussian(lines.HBETA * (1 + z), 8.0, 1.4)])
    line = {"wave": np.full(2, lines.HBETA * (1 + z)), "flux": np.full(2, 8.0), "sigma": np.full(2, 100.0)}
    near, alone = companions.nearby_odds(flux, ivar, line, LOGLAM, SETTINGS)
    assert near > 3 and alone < SETTINGS.max_nearby_odds
    blue = {**line, "wave": np.full(2, 3900.0)}  # blueward of Hgamma at rest
    assert np.all(companions.nearby_odds(flux, ivar, blue, LOGLAM, SETTINGS) == companions.LEAST_ODDS)


@pytest.mark.parametrize("z, share", [(0.1, 0.30), (0.25, 0.58)])
def test_the_doublet_is_found_with_its_redshift_flux_and_ratio(z, share):
    flux = galaxy(z, share=share)[None].astype(np.float32)
    position = grid.pixel(np.array([lines.OII * (1 + z)]), LOGLAM) + 2.3
    out = oii.fit_doublet(flux, np.full(flux.shape, 100.0, np.float32), position, LOGLAM)
    assert out["z_oii"][0] == pytest.approx(z, abs=2e-6) and out["oii_flux"][0] == pytest.approx(20.0, rel=2e-3)
    assert out["oii_ratio"][0] == pytest.approx(share / (1 - share), rel=5e-3) and out["oii_chi2"][0] < 0.1
