"""The traditional search against a plain numpy loop in float64, and its decisions on spectra made by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import lya
from lensjax.physics import grid, lines
from lensjax.search import matched_filter

CONFIG = lya.get_config("default")
SETTINGS = CONFIG.search.matched_filter
LOGLAM = grid.window(*CONFIG.data.window)
WAVE = 10**LOGLAM
NUM = len(LOGLAM)


@pytest.fixture(scope="module")
def predict():
    return {p: jax.jit(matched_filter.make_predict(CONFIG, practical=p)) for p in (False, True)}


def mock_spectra(num=24, seed=0):
    """Galaxies of the basis with noise that is 1.3 times the stated errors, gaps, and a line in every second one."""
    rng = np.random.default_rng(seed)
    basis = matched_filter.load_basis(CONFIG)
    rest = basis.loglam0 + 1e-4 * np.arange(basis.vectors.shape[1])
    flux, ivar = np.zeros((num, NUM)), np.zeros((num, NUM))
    z = rng.uniform(0.3, 0.8, num)
    for i in range(num):
        shape = np.array([np.interp(LOGLAM - np.log10(1 + z[i]), rest, v) for v in basis.vectors])
        flux[i] = 0.3 * shape[0] + 0.05 * rng.normal(size=3) @ shape[1:] + 0.05 * (WAVE / 4400 - 1)
        sigma = 0.4 * (4400 / WAVE) ** 2 * rng.uniform(0.7, 1.4)
        ivar[i] = sigma**-2 * (rng.uniform(size=NUM) > 0.03)
        flux[i] += 1.3 * sigma * rng.normal(size=NUM)
        flux[i] += (i % 2) * 3.0 * np.exp(-0.5 * ((np.arange(NUM) - rng.uniform(50, NUM - 50)) / 2.0) ** 2)
    return {"flux": np.float32(flux), "ivar": np.float32(ivar), "z": np.float32(z)}


def loop_over_pixels(flux, ivar, z):
    """The recipe of Shu et al. (2016) for one spectrum, step by step in float64. Returns S/N (P,)."""
    flux, ivar = np.float64(flux), np.float64(ivar)
    pixel = np.arange(NUM)
    observed = [*lines.SKY_LINES, *((1 + z) * np.array([*lines.LENS_EMISSION, *lines.EMPIRICAL_REST]))]
    for line in observed:
        ivar[np.abs(pixel - (np.log10(line) - LOGLAM[0]) / 1e-4) <= 10] = 0
    basis = matched_filter.load_basis(CONFIG)
    rest = basis.loglam0 + 1e-4 * np.arange(basis.vectors.shape[1])
    columns = [np.interp(LOGLAM - np.log10(1 + np.float64(z)), rest, v) for v in basis.vectors]
    columns += [(pixel / NUM) ** k for k in range(3)]
    design, root = np.array(columns).T, np.sqrt(ivar)
    residual = flux - design @ np.linalg.lstsq(design * root[:, None], flux * root, rcond=None)[0]
    low, high = np.quantile((residual * root)[ivar > 0], [0.025, 0.975], method="inverted_cdf")
    ivar /= max((high - low) / 4, 1) ** 2
    per_pixel = WAVE * np.log(10) * 1e-4
    residual, ivar = residual * per_pixel, ivar / per_pixel**2
    kernel = np.exp(-0.5 * (np.arange(-7, 8) / 2.2) ** 2)
    snr = np.zeros(NUM)
    for p in range(NUM):
        inside = [(p + j, kernel[j + 7]) for j in range(-7, 8) if 0 <= p + j < NUM]
        weight = sum(ivar[i] * k**2 for i, k in inside)
        snr[p] = sum(residual[i] * ivar[i] * k for i, k in inside) / np.sqrt(weight) if weight > 0 else 0
    return snr


def test_equals_the_plain_loop():
    batch = mock_spectra()
    basis = matched_filter.load_basis(CONFIG)

    def significance(example):
        return matched_filter.significance(example, basis, LOGLAM, SETTINGS, False)

    snr = np.asarray(jax.jit(jax.vmap(significance))(batch))
    expected = np.array([loop_over_pixels(*row) for row in zip(*batch.values(), strict=True)])
    np.testing.assert_allclose(snr, expected, atol=0.02)
    assert expected.max() > 8 and expected[::2].max() < 6  # lines in every second spectrum, none elsewhere


def test_predictions_follow_the_plain_loop(predict):
    batch = mock_spectra(seed=1)
    out = predict[False](None, None, batch)
    expected = np.array([loop_over_pixels(*row) for row in zip(*batch.values(), strict=True)])
    np.testing.assert_allclose(out["snr"], expected.max(1), atol=0.02)
    np.testing.assert_allclose(out["wave"], WAVE[expected.argmax(1)], rtol=1e-6)
    np.testing.assert_allclose(out["score"], 1 / (1 + np.exp(6 - expected.max(1))), atol=0.01)
    assert np.all(np.asarray(out["status"]) == matched_filter.OK)


def test_score_is_one_half_exactly_at_the_threshold():
    snr = np.zeros(NUM, np.float32)
    snr[300] = 6.0
    out = matched_filter.decide(jnp.asarray(snr), LOGLAM, SETTINGS)
    assert float(out["score"]) == 0.5 and float(out["logit"]) == 0.0
    assert float(out["wave"]) == pytest.approx(WAVE[300], rel=1e-6) and int(out["hits"]) == 1


@pytest.mark.parametrize("hits, status", [(5, matched_filter.OK), (6, matched_filter.TOO_MANY_HITS)])
def test_spectra_with_more_than_five_hits_are_dropped(hits, status):
    snr = np.zeros(NUM, np.float32)
    for i in range(hits):
        snr[100 * i : 100 * i + 4] = 9.0  # one block each, the first at the very edge
    out = matched_filter.decide(jnp.asarray(snr), LOGLAM, SETTINGS)
    assert (int(out["hits"]), int(out["status"])) == (hits, status)
    assert (float(out["score"]) > 0.5) == (status == matched_filter.OK)


def test_practical_filter_rejects_a_spike_and_keeps_an_unresolved_line(predict):
    batch = {name: np.repeat(values[:1], 2, axis=0) for name, values in mock_spectra(2, seed=3).items()}
    batch["ivar"][:] = np.maximum(batch["ivar"], 1.0)
    batch["flux"][0, 800] += 30.0
    batch["flux"][1] += 5.0 * np.exp(-0.5 * (np.arange(NUM) - 800.0) ** 2)  # sigma of one pixel
    traditional, practical = (predict[p](None, None, batch) for p in (False, True))
    assert np.all(np.asarray(traditional["score"]) > 0.5)
    assert float(practical["score"][0]) < 0.5 < float(practical["score"][1])
    assert float(practical["snr"][1]) == pytest.approx(float(traditional["snr"][1]), rel=0.05)  # other masks


def test_lines_of_the_galaxy_and_of_the_sky_are_masked():
    z = 0.3
    masked = np.asarray(matched_filter.mask_lines(jnp.float32(z), LOGLAM, 10))

    def at(wave):
        return round(float(grid.pixel(wave, LOGLAM)))

    assert masked[at(lines.OII * (1 + z))] and masked[at(4359.6)] and not masked[at(4500.0)]
    assert masked[at(4359.6) + 9] and not masked[at(4359.6) + 12]


def test_a_spectrum_without_data_says_so(predict):
    out = predict[False](None, None, {name: values * 0 for name, values in mock_spectra(2).items()})
    assert np.all(np.asarray(out["status"]) == matched_filter.NO_DATA)
    assert np.all(np.asarray(out["snr"]) == 0) and np.all(np.asarray(out["score"]) < 0.01)


def test_the_practical_filter_masks_the_lines_of_the_config():
    z, line = 0.3, 3600.0
    flux = 20.0 * np.exp(-0.5 * ((np.arange(NUM) - float(grid.pixel(line * (1 + z), LOGLAM))) / 2.0) ** 2)
    batch = {"flux": flux[None], "ivar": np.ones((1, NUM)), "z": np.array([z])}
    batch = {name: np.float32(values) for name, values in batch.items()}
    scores = []
    for masked in (CONFIG.data.masked_lines, (*CONFIG.data.masked_lines, line)):
        config = CONFIG.copy_and_resolve_references()
        config.data.masked_lines = masked
        scores.append(float(matched_filter.make_predict(config, practical=True)(None, None, batch)["score"][0]))
    assert scores[0] > 0.5 > scores[1]
