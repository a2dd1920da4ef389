"""The continuum fit against float64 least squares, on well and badly conditioned columns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.fit import templates
from lensjax.physics import grid

WINDOW = grid.window(3800.0, 5000.0)
NUM = len(WINDOW)


def smooth_basis(seed: int = 0, length: int = 6000, loglam0: float = 3.3) -> templates.Basis:
    """Four spectra of random absorption lines on a rising continuum."""
    rng = np.random.default_rng(seed)
    pixel = np.arange(length)
    vectors = [1.0 + pixel / length + 0.1 * np.convolve(rng.normal(size=length), np.ones(20), "same") for _ in range(4)]
    return templates.Basis(loglam0, np.asarray(vectors, np.float32))


def spectrum(design, seed=1):
    rng = np.random.default_rng(seed)
    ivar = rng.uniform(0.5, 5.0, NUM) * (rng.uniform(size=NUM) > 0.1)
    clean = np.array([0.5, 0.2, 0.1, 0.3, 0.05, -0.02, 0.01]) @ np.asarray(design, np.float64)
    return (clean + rng.normal(size=NUM) * 0.5).astype(np.float32), ivar.astype(np.float32)


def reference(flux, ivar, design):
    root = np.sqrt(ivar.astype(np.float64))
    design = np.asarray(design, np.float64)
    return np.linalg.lstsq((design * root).T, flux * root, rcond=None)[0] @ design


@pytest.mark.parametrize("z", [0.31, 0.55, 0.9])
def test_shift_is_linear_interpolation_in_log_wavelength(z):
    basis = smooth_basis()
    rest = basis.loglam0 + np.arange(basis.vectors.shape[1]) * grid.STEP
    wanted = WINDOW - np.log10(1 + z)
    expected = np.stack([np.interp(wanted, rest, v) for v in basis.vectors])
    shifted = templates.shift_basis(basis, WINDOW[0], NUM, jnp.float32(z))
    np.testing.assert_allclose(shifted, expected, atol=2e-3)  # float32 redshift: 5e-4 px of a jagged spectrum


def test_pixels_beyond_the_templates_are_zero_and_the_rest_stay_aligned():
    whole, z = smooth_basis(), jnp.float32(0.4)
    full = np.asarray(templates.shift_basis(whole, WINDOW[0], NUM, z))
    cut = int((WINDOW[0] - np.log10(1.4) - whole.loglam0) / grid.STEP) + 300  # first template pixel inside the window
    short = templates.Basis(whole.loglam0 + cut * grid.STEP, whole.vectors[:, cut : cut + 500])
    part = np.asarray(templates.shift_basis(short, WINDOW[0], NUM, z))
    inside = np.any(part != 0, axis=0)
    assert 497 <= inside.sum() <= 499 and not inside[:299].any() and not inside[805:].any()
    np.testing.assert_allclose(part[:, inside], full[:, inside], atol=1e-3)
    far = templates.shift_basis(short, WINDOW[0], NUM, jnp.float32(9.0))
    assert np.all(np.asarray(far) == 0)


def test_fit_equals_float64_least_squares():
    design = templates.make_design(smooth_basis(), WINDOW[0], NUM, jnp.float32(0.5))
    flux, ivar = spectrum(design)
    model, chi2 = templates.fit_templates(flux, ivar, design)
    expected = reference(flux, ivar, design)
    np.testing.assert_allclose(model, expected, atol=2e-4)
    assert float(chi2) == pytest.approx(np.sum(ivar * (flux - expected) ** 2), rel=1e-4)


def test_fit_holds_where_columns_are_wildly_scaled_or_all_but_parallel():
    design = np.array(templates.make_design(smooth_basis(), WINDOW[0], NUM, jnp.float32(0.5)))
    flux, ivar = spectrum(design)
    best = np.sum(ivar * (flux - reference(flux, ivar, design)) ** 2)
    design[0] *= 1e8
    design[1] *= 1e-8
    design[3] = design[2]
    model, chi2 = templates.fit_templates(flux, ivar, design)
    exact = np.sum(ivar * (flux - reference(flux, ivar, np.delete(design, 3, 0))) ** 2)
    assert np.all(np.isfinite(model)) and float(chi2) < exact * 1.001 and exact < best * 1.1


def test_nothing_to_fit_gives_zero_and_a_zero_column_is_harmless():
    design = np.array(templates.make_design(smooth_basis(), WINDOW[0], NUM, jnp.float32(0.5)))
    flux, ivar = spectrum(design)
    model, chi2 = templates.fit_templates(flux, np.zeros(NUM, np.float32), design)
    assert np.all(np.asarray(model) == 0) and float(chi2) == 0
    design[2] = 0
    model, _ = templates.fit_templates(flux, ivar, design)
    np.testing.assert_allclose(model, reference(flux, ivar, np.delete(design, 2, 0)), atol=2e-4)


@pytest.mark.parametrize(
    "loglam0, z, seen", [(3.3, 0.3, 1.0), (3.4, 0.6, 0.80), (2.9, 0.3, 0.29), (3.4, 9.0, 0.0)], ids=str
)
def test_equations_at_rest_are_those_of_the_shifted_templates(loglam0, z, seen):
    rough = smooth_basis()
    smooth = np.stack([np.convolve(v, np.ones(25) / 25, "same") for v in rough.vectors])
    basis = templates.Basis(loglam0, smooth.astype(np.float32))
    design = np.asarray(templates.shift_basis(basis, WINDOW[0], NUM, z), np.float64)
    flux, ivar = spectrum(templates.make_design(rough, WINDOW[0], NUM, jnp.float32(0.5)))
    where = templates.place(basis, WINDOW[0], z)
    gram, moment = templates.equations_at_rest(flux, ivar, basis, where)
    np.testing.assert_allclose(gram, (design * ivar) @ design.T, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(moment, design @ (ivar * flux), rtol=1e-4, atol=1e-2)
    reached = templates.reached(smooth.shape[1], where, NUM)
    assert np.mean(reached) == pytest.approx(seen, abs=0.01)
    np.testing.assert_array_equal(reached, np.any(design != 0, axis=0))
    model = templates.observe(templates.solve(gram, moment) @ basis.vectors, where, NUM)
    np.testing.assert_allclose(model, templates.fit_templates(flux, ivar, design)[0], atol=2e-3)


@pytest.mark.parametrize("loglam0, z", [(3.3, 0.3), (3.3, 0.3001), (3.3, 0.30004), (3.4, 0.6), (2.9, 0.3)], ids=str)
def test_equations_of_summed_pixels_are_those_of_templates_that_are_smooth_over_them(loglam0, z):
    rough = smooth_basis()
    box = np.ones(60) / 60
    smooth = np.stack([np.convolve(np.convolve(v, box, "same"), box, "same") for v in rough.vectors])
    basis = templates.Basis(loglam0, smooth.astype(np.float32))
    flux, ivar = spectrum(templates.make_design(rough, WINDOW[0], NUM, jnp.float32(0.5)))
    where = templates.place(basis, WINDOW[0], jnp.float32(z))
    models = []
    for size in (1, 4):
        gram, moment = templates.equations_at_rest(flux, ivar, basis, where, size)
        models.append(templates.observe(templates.solve(gram, moment) @ basis.vectors, where, NUM))
    assert np.abs(models[0]).max() > 0.3
    np.testing.assert_allclose(models[1], models[0], atol=0.01)  # a third of the error of such a fit
    coarse, there = templates.coarser(basis, where, 4)
    np.testing.assert_allclose(coarse[:, 7], smooth[:, 28:32].mean(1), rtol=1e-5)
    assert float(4 * (there.whole + there.fraction)) == pytest.approx(float(where.whole + where.fraction), abs=1e-3)


def test_small_solve_equals_numpy():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(5, 5, 5))
    matrix = root @ root.transpose(0, 2, 1) + np.eye(5)
    vector = rng.normal(size=(5, 5))

    def solve(m, v):
        return jnp.stack(templates.solve_small([[m[i, j] for j in range(i + 1)] for i in range(5)], list(v)))

    got = jax.jit(jax.vmap(solve))(jnp.float32(matrix), jnp.float32(vector))
    np.testing.assert_allclose(got, np.linalg.solve(matrix, vector[..., None])[..., 0], rtol=2e-3, atol=1e-4)


def test_a_prior_is_that_of_the_bayesian_normal_equations():
    design = np.array(templates.make_design(smooth_basis(), WINDOW[0], NUM, jnp.float32(0.5)))
    flux, ivar = spectrum(design)
    width = np.array([np.inf, *np.geomspace(1e-3, 10, len(design) - 1)], np.float32)
    model, _ = templates.fit_templates(flux, ivar, design, width)
    rows = np.concatenate([design * np.sqrt(ivar), np.diag(1 / width)], axis=1)  # the prior as further data, all zero
    data = np.concatenate([flux * np.sqrt(ivar), np.zeros(len(design))])
    expected = np.linalg.lstsq(rows.T.astype(float), data, rcond=None)[0] @ design
    np.testing.assert_allclose(model, expected, atol=1e-3 * np.abs(flux).max())
    free, _ = templates.fit_templates(flux, ivar, design, np.full(len(design), np.inf, np.float32))
    np.testing.assert_allclose(free, templates.fit_templates(flux, ivar, design)[0], rtol=1e-6)
