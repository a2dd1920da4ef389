"""Mock fibers of the whole range: the measured errors come back, blank sky is blank, [OII] has its other lines."""

import jax
import numpy as np
import pytest

from configs import lya
from lensjax.core.errors import UserError
from lensjax.physics import grid, lines
from lensjax.sims import plate

NUM = 256


def make_config(**mock):
    config = lya.get_config()
    config.mock.update({"sky_fraction": 0.2, "lya_rate": 0.3, "oii_rate": 0.3, **mock})
    return config


@pytest.fixture(scope="module")
def fibers():
    draw = jax.jit(jax.vmap(plate.make_plate_simulator(make_config())))
    mocks = jax.device_get(draw(jax.random.split(jax.random.key(0), NUM)))
    mocks["name"] = np.array(plate.KINDS)[mocks["kind"]]
    return mocks


@pytest.fixture(scope="module")
def wave():
    return grid.wave(grid.window(*make_config().mock.window))


def test_kinds_come_at_their_rates_and_only_lines_have_a_truth(fibers):
    name, there = fibers["name"], fibers["snr"] > 0
    assert 0.12 < (name == "sky").mean() < 0.28
    for kind in ("lya", "oii"):
        assert 0.2 < (name == kind).mean() / (name != "sky").mean() < 0.4
    np.testing.assert_array_equal(there, np.isin(name, ("lya", "oii")))
    np.testing.assert_array_equal(fibers["label"] == 1, name == "lya")
    inside = (fibers["wave"] > 3800) & (fibers["wave"] < 5000)
    np.testing.assert_array_equal(inside, there)


def test_errors_are_those_of_boss(fibers, wave):
    galaxy = fibers["name"] != "sky"
    with np.errstate(divide="ignore"):
        error = fibers["ivar"][galaxy] ** -0.5
    # medians of 11 BOSS galaxies, measured apart from the tables of the simulator
    for low, high, expected in ((4000, 4200, 0.515), (6600, 6800, 0.234), (7000, 7200, 0.221), (9000, 9200, 0.228)):
        here = error[:, (wave > low) & (wave < high)]
        assert np.median(here[np.isfinite(here)]) == pytest.approx(expected, rel=0.2)
    bad = (fibers["ivar"] == 0).mean(0)
    assert bad[wave < 7000].mean() < 0.01 and 0.15 < bad[(wave > 7700) & (wave < 9100)].mean() < 0.4


def test_sky_fibers_hold_noise_of_their_stated_errors(fibers, wave):
    sky = fibers["name"] == "sky"
    pull = fibers["flux"][sky] * np.sqrt(fibers["ivar"][sky])
    for low, high, expected in ((3800, 5000, 1.0), (6500, 6900, 0.88)):
        here = pull[:, (wave > low) & (wave < high)]
        width = (np.percentile(here, 84) - np.percentile(here, 16)) / 2
        assert width == pytest.approx(expected, abs=0.03) and abs(here.mean()) < 0.02


def test_oii_emitters_show_the_flux_and_signal_of_their_lines(fibers, wave):
    """Hbeta's flux is measured in the noise-free difference; its S/N is the sum over pixels that the truth tells."""
    oii = np.flatnonzero(fibers["name"] == "oii")
    checked = 0
    for i in oii:
        z = fibers["wave"][i] / lines.OII - 1
        for name, rest in (("hbeta", lines.HBETA), ("oiii", lines.OIII[1]), ("halpha", lines.HALPHA)):
            near = (np.abs(np.log10(wave / rest / (1 + z))) < 5e-4) & (fibers["ivar"][i] > 0)
            if near.sum() < 9 or fibers[f"snr_{name}"][i] < 12:
                continue
            residual = (fibers["flux"] - fibers["continuum"] - fibers["artefact"])[i, near]
            peak = np.average(wave[near], weights=np.maximum(residual, 0) ** 2)
            assert peak == pytest.approx(rest * (1 + z), rel=3e-4)
            snr = np.sqrt(np.sum((residual / fibers["sigma"][i, near]) ** 2) - near.sum())
            assert snr == pytest.approx(fibers[f"snr_{name}"][i], rel=0.3)
            checked += 1
    assert checked > 20


def test_doublet_keeps_its_separation_and_unit_flux():
    loglam = grid.window(3600, 9800)
    instrument = plate.make_instrument(loglam)[0]
    narrow, _ = plate.draw_oii(np.full(5, 0.5, np.float32), instrument, np.float32(4800.0))
    flux = np.asarray(narrow) * 10**loglam * np.log(10) * grid.STEP
    assert flux[:2].sum() == pytest.approx(1, abs=2e-3)
    centre = (flux[:2] * 10**loglam).sum(1) / flux[:2].sum(1)
    np.testing.assert_allclose(centre[1] / centre[0], lines.OII_DOUBLET[1] / lines.OII_DOUBLET[0], rtol=2e-5)
    ratio = flux.sum(1)
    assert 1.1 < ratio[1] / ratio[0] < 1.45  # 3729 is the stronger at low density
    np.testing.assert_allclose(ratio[4] / ratio[3], 2.98, rtol=0.01)
    np.testing.assert_allclose(ratio[5] / ratio[2], 4.0, rtol=0.01)  # Halpha over Hbeta, median


def test_a_window_beyond_the_continua_is_refused():
    with pytest.raises(UserError, match=r"narrow config\.sim\.redshift"):
        plate.make_plate_simulator(make_config(window=(3600.0, 10_400.0)))
