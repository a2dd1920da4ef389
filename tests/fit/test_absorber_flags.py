"""Other lines of an absorber, and everything that only looks like one."""

import numpy as np
import pytest

from lensjax.fit import absorber_flags, metals, mgii
from lensjax.physics import grid, lines
from tests.fit import absorbed

LOGLAM = grid.window(5000, 7300)
IRON = tuple((rest, 0.3 * f / 0.32) for rest, f in zip(lines.FEII, lines.FEII_STRENGTH, strict=True))
KINDS = ("iron", "bare", "false", "civ", "behind")
Z = np.array([1.3, 1.3, 1.5, 1.3, 1.3])
Z_QSO = np.array([2.0, 2.0, 2.0, 3.156, 1.2])


@pytest.fixture(scope="module")
def measured():
    """One spectrum of each of KINDS: with Fe II and Mg I; without; looked at where its Fe II 2600 passes for 2796; a
    pair as far apart as C IV, at the quasar; one behind its quasar.
    """
    ew, depth, snr = np.full(5, 2.0), np.full(5, 8.0), np.full(5, 25.0)
    mock = absorbed.spectra(LOGLAM, Z, ew, depth, snr, metals=(*IRON, (lines.MGI, 0.2)))
    bare = absorbed.spectra(LOGLAM, Z, ew, depth, snr, seed=1)
    pair = np.full((5, len(LOGLAM)), 5.0)
    middle = mgii.MIDDLE * 2.3
    apart = np.sqrt(lines.CIV[1] / lines.CIV[0])
    for rest in (middle / apart, middle * apart):
        pair = pair * absorbed.transmission(LOGLAM, np.zeros(5), rest, np.full(5, 3.0), np.full(5, 1.3), 1.05)
    flux = mock["flux"].copy()
    flux[[1, 4]] = bare["flux"][[1, 4]]
    flux[3] = pair[3] + np.random.default_rng(2).normal(0, 0.2, len(LOGLAM))
    guess = Z.copy()
    guess[2] = 2.5 * lines.FEII[4] / lines.MGII[0] - 1
    return absorber_flags.measure_all(flux, mock["ivar"], guess, LOGLAM, Z_QSO, mock["wdisp"]), mock


def test_iron_and_magnesium_of_the_same_gas_are_found(measured):
    table, _ = measured
    assert table["feii_snr"][0] > 15 and table["mgi_snr"][0] > 5 and table["feii_lines"][0] == 5
    assert abs(table["feii_snr"][1]) < 4 and abs(table["mgi_snr"][1]) < 4
    for name in ("feii_2382", "feii_2600"):
        assert 0.5 < table[f"ew_{name}"][0] < 2.0


def test_forced_widths_are_unbiased_and_errors_honest():
    num = 128
    ew = np.full(num, 0.5)
    z = np.linspace(1.3, 1.31, num)
    window = grid.window(6300, 6560)
    mock = absorbed.spectra(window, z, ew, np.full(num, 0.05), np.full(num, 20.0), 3)
    variance = mock["width"] ** 2 + 1.05**2 + 1 / 12
    got, error = metals.measure_group(mock["flux"], mock["ivar"], z, lines.MGII, variance, window)
    pull = (got[0] - [mock["ew_2796"], mock["ew_2803"]]) / error[0]
    assert 0.85 < pull.std() < 1.15 and abs(pull.mean()) < 0.25
    nothing, far = metals.measure_group(mock["flux"], mock["ivar"], z + 4, lines.MGII, variance, window)
    assert (nothing == 0).all() and np.isinf(far).all()


def test_each_is_flagged_as_what_it_is(measured):
    found = absorber_flags.flags(measured[0])
    names = [{name for name in found if found[name][i]} for i in range(5)]
    assert names[0] == set() and names[1] == set()
    assert "feii" in names[2] or "ratio" in names[2]
    assert {"civ"} <= names[3]
    assert "behind" in names[4]


def test_the_absorber_behind_false_iron_is_named(measured):
    table, _ = measured
    assert table["rival_z"][2] == pytest.approx(1.5, abs=2e-3) and table["rival_snr"][2] > 10
    assert table["rival_snr"][1] < 6
    assert table["rival_feii_snr"][2] > 8


def test_lines_on_the_doublet_are_no_iron_of_its_rival():
    """With Fe II 2600 alone, which passes for 2796 here, nothing else speaks for the rival."""
    z, ew = np.array([1.5]), np.array([2.0])
    false = {"z_abs": 2.5 * lines.FEII[4] / lines.MGII[0] - 1 + 0 * z, "sigma": np.array([2.0])}
    found = []
    for iron in (IRON[4:], IRON):
        mock = absorbed.spectra(LOGLAM, z, ew, np.array([8.0]), np.array([25.0]), metals=iron)
        found.append(metals.measure_rivals(mock["flux"], mock["ivar"], false, LOGLAM))
    assert all(table["rival_z"][0] == pytest.approx(1.5, abs=2e-3) for table in found)
    assert abs(found[0]["rival_feii_snr"][0]) < 4 and found[1]["rival_feii_snr"][0] > 8


def test_one_strong_line_is_no_rival():
    """Joint S/N of the doublet alone would take it for one: its other line is not there."""
    lone = 5 * absorbed.transmission(LOGLAM, np.array([1.5]), lines.MGII[0], np.array([1.5]), np.array([1.5]), 1.05)
    flux = lone + 0.2 * np.random.default_rng(3).normal(size=(20, len(LOGLAM)))
    false = {"z_abs": np.full(20, 2.5 * lines.FEII[4] / lines.MGII[0] - 1), "sigma": np.full(20, 2.0)}
    assert metals.measure_rivals(flux, np.full(flux.shape, 25.0), false, LOGLAM)["rival_snr"].max() < 6


def test_carbon_fits_better_where_it_is_carbon(measured):
    table, _ = measured
    assert table["civ_delta_chi2"][3] < -20
    assert table["z_civ"][3] == pytest.approx(3.156, abs=5e-3) and abs(table["civ_dv"][3]) < 1000
    assert np.isnan(table["civ_delta_chi2"][4])


def test_velocity_is_relativistic_and_positive_in_front():
    speed = absorber_flags.speed(np.array([1.0, 1.01, 0.99]), np.ones(3))
    np.testing.assert_allclose(speed[0], 0, atol=1e-9)
    assert speed[1] == pytest.approx(-1495, abs=10) and speed[2] == pytest.approx(1503, abs=10)
    one, two, both = (absorber_flags.speed(*pair) / 299_792.458 for pair in ((1.5, 2.2), (2.2, 3.0), (1.5, 3.0)))
    assert both == pytest.approx((one + two) / (1 + one * two))  # addition of velocities


def test_a_trough_is_as_long_as_it_is():
    loglam = grid.window(5900, 6800)
    z = np.array([1.25, 1.25])
    places = np.stack([grid.pixel(wave * (1 + z), loglam) for wave in lines.MGII])
    flux = np.ones((2, len(loglam)))
    middle = int(places.mean())
    flux[0, middle - 60 : middle + 40] = 0.5
    length = absorber_flags.trough(flux, np.ones_like(flux), places)
    assert length[0] == pytest.approx(100 * grid.PIXEL_KMS, rel=0.05) and length[1] < 1000


def test_the_wing_of_an_emission_line_is_no_trough_and_a_trough_on_it_is_one():
    """The flux falls from 1.5 to 1, as redward of C IV; in the second, broad absorption besides."""
    loglam = grid.window(5900, 6800)
    z = np.array([1.25, 1.25])
    places = np.stack([grid.pixel(wave * (1 + z), loglam) for wave in lines.MGII])
    x = np.arange(len(loglam)) - places.mean()
    flux = np.tile(1 + 0.5 / (1 + np.exp((x + 10) / 10)), (2, 1))
    flux[1, np.abs(x) < 40] *= 0.5
    length = absorber_flags.trough(flux, np.ones_like(flux), places)
    assert length[0] < 1000 and length[1] == pytest.approx(80 * grid.PIXEL_KMS, rel=0.1)
    seen = np.where(x < -20, 0.0, np.ones_like(flux))  # a side without data tells no level
    assert absorber_flags.trough(flux, seen, places)[1] > 80 * grid.PIXEL_KMS


def test_the_width_of_a_rival_is_that_of_2796():
    """Of thin gas twice that of 2803."""
    z = np.full(8, 1.5)
    mock = absorbed.spectra(LOGLAM, z, np.full(8, 1.0), np.full(8, 0.3), np.full(8, 40.0), metals=IRON)
    width = np.sqrt(mock["width"] ** 2 + 1.05**2 + 1 / 12)
    false = {"z_abs": 2.5 * lines.FEII[4] / lines.MGII[0] - 1 + 0 * z, "sigma": width}
    found = metals.measure_rivals(mock["flux"], mock["ivar"], false, LOGLAM)
    assert found["rival_ew"].mean() == pytest.approx(1.0, abs=0.1)
