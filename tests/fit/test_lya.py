"""The measurement of a line: closed forms, scipy, and the LESSER table simulated and measured again."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import skewnorm

from lensjax.fit import lya, skewnormal, staged
from lensjax.physics import grid

LOGLAM = grid.window(3800, 5000)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(8)


def spectra(flux, wave, omega, alpha, error, seed=0, level=0.2):
    """(flux, ivar, position) of noisy lines; omega in pixels, of the observed profile, mean at `wave`."""
    rng = np.random.default_rng(seed)
    position = grid.pixel(wave, LOGLAM)
    x = np.arange(len(LOGLAM)) - position[:, None]
    law = skewnorm(alpha[:, None], -omega[:, None] * skewnorm.mean(alpha)[:, None], omega[:, None])
    profile = sum(w / 2 * law.pdf(x + n / 2) for n, w in zip(NODES, WEIGHTS, strict=True))
    y = flux[:, None] * profile / (wave[:, None] * lya.ANGSTROM_PER_PIXEL) + level
    sigma = np.broadcast_to(np.asarray(error)[..., None], y.shape)
    return y + sigma * rng.normal(size=y.shape), sigma**-2.0, position


@pytest.fixture(scope="module")
def bright():
    """Three all but noiseless lines and their measurement."""
    truth = dict(
        flux=np.array([20.0, 30.0, 40.0]), wave=np.array([3950.0, 4321.3, 4888.8]), omega=np.array([2.2, 3.0, 4.0])
    )
    truth["alpha"] = np.array([1.5, -2.0, 1.0])
    y, ivar, position = spectra(**truth, error=np.full(3, 0.002))
    return truth, lya.fit_lines(y, ivar, np.rint(position + 1.4), LOGLAM, np.full(y.shape, 1.2), np.ones(y.shape))


def test_a_bright_line_is_recovered(bright):
    truth, table = bright
    np.testing.assert_allclose(table["flux"], truth["flux"], rtol=2e-3)
    np.testing.assert_allclose(table["wave"], truth["wave"], atol=0.01)
    np.testing.assert_allclose(table["alpha"], truth["alpha"], rtol=0.03)
    np.testing.assert_allclose(table["skewness"], skewnorm.stats(truth["alpha"], moments="s"), atol=0.01)
    np.testing.assert_allclose(table["ew"], truth["flux"] / 1.2, rtol=3e-3)
    assert (table["delta_chi2"] > 100).all() and (table["status"] == 0).all()


def test_fwhm_is_of_the_line_before_the_line_spread_function(bright):
    truth, table = bright
    for i, alpha in enumerate(truth["alpha"]):
        omega = truth["omega"][i]
        delta = alpha / np.sqrt(1 + alpha**2)
        own = np.sqrt(omega**2 - 1.2**2)
        shape = delta * omega / own
        law = skewnorm(shape / np.sqrt(1 - shape**2), scale=own)
        x = np.linspace(-15, 15, 30001)
        above = x[law.pdf(x) > law.pdf(x).max() / 2]
        assert table["fwhm"][i] == pytest.approx(np.ptp(above) * grid.PIXEL_KMS, rel=0.02)


@pytest.mark.parametrize(("width", "alpha"), [(1.2, 0.0), (1.2, 1.0), (2.0, 4.0)])
def test_model_is_the_integral_over_pixels(width, alpha):
    params = tuple(np.float32(v) for v in (1.0, 0.0, 0.3, np.log(width), skewnormal.skewness(alpha)))
    scale = width / skewnorm.std(alpha)
    law = skewnorm(alpha, 0.3 - scale * skewnorm.mean(alpha), scale)
    expected = [quad(law.pdf, i - 0.5, i + 0.5)[0] for i in range(-5, 6)]
    got = [float(skewnormal.line(params)(np.float32(i))[0]) for i in range(-5, 6)]
    np.testing.assert_allclose(got, expected, atol=2e-3 * max(expected))


def test_there_is_nothing_beyond_either_end_of_a_spectrum():
    cut = lya.cut(np.arange(1.0, 13.0).reshape(2, 6), np.array([0.4, 4.6]), half=2)
    assert cut.T.tolist() == [[0, 0, 1, 2, 3], [10, 11, 12, 0, 0]]


def test_shape_and_skewness_are_inverse():
    alpha = np.array([-25.0, -1.0, 0.0, 0.3, 4.0])
    np.testing.assert_allclose(skewnormal.shape(skewnormal.skewness(alpha)), alpha, atol=1e-6)


def test_edges_bad_pixels_and_nothing_at_all():
    y, ivar, position = spectra(np.full(3, 20.0), np.full(3, 4300.0), np.full(3, 2.5), np.full(3, 2.0), np.full(3, 0.3))
    y[0, 540], ivar[0, 540], ivar[2] = np.nan, 0, 0
    position[1] = 2.0  # a hit with no line, at the edge of the window
    table = lya.fit_lines(y, ivar, position, LOGLAM)
    assert table["status"].tolist()[2] == 3 and table["dof"][2] < 0
    assert table["dof"][1] == 22 - 5 + 1
    assert all(np.isfinite(column[:2]).all() for name, column in table.items() if not name.startswith("ew"))
    with pytest.raises(ValueError, match="expected"):
        lya.fit_lines(y, ivar, position[:2], LOGLAM)


@pytest.fixture(scope="module", autouse=True)
def one_shape():
    """Calls of one size: fewer programs to compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staged, "CHUNK", 500)
        patch.setattr(staged, "SIZES", ())
        yield


def test_bad_pixels_on_one_flank_leave_a_line_where_it_is():
    """Where the mean is all but free, so is its bias: no correction may take the line out of its window."""
    num = 128
    wave = np.linspace(3900.0, 4900.0, num)
    shape = np.full(num, 1.5), np.zeros(num), np.full(num, 1.0)
    y, ivar, position = spectra(np.full(num, 30.0), wave, *shape, seed=3)
    nearest = np.rint(position).astype(int)
    for pixel in range(8):
        rows = np.arange(num) % 8 > pixel
        ivar = ivar.copy()
        ivar[np.flatnonzero(rows), nearest[rows] + pixel] = 0
    table = lya.fit_lines(y, ivar, position, LOGLAM)
    assert np.abs(grid.pixel(table["wave"], LOGLAM) - nearest).max() <= lya.MAX_OFFSET + 0.5
    assert np.nanmax(table["wave_err"]) > 100  # and this is what the error of such a line says


def test_pulls_and_coverage():
    """Flux, wavelength and level at S/N of some 15; the interval of alpha (benchmarks/fits.py: on 20,000 lines)."""
    num = 1500
    rng = np.random.default_rng(5)
    alpha = np.exp(rng.uniform(np.log(0.5), np.log(5), num))
    truth = {"flux": np.full(num, 15.0), "wave": rng.uniform(4200, 4900, num)}
    table = lya.fit_lines(*spectra(**truth, omega=np.full(num, 2.6), alpha=alpha, error=np.full(num, 0.35)), LOGLAM)
    truth |= {"level": np.full(num, 0.2), "z_source": truth["wave"] / 1215.67 - 1}
    for name in truth:
        pull = (table[name] - truth[name]) / table[f"{name}_err"]
        assert abs(pull.mean()) < 0.05 + 3 / np.sqrt(num) and abs(pull.std() - 1) < 0.05 + 3 / np.sqrt(2 * num)
    held = (table["alpha_lower"] <= alpha) & (alpha <= table["alpha_upper"])
    assert held.mean() == pytest.approx(0.68, abs=0.02 + 3 * 0.012)


def test_the_error_of_the_equivalent_width_is_the_scatter_of_the_ratio():
    """Flux and level are anticorrelated: a high level takes from the flux, and adds to what divides it."""
    rng, centre = np.random.default_rng(6), np.log10(4500.0)
    spread = np.diag([0.3, 0.04, 0.1, 0.1, 0.1]) ** 2
    spread[0, 1] = spread[1, 0] = -0.8 * 0.3 * 0.04
    draws = rng.multivariate_normal([8.0, 0.1, 0.0, 0.7, 0.5], spread, 100_000).T

    def ew(params, covariance):
        number = params.shape[1]
        solution = staged.Solution(params, np.repeat(covariance[..., None], number, -1), *[np.zeros(number)] * 4)
        error = np.sqrt(np.diagonal(solution.covariance).T)
        table = lya._line_columns(solution, np.zeros_like(params), error, np.full(number, centre), np.full(number, 0.9))
        return table["ew"], table["ew_err"]

    best, error = ew(np.array([[8.0], [0.1], [0.0], [0.7], [0.5]]), spread)
    assert best[0] == pytest.approx(8.0 * 4500 * 2.302585e-4, rel=1e-5)
    assert error[0] == pytest.approx(ew(draws, spread)[0].std(), rel=0.02)


def test_a_mirrored_line_has_the_opposite_skewness_and_the_inverse_asymmetry():
    red, blue = (lya._shape_columns(*(sign * np.array([g]) for g in (0.5, 0.3, 0.7))) for sign in (1, -1))
    np.testing.assert_allclose(red["a_lambda"] * blue["a_lambda"], 1)
    np.testing.assert_allclose(red["alpha"], -blue["alpha"])
    assert red["a_lambda"][0] > 1 and red["a_lambda_lower"][0] < red["a_lambda"][0] < red["a_lambda_upper"][0]


def test_the_lesser_table_simulated_is_measured_without_bias(real_data):
    """Main lines of the hits of Cao et al. 2020 within the cuts below, errors as on BOSS galaxies."""
    from astropy.table import Table

    table = Table.read(real_data / "tables" / "lesser_hits.fits")
    flux, wave, width, alpha = (np.array(table[f"main_{n}"], float) for n in ("flux", "wave", "width", "skewness"))
    ok = (flux > 5) & (flux < 100) & (wave > 3850) & (wave < 4950) & (width > 1.2) & (width < 8) & (abs(alpha) < 15)
    flux, wave, width, alpha = (a[ok] for a in (flux, wave, width, alpha))
    error = np.interp(wave, [3750, 3900, 4100, 4300, 4500, 4700, 4900], [1.17, 0.67, 0.52, 0.42, 0.37, 0.34, 0.32])
    omega = width / (wave * lya.ANGSTROM_PER_PIXEL)
    got = lya.fit_lines(*spectra(flux, wave, omega, alpha, error), LOGLAM)
    sigma = omega * skewnorm.std(alpha) * grid.PIXEL_KMS
    tolerance = 3 * 1.25 / np.sqrt(len(flux))  # of a median, in sigma
    for name, truth in (("flux", flux), ("sigma", sigma)):
        assert abs(np.median((got[name] - truth) / got[f"{name}_err"])) < tolerance
        assert np.median(got[name] / truth) == pytest.approx(1, abs=0.03)
    assert np.mean(got["alpha"] > alpha) == pytest.approx(0.5, abs=1.5 / np.sqrt(len(flux)))
    held = (got["alpha_lower"] <= alpha) & (alpha <= got["alpha_upper"])
    assert held.mean() == pytest.approx(0.68, abs=0.02 + 1.5 / np.sqrt(len(flux)))
