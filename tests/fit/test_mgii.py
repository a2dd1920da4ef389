"""Absorption doublets: exact profiles, scipy and lmfit as oracles, errors against scatter, neighbours, no data.

Every fit here is of at most 128 absorbers, so that one shape is compiled.
"""

import lmfit
import numpy as np
import pytest
from scipy.optimize import least_squares

from lensjax.fit import doublet, mgii, staged
from lensjax.physics import grid, lines
from tests.fit import absorbed

LOGLAM = grid.window(5540, 5780)
BATCH, ROUNDS = 128, 16


def fit(mock, **changes):
    return mgii.fit_doublets(mock["flux"], mock["ivar"], mock["guess"], LOGLAM, mock["wdisp"], **changes)


@pytest.fixture(scope="module")
def measured():
    """Many mocks and what is measured of them, joined: (truth, columns)."""
    mocks = [absorbed.draw(BATCH, seed, LOGLAM) for seed in range(ROUNDS)]
    tables = [fit(mock) for mock in mocks]
    return tuple(
        {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} for parts in (mocks, tables)
    )


def test_model_is_the_exact_profile():
    half = 40
    for depth, ew in ((0.3, 0.5), (3.0, 1.5), (30.0, 3.0), (30.0, 6.0)):
        found = absorbed.spectra(LOGLAM, np.array([1.02]), np.array([ew]), np.array([depth]), [1e6], lsf=1.0)
        position = grid.pixel(mgii.MIDDLE * 2.02, LOGLAM)
        place = int(np.rint(position))
        pixel = lines.MGII[0] * np.log(10) * grid.STEP
        square = found["width"][0] ** 2 + 1 + 1 / 12
        ews = [found["ew_2796"][0] / pixel, found["ew_2803"][0] / pixel * lines.MGII[0] / lines.MGII[1]]
        params = np.array([*ews, position - place, 0.5 * np.log(square), 5.0, 0.0, 0.0])[:, None]
        model = doublet.values(np.repeat(params, 2, axis=1), half)[0][:, 0]
        exact = found["flux"][0, place - half : place + half + 1]
        np.testing.assert_allclose(model / 5, exact / 5, atol=0.015)
        np.testing.assert_allclose((1 - model / 5).sum(), (1 - exact / 5).sum(), rtol=3e-3)


def test_derivatives_are_those_of_the_model():
    params = np.array([3.0, 1.7, 0.4, 0.5, 1.1, 0.1, -0.05])
    x, model = np.float64(5.2), doublet.make_model(40)
    import jax

    with jax.enable_x64(True):
        slopes = model(tuple(params))(x)[1]
        for i, slope in enumerate(slopes):
            step = 1e-5 * (np.arange(7) == i)
            low, high = (float(model(tuple(params + s * step))(x)[0]) for s in (-1, 1))
            assert float(slope) == pytest.approx((high - low) / 2e-5, rel=1e-5, abs=1e-8)


def test_pulls_of_widths_and_redshifts(measured):
    truth, table = measured
    good = (table["status"] == 0) & (table["snr"] > 8)
    assert good.mean() > 0.6
    for name in ("ew_2796", "ew_2803", "z_abs"):
        pull = ((table[name] - truth[name if name[0] == "e" else "z"]) / table[f"{name}_err"])[good]
        assert 0.9 < np.diff(np.percentile(pull, [15.87, 84.13]))[0] / 2 < 1.1
        assert abs(np.median(pull)) < 0.15
    bright = good & (table["snr_2803"] > 15)
    ratio, error, blue, red = (
        x[bright] for x in (table["ratio"], table["ratio_err"], truth["ew_2796"], truth["ew_2803"])
    )
    pull = (ratio - blue / red) / error
    np.testing.assert_allclose(ratio, (table["ew_2796"] / table["ew_2803"])[bright], rtol=1e-6)
    assert 0.9 < np.diff(np.percentile(pull, [15.87, 84.13]))[0] / 2 < 1.1 and abs(np.median(pull)) < 0.15
    apart = ((table["z_abs"] - truth["z"]) / (1 + truth["z"]))[good]
    assert np.sqrt(np.mean(apart**2)) < 1e-4


def test_faint_doublets_have_honest_errors_too(measured):
    truth, table = measured
    faint = (table["snr"] > 4) & (table["snr"] < 8) & (table["status"] < 2)
    pull = ((table["ew_2796"] - truth["ew_2796"]) / table["ew_2796_err"])[faint]
    assert np.std(pull) < 1.25 and abs(np.mean(pull)) < 0.4


def test_direct_sums_agree_and_are_less_precise(measured):
    truth, table = measured
    good = (table["status"] == 0) & (table["snr"] > 8)
    for name in ("ew_2796", "ew_2803"):
        pull = ((table[f"{name}_sum"] - truth[name]) / table[f"{name}_sum_err"])[good]
        assert 0.75 < np.std(pull) < 1.2
    assert np.median(table["ew_2796_sum_err"] / table["ew_2796_err"]) > 1


def test_saturated_lines_are_unbiased():
    num = 60
    ew, depth = np.repeat([1.0, 2.0, 3.0, 5.0, 7.0], num // 5), np.tile([5.0, 20.0, 100.0], num // 3)
    mock = absorbed.spectra(LOGLAM, np.full(num, 1.02), ew, depth, np.full(num, 300.0), slope=0.2)
    table = fit({**mock, "guess": np.full(num, 1.0202)})
    np.testing.assert_allclose(table["ew_2796"] / mock["ew_2796"], 1, atol=0.02)
    np.testing.assert_allclose(table["ew_2803"] / mock["ew_2803"], 1, atol=0.03)
    assert abs(np.mean(table["ew_2796"] / mock["ew_2796"]) - 1) < 0.005
    assert ((table["ratio"] > 0.95) & (table["ratio"] < 1.6)).all()


def test_width_is_that_of_the_light_that_is_missing():
    ew, depth = np.array([0.6, 1.2, 2.0, 3.0]), np.array([0.3, 1.0, 4.0, 10.0])
    mock = absorbed.spectra(LOGLAM, np.full(4, 1.02), ew, depth, np.full(4, 300.0))
    table = fit({**mock, "guess": np.full(4, 1.0201)})
    # Where 1 - exp(-tau) is half of its maximum.
    half_depth = -np.log1p(0.5 * np.expm1(-depth))
    exact = 2 * mock["width"] * np.sqrt(2 * np.log(depth / half_depth)) * mgii.ANGSTROM[0]
    np.testing.assert_allclose(table["fwhm"], exact, rtol=0.06)


def test_scipy_finds_the_same_minimum(measured):
    truth = absorbed.draw(4, 50, LOGLAM)
    position = grid.pixel(mgii.MIDDLE * (1 + truth["guess"]), LOGLAM)
    y, weight, _ = mgii.normalise(truth["flux"], truth["ivar"], position, None, doublet.HALF_WIDTH)
    solution = staged.solve(doublet.problem(), y, weight)
    lower, upper = np.array(doublet.problem().lower), np.array(doublet.problem().upper)
    import jax

    evaluate = jax.jit(lambda p, x: jax.vmap(lambda at: doublet.make_model(40)(tuple(p))(at)[0])(x))
    with jax.enable_x64(True):
        for i in range(4):
            root, data = np.sqrt(np.float64(weight[:, i])), np.float64(y[:, i])

            def residual(p, root=root, data=data):
                return (np.asarray(evaluate(p, doublet.abscissa(40))) - data) * root

            start = np.array([2.0, 1.5, 0.0, 0.5, 1.0, 0.0, 0.0])
            best = least_squares(residual, start, bounds=(lower, upper), x_scale="jac", xtol=1e-12, ftol=1e-12)
            spread = np.linalg.inv(best.jac.T @ best.jac)
            assert solution.chi2[i] == pytest.approx(2 * best.cost, rel=1e-4)
            error = np.sqrt(np.diagonal(spread))
            np.testing.assert_allclose(solution.params[:, i], best.x, atol=0.05 * error.max(), rtol=2e-3)
            np.testing.assert_allclose(np.sqrt(np.diagonal(solution.covariance[..., i])), error, rtol=0.03)


def test_lmfit_with_plain_gaussians_agrees_on_thin_lines():
    num = 6
    mock = absorbed.spectra(LOGLAM, np.full(num, 1.02), np.full(num, 0.8), np.full(num, 0.2), np.full(num, 40.0), 7)
    table = fit({**mock, "guess": np.full(num, 1.0201)})
    x = np.arange(len(LOGLAM), dtype=float)
    places = [grid.pixel(wave * 2.02, LOGLAM) for wave in lines.MGII]

    def model(x, a, b, shift, sigma, level, slope, curve):
        bells = [np.exp(-0.5 * ((x - p - shift) / sigma) ** 2) / sigma / np.sqrt(2 * np.pi) for p in places]
        u = (x - x.mean()) / len(x)
        return (level + slope * u + curve * u**2) * (1 - a * bells[0] - b * bells[1])

    near = np.abs(x - np.mean(places)) < doublet.HALF_WIDTH
    for i in range(num):
        peer = lmfit.Model(model)
        start = peer.make_params(
            a=1.0, b=0.7, shift=0.0, sigma=dict(value=2.0, min=0.5), level=5.0, slope=0.0, curve=0.0
        )
        weights = np.sqrt(np.float64(mock["ivar"][i, near]))
        result = peer.fit(np.float64(mock["flux"][i, near]), start, x=x[near], weights=weights)
        a = result.params["a"]
        assert table["ew_2796"][i] == pytest.approx(a.value * mgii.ANGSTROM[0], abs=0.5 * table["ew_2796_err"][i])
        assert table["ew_2796_err"][i] == pytest.approx(a.stderr * mgii.ANGSTROM[0], rel=0.3)


def test_a_neighbour_and_a_spike_are_left_out():
    num = 32
    mock = absorbed.draw(num, 11, LOGLAM, ew=(1.0, 2.0), snr=(15.0, 20.0))
    clean = fit(mock)
    dirty = {**mock, "flux": mock["flux"].copy()}
    place = np.rint(grid.pixel(mgii.MIDDLE * (1 + mock["z"]), LOGLAM)).astype(int)
    for i in range(num):
        dirty["flux"][i, place[i] + 24 : place[i] + 30] *= 0.2
        dirty["flux"][i, place[i] - 25] += 30
    table = fit(dirty)
    assert (table["masked"] >= 7).all()
    apart = (table["ew_2796"] - clean["ew_2796"]) / clean["ew_2796_err"]
    assert np.abs(np.median(apart)) < 0.3 and np.abs(apart).max() < 2


def test_outliers_are_sharp_or_shallow_and_wide_beside_the_lines_and_spikes_inside():
    params = np.array([2.0, 1.5, 0.0, np.log(1.5), 1.0, 0.0, 0.0])[:, None].repeat(4, 1)
    residual, middle = np.zeros((81, 4)), int(np.rint(doublet.PLACES[0])) + 40
    residual[65:70, 0] = -3.0  # three sigma, but several
    residual[65, 1] = -3.0
    residual[65, 2] = -6.0
    residual[middle, 3], residual[middle + 1, 3] = 9.0, -9.0  # in 2796, whose depth is what is fitted
    found = mgii.outliers(residual, np.ones_like(residual), params)
    assert [np.flatnonzero(column).tolist() for column in found.T] == [
        list(range(64, 71)), [], list(range(63, 68)), [middle]
    ]  # fmt: skip


def test_errors_that_are_stated_too_small_are_widened():
    mock = absorbed.draw(BATCH, 14, LOGLAM, ew=(1.0, 2.0), snr=(15.0, 30.0))
    plain, table = fit(mock), fit({**mock, "ivar": 4 * mock["ivar"]})
    assert np.median(table["scale"]) == pytest.approx(2.0, abs=0.25)  # less two sigma of chi2
    for name in ("ew_2796", "ew_2803", "z_abs"):
        assert np.median(table[f"{name}_err"] / plain[f"{name}_err"]) == pytest.approx(1.0, abs=0.15)


def test_a_continuum_that_is_given_is_divided_out():
    mock = absorbed.draw(16, 12, LOGLAM, ew=(1.0, 2.0), snr=(40.0, 50.0))
    bump = 1 + 2 * np.exp(-0.5 * ((np.arange(len(LOGLAM)) - 0.5 * len(LOGLAM)) / 12) ** 2)[None]
    shaped = {**mock, "flux": mock["flux"] * bump, "ivar": mock["ivar"] / bump**2}
    plain, table = fit(mock), fit(shaped, continuum=np.broadcast_to(3 * bump, mock["flux"].shape))
    np.testing.assert_allclose(table["ew_2796"], plain["ew_2796"], rtol=1e-2)
    np.testing.assert_allclose(table["level"] / bump.max(), plain["level"], rtol=0.1)


def test_the_level_is_the_continuum_at_the_doublet_however_it_bends():
    mock = absorbed.draw(16, 12, LOGLAM, ew=(1.0, 2.0), snr=(40.0, 50.0))
    away = (np.arange(len(LOGLAM)) - grid.pixel(mgii.MIDDLE * (1 + mock["z"]), LOGLAM)[:, None]) / 30
    bent = 1 + 0.3 * np.minimum(away**2, 4)
    table = fit({**mock, "flux": mock["flux"] * bent, "ivar": mock["ivar"] / bent**2})
    np.testing.assert_allclose(table["level"], fit(mock)["level"], rtol=0.03)


def test_edges_bad_pixels_and_nothing_at_all():
    mock = absorbed.draw(5, 13, LOGLAM, ew=(1.0, 2.0), snr=(20.0, 30.0))
    flux, ivar = mock["flux"], mock["ivar"]
    place = np.rint(grid.pixel(lines.MGII[0] * (1 + mock["z"]), LOGLAM)).astype(int)
    flux[0, 3], ivar[0, 3] = np.nan, 0  # what a bad pixel holds may not be finite
    ivar[1] = 0
    ivar[2, place[2] - 5 : place[2] + 5] = 0  # 2796 is not seen
    flux[3] = -flux[3]
    mock["guess"][4] = 1.5  # outside
    table = fit(mock)
    assert table["status"][0] == 0 and (table["status"][[1, 3, 4]] == staged.NO_DATA).all()
    assert table["good_2796"][2] < 0.2 and table["good_2803"][2] > 0.9
    assert np.isinf(table["ew_2796_err"][1]) or table["status"][1] == staged.NO_DATA


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"expected \(1, 3\)"):
        mgii.fit_doublets(np.ones((2, 3)), np.ones((2, 3)), np.ones(1), LOGLAM[:3])
