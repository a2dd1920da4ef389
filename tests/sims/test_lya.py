"""Mock spectra: purity, the statistics of what was asked for, and the truth that comes with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import skewnorm

from configs import lya
from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.sims import noise
from lensjax.sims.lya import LAWS, MASK_HALF_WIDTH, PAPER_PEAK, _oii_profile, lens_mask, make_simulator

NUM = 2048


def config(**settings):
    made = lya.get_config("default")
    made.sim.update(settings)
    return made


def mocks(num=NUM, seed=0, **settings):
    simulate = make_simulator(config(**settings))
    batch = jax.jit(jax.vmap(simulate))(jax.random.split(jax.random.key(seed), num))
    return {name: np.asarray(value) for name, value in batch.items()}


@pytest.fixture(scope="module")
def clean():
    return mocks(dirt=0.0, line_fraction=0.5)


@pytest.fixture(scope="module")
def dirty():
    return mocks(dirt=1.0, line_fraction=0.5, line_law="lesser")


def test_an_example_is_a_pure_function_of_its_key(dirty):
    again = mocks(num=NUM, dirt=1.0, line_fraction=0.5, line_law="lesser")
    assert all(np.array_equal(dirty[name], again[name]) for name in dirty)
    assert len({row.tobytes() for row in dirty["flux"]}) == NUM


def test_every_number_is_finite_and_bad_pixels_hold_zero(dirty):
    assert all(np.isfinite(value).all() for value in dirty.values())
    assert (dirty["flux"][dirty["ivar"] == 0] == 0).all()
    assert 0 < (dirty["ivar"] == 0).mean() < 0.02


def test_all_mocks_may_be_clean():
    all_clean = mocks(num=4, dirt=1.0, clean_fraction=1.0)
    assert all(np.isfinite(value).all() for value in all_clean.values())


def test_clean_noise_has_the_stated_errors(clean):
    model = clean["continuum"] + (clean["label"] * clean["line_flux"])[:, None] * clean["profile"]
    good = clean["ivar"] > 0
    pull = ((clean["flux"] - model) * np.sqrt(clean["ivar"]))[good]
    np.testing.assert_allclose(clean["ivar"][good], clean["sigma"][good] ** -2.0, rtol=1e-4)
    assert pull.mean() == pytest.approx(0, abs=0.003)
    assert pull.std() == pytest.approx(1, abs=0.003)


def test_stated_snr_is_what_the_true_profile_measures(clean):
    lined = clean["label"] == 1
    usable = (clean["ivar"] > 0) & ~np.asarray(jax.vmap(lambda z: lens_mask(WAVE, z))(clean["z"]))
    weight = np.where(usable, clean["sigma"] ** -2.0, 0)
    signal = ((clean["flux"] - clean["continuum"]) * clean["profile"] * weight).sum(1)
    snr = signal / np.sqrt((clean["profile"] ** 2 * weight).sum(1))
    difference = (snr - clean["snr"])[lined]
    assert difference.mean() == pytest.approx(0, abs=4 / np.sqrt(lined.sum()))
    assert difference.std() == pytest.approx(1, abs=0.1)
    without = (snr)[~lined]
    assert without.mean() == pytest.approx(0, abs=4 / np.sqrt((~lined).sum()))


def test_stars_have_a_continuum_without_the_breaks_of_a_galaxy(dirty):
    star = dirty["z"] == 0
    assert 0.01 < star.mean() < 0.06
    empty = np.abs(np.asarray(WAVE) - 4650) < 120  # between the lines
    x = np.log(np.asarray(WAVE)[empty])
    shape = np.log(dirty["continuum"][star][:, empty])
    slope = np.polynomial.polynomial.polyfit(x, shape.T, 1)
    assert np.abs(shape - np.polynomial.polynomial.polyval(x, slope)).max() < 0.05
    assert slope[1].min() < -1 and slope[1].max() > 2


WAVE = jnp.asarray(grid.wave(grid.window(3800.0, 5000.0)), jnp.float32)


def test_lines_avoid_the_masks_and_their_wavelength_is_their_mean(clean):
    lined = clean["label"] == 1
    wave, z = clean["wave"][lined], clean["z"][lined]
    rest = np.array([3346.8, 3426.8, 3728.48, 3869.9])
    distance = np.abs(np.log10(wave[:, None] / (rest * (1 + z[:, None])))) / grid.STEP
    assert distance.min() > MASK_HALF_WIDTH - 1
    mean = (clean["profile"] * np.asarray(WAVE)).sum(1)[lined] / clean["profile"].sum(1)[lined]
    np.testing.assert_allclose(mean, wave, atol=0.3)  # A: the second-order term of a mean in log wavelength
    assert (clean["wave"][~lined] == 0).all() and (clean["kind"][~lined] == 0).all()


def test_lines_avoid_what_else_the_user_masks():
    made = config(dirt=0.0, line_fraction=1.0)
    made.data.masked_lines = (*made.data.masked_lines, *np.arange(2600.0, 3300.0, 60.0))  # a third of the window
    batch = jax.jit(jax.vmap(make_simulator(made)))(jax.random.split(jax.random.key(4), 256))
    rest = np.asarray(batch["wave"] / (1 + batch["z"]))
    apart = np.abs(np.log10(rest[:, None] / np.array(made.data.masked_lines))) / grid.STEP
    assert apart.min() > MASK_HALF_WIDTH - 1
    assert (rest > 2600).mean() > 0.3


def test_flux_of_the_model_integrates_to_the_line_flux(clean):
    pixel_width = np.gradient(np.asarray(WAVE, np.float64))
    lined = clean["label"] == 1
    inside = lined & (clean["wave"] > 3850) & (clean["wave"] < 4950)
    total = (clean["profile"] * pixel_width).sum(1)[inside]
    np.testing.assert_allclose(total, 1, rtol=2e-3)


def test_profiles_are_as_wide_as_line_instrument_and_pixel(clean):
    lined = (clean["label"] == 1) & (clean["wave"] > 3900) & (clean["wave"] < 4900)
    profile, pixel = clean["profile"][lined] / clean["profile"][lined].sum(1, keepdims=True), np.arange(1192)
    middle = (profile * pixel).sum(1)
    variance = (profile * (pixel - middle[:, None]) ** 2).sum(1)
    own = (clean["line_sigma"][lined] / 69.03) ** 2 * skewnorm(clean["line_alpha"][lined]).var()
    instrument = clean["wdisp"][lined, np.rint(middle).astype(int)] ** 2
    np.testing.assert_allclose(variance, own + instrument + 1 / 12, rtol=0.02)


def test_companions_of_oii_are_redward_of_it():
    profile = np.asarray(
        _oii_profile(noise.make_instrument(grid.window(3800.0, 5000.0)), jnp.float32(20), jnp.float32(2))
    )
    hbeta = 20 + np.log10(4862.68 / 3728.48) * 1e4
    assert (profile * np.arange(1192))[:100].sum() / profile[:100].sum() == pytest.approx(20, abs=0.5)
    flux = profile * 10 ** (1e-4 * (np.arange(1192) - 20))  # pixels are as wide as their wavelength is long
    assert profile[1150:].argmax() + 1150 == round(hbeta) and flux[1150:].sum() == pytest.approx(0.3, rel=0.01)


def test_lesser_law_reproduces_the_percentiles_of_the_candidates(dirty):
    lined = dirty["label"] == 1
    for name, expected in (("line_flux", (6.3, 13.5, 46.0)), ("line_sigma", (110, 170, 297))):
        np.testing.assert_allclose(np.percentile(dirty[name][lined], (5, 50, 95)), expected, rtol=0.12)
    np.testing.assert_allclose(np.median(np.abs(dirty["line_alpha"][lined])), 3.2, rtol=0.12)
    assert (dirty["line_alpha"][lined] < 0).mean() == pytest.approx(0.1, abs=0.03)


def test_the_laws_stand_for_the_tables_they_are_read_from(real_data):
    from astropy.table import Table, vstack

    tables = [Table.read(real_data / "tables" / f"lesser_{name}.csv") for name in ("single", "double")]
    flux_name, width_name = (next(c for c in tables[0].colnames if key in c) for key in ("F_", "sigma"))
    flux = np.concatenate([np.asarray(t[flux_name], float) for t in tables if flux_name in t.colnames])
    np.testing.assert_allclose(np.percentile(flux, (5, 50, 95)), (6.3, 13.5, 46.0), rtol=0.1)
    assert vstack(tables[:1])[width_name].size > 200


def test_paper_law_has_its_floor_and_its_widths():
    batch = mocks(num=512, line_law="paper", line_profile="gaussian", line_fraction=1.0, dirt=0.0)
    fwhm = batch["line_sigma"] * 2 * np.sqrt(2 * np.log(2))
    assert batch["peak"].min() >= PAPER_PEAK * 0.999
    assert (fwhm * batch["wave"] / 299792.458).min() > 0.49  # A
    assert np.median(fwhm) == pytest.approx(317, abs=30)  # N(300, 200) cut at about 37 km/s
    assert (batch["line_alpha"] == 0).all()


def test_oii_emitters_are_doublets():
    batch = mocks(num=256, oii_fraction=1.0, line_fraction=1.0, dirt=0.0)
    assert np.all(batch["line_alpha"] == 0) and np.all(batch["kind"] == 2)  # a doublet has no tail
    assert (batch["kind"] == 2).all()
    second = batch["profile"].copy()
    brightest = second.argmax(1)
    rows = np.arange(len(second))
    for shift in (-1, 0, 1):
        second[rows, np.clip(brightest + shift, 0, 1191)] = 0
    ratio = second.max(1) / batch["profile"].max(1)
    assert np.median(ratio) > 0.3  # a single line's profile would have fallen further


@pytest.mark.parametrize("setting", [{"line_law": "guess"}, {"line_profile": "box"}])
def test_unknown_law_is_one_clear_sentence(setting):
    with pytest.raises(UserError, match=LAWS[0]):
        make_simulator(config(**setting))
