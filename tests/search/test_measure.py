"""What is measured of a hit: continuum without the line, noise, spikes, neighbours, magnitude."""

import jax
import numpy as np
import pytest

from configs import lya
from lensjax.physics import filters, grid, lines
from lensjax.search import matched_filter, measure, spectra
from lensjax.surveys.block import make_block
from lensjax.surveys.write import write_spplate

CONFIG = lya.get_config("default")
LOGLAM = grid.window(3600, 9800)
WAVE = grid.wave(LOGLAM)
FIRST = grid.index0(grid.window(*CONFIG.data.window)) - grid.index0(LOGLAM)
KERNEL = filters.gaussian_kernel(CONFIG.search.matched_filter.sigma, CONFIG.search.matched_filter.taps)
PLACE = FIRST + 600


def galaxy(z):
    """The first template of the basis at redshift z, of flux about 1, on the whole range."""
    basis = matched_filter.load_basis(CONFIG)
    rest = basis.loglam0 + grid.STEP * np.arange(basis.vectors.shape[1])
    flux = np.interp(LOGLAM - np.log10(1 + z), rest, np.asarray(basis.vectors[0]))
    return flux / np.abs(flux).mean()


def bump(place, height, sigma=2.2):
    return height * np.exp(-0.5 * ((np.arange(len(LOGLAM)) - place) / sigma) ** 2)


@pytest.fixture(scope="module")
def subtract():
    return jax.jit(measure.make_subtraction(CONFIG, LOGLAM))


def subtracted(subtract, flux, ivar=None, z=0.5, place=PLACE):
    ivar = np.full(len(LOGLAM), 25.0) if ivar is None else ivar
    return jax.device_get(subtract(np.float32(flux), np.float32(ivar), np.float32(z), np.float32(place)))


def test_the_galaxy_goes_and_the_line_stays(subtract):
    line = bump(PLACE + 3, 2.0)  # the scorer was three pixels off
    out = subtracted(subtract, galaxy(0.5) + line)
    assert out["position"] == PLACE + 3
    np.testing.assert_allclose(out["residual"], line, atol=0.04)
    assert out["continuum"] == pytest.approx(galaxy(0.5)[PLACE + 3], abs=0.02)
    assert (out["noise"], out["noise_scale"], out["bad_fraction"]) == (pytest.approx(0.2), 1.0, 0.0)
    assert out["num_hits"] == 1


def test_noise_and_bad_pixels_are_those_around_the_line(subtract):
    rng = np.random.default_rng(0)
    ivar = np.full(len(LOGLAM), 25.0)
    ivar[PLACE + 5 : PLACE + 10] = 0
    out = subtracted(subtract, galaxy(0.5) + 0.6 * rng.normal(size=len(LOGLAM)) + bump(PLACE, 6.0), ivar)
    assert out["noise_scale"] == pytest.approx(3.0, rel=0.1)  # stated errors are a third of the truth
    assert out["noise"] == pytest.approx(0.2 * out["noise_scale"], rel=1e-3)
    assert out["bad_fraction"] == pytest.approx(5 / 21, abs=0.04)
    np.testing.assert_allclose(out["ivar"][PLACE - 5], 25 / out["noise_scale"] ** 2, rtol=1e-5)


def test_a_spike_fills_the_filter_and_a_line_does_not():
    for flux, low, high in (
        (bump(100, 1.0), 0.15, 0.3),
        (bump(100, 1.0, 1.0), 0.35, 0.5),
        (bump(100, 1.0, 0.1), 0.99, 1.0),
    ):
        signal = np.float32(flux[:200])
        share = float(measure.pixel_fraction(signal, 100, KERNEL))
        assert low < share <= high + 1e-5
        for fraction in (share - 0.01, share + 0.01):
            lone = matched_filter.lone_pixels(signal, np.ones(200, np.float32), KERNEL, fraction)
            assert bool(lone[100]) == (share > fraction)
    assert np.isinf(measure.pixel_fraction(np.float32(-bump(100, 1.0)[:200]), 100, KERNEL))


def test_sky_fibers_of_any_redshift_are_measured(subtract):
    """At z = 5 no template reaches the window: polynomials alone, and no pixel is lost."""
    out = subtracted(subtract, bump(PLACE, 2.0) + 0.3, z=5.0)
    assert out["position"] == PLACE and out["residual"][PLACE] == pytest.approx(2.0, abs=0.05)
    assert out["noise"] == pytest.approx(0.2, rel=1e-3)


def test_magnitude_of_a_flat_spectrum():
    """f_nu of 3631 Jy x 10^(-0.4 x 20) is 20 mag, whatever the band."""
    f_nu = 3.631e-20 * 10 ** (-0.4 * 20)
    flux = (f_nu * 2.99792458e18 / WAVE**2 / 1e-17)[None]
    assert measure.magnitude(flux, np.ones_like(flux), LOGLAM)[0] == pytest.approx(20.0, abs=0.01)
    assert np.isnan(measure.magnitude(-flux, np.ones_like(flux), LOGLAM)[0])
    assert np.isnan(measure.magnitude(flux, np.zeros_like(flux), LOGLAM)[0])


def test_neighbours_are_the_fibers_beside_on_the_same_spectrograph(tmp_path):
    window = grid.window(4000, 4050)
    flux = np.arange(1.0, 503.0)[:, None] * np.ones(len(window))  # the flux says which fiber it is
    path = tmp_path / "spPlate-4000-55600.fits"
    write_spplate(path, window, flux, np.ones_like(flux), {"z": np.full(502, 0.5), "class": "GALAXY"})
    fibers = np.array([1, 250, 500, 501, 502])
    hits = {"file": np.full(5, str(path)), "row": fibers - 1, "plate": np.full(5, 4000), "fiberid": fibers}
    chunks = list(spectra.read_hits(hits, window, 2))
    assert [len(chunk.rows) for chunk in chunks] == [2, 2, 1] and all(chunk.readable.all() for chunk in chunks)
    own = np.concatenate([chunk.flux[:, 0] for chunk in chunks])
    beside = np.concatenate([chunk.beside_flux[:, :, 0] for chunk in chunks])
    assert own.tolist() == fibers.tolist()
    assert beside.tolist() == [[0, 2], [249, 251], [499, 0], [0, 502], [501, 0]]
    ivar = np.concatenate([chunk.beside_ivar[:, :, 0] for chunk in chunks])
    assert ((ivar > 0) == (beside > 0)).all()


def test_fibers_of_desi_are_counted_from_zero_500_to_a_spectrograph():
    fibers = np.array([0, 1, 320, 321, 499, 500])
    flux = np.ones((6, 3), np.float32)
    block = make_block(flux, flux, flux, flux < 0, {"fiberid": fibers, "plate": -1, "z": 0.5}, LOGLAM[:3])
    before, behind = (spectra._beside(block, np.arange(6), step).tolist() for step in (-1, 1))
    assert before == [-1, 0, -1, 2, -1, -1] and behind == [1, -1, 3, -1, -1, -1]


def test_light_of_a_bright_neighbour_is_measured():
    num = len(LOGLAM)
    own, bright = bump(PLACE, 1.0)[None], bump(PLACE, 30.0)[None] + 50.0
    beside = np.stack([np.zeros_like(own), bright], axis=1)
    ivar = np.full((1, num), 25.0)
    chunk = spectra.Chunk(
        np.zeros(1, int), own, ivar, np.ones_like(own), np.ones(1, bool), beside, np.stack([0 * ivar, ivar], axis=1)
    )
    out = measure._measure_neighbours(
        chunk, np.array([float(PLACE)]), {"sigma": np.array([2.2 * grid.PIXEL_KMS])}, ivar
    )
    assert out["neighbour_ratio"][0] == pytest.approx(30.0, rel=1e-3) and out["neighbour_snr"][0] > 100
    alone = chunk._replace(beside_ivar=0 * chunk.beside_ivar)
    out = measure._measure_neighbours(alone, np.array([float(PLACE)]), {"sigma": np.array([150.0])}, ivar)
    assert np.isnan(out["neighbour_ratio"][0]) and np.isnan(out["neighbour_snr"][0])


def test_the_lenss_own_lines_of_the_config_are_kept_out_of_the_continuum():
    """A broad Halpha, which the variant of the whole spectrum masks, does not bend the fit beside it."""
    z, config = 0.4, lya.get_config("redshift")
    place = int(np.argmin(np.abs(WAVE - 6564.6 * (1 + z))))
    flux = galaxy(z) + bump(place, 8.0, sigma=4.0)
    errors = []
    for chosen in (config, CONFIG):
        out = subtracted(jax.jit(measure.make_subtraction(chosen, LOGLAM)), flux, z=z, place=place - 400)
        beside = slice(place - 30, place + 31)
        errors.append(np.abs(out["model"][beside] - galaxy(z)[beside]).max())
    assert errors[0] < 0.2 * errors[1]


def test_peak_contrast_and_widths_are_in_the_units_of_the_columns(monkeypatch):
    """A Gaussian's peak is flux / (sqrt(2 pi) sigma), sigma in Angstrom, whatever the grid."""
    wave, place = grid.wave(LOGLAM)[[500, 900]], np.array([500.0, 900.0])
    fitted = {"flux": np.array([13.0, 20.0]), "sigma": np.array([150.0, 300.0]), "wave": wave}
    fitted |= {"status": np.zeros(2, int), "snr": np.full(2, 8.0)}
    monkeypatch.setattr(measure.lya, "fit_lines", lambda *arguments: dict(fitted))
    model, wdisp = np.tile(np.linspace(1, 2, len(LOGLAM)), (2, 1)), np.tile(np.linspace(0.9, 1.3, len(LOGLAM)), (2, 1))
    out = measure._measure_line(model, model, model, place, LOGLAM, wdisp)
    peak = fitted["flux"] / np.sqrt(2 * np.pi) / (fitted["sigma"] / 299_792.458 * wave)
    np.testing.assert_allclose(out["peak"], peak, rtol=1e-6)
    np.testing.assert_allclose(out["contrast"], peak / model[0, [500, 900]], rtol=1e-6)
    np.testing.assert_allclose(out["lsf"], 69.03 * wdisp[0, [500, 900]], rtol=1e-4)


def test_companions_on_lines_of_the_sky_or_of_the_lens_do_not_count(monkeypatch):
    """The second line would, as [OII], have its Hbeta at 5578.9 A of the sky and its Halpha at [OIII] of the lens."""
    z_oii = np.array([0.25, 5578.9 / lines.HBETA - 1])
    z = np.array([0.5, lines.HALPHA / lines.OIII[1] * (1 + z_oii[1]) - 1])
    doublet = {"z_oii": z_oii, "oii_sigma": np.full(2, 1.3), "oii_flux": np.full(2, 20.0), "oii_chi2": np.full(2, 50.0)}
    monkeypatch.setattr(measure.oii, "fit_doublet", lambda *arguments: dict(doublet))
    flux, ivar = np.zeros((2, len(LOGLAM))), np.full((2, len(LOGLAM)), 4.0)
    chunk = spectra.Chunk(np.arange(2), flux, ivar, ivar, np.ones(2, bool), flux, flux)
    wave = lines.OII * (1 + z_oii)
    line = {"wave": wave, "flux": np.full(2, 20.0), "sigma": np.full(2, 150.0), "chi2": np.full(2, 30.0)}
    place = grid.pixel(wave, LOGLAM)
    out = measure._measure_rivals(chunk, flux, ivar, place, LOGLAM, z.astype(np.float32), line, CONFIG.vet)
    seen = [np.isfinite(out[f"flux_{name}_err"]).tolist() for name in ("hbeta", "oiii", "halpha")]
    assert seen == [[True, False], [True, True], [True, False]]
    assert out["oii_delta_chi2"].tolist() == [-20.0, -20.0]  # the doublet fits worse
    assert (chunk.ivar == 4).all()
