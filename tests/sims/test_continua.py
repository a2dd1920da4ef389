"""Continua: the shipped basis, eigenspectra files, and the decomposition of a user's own spectra."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.sims import continua, quasars

LOGLAM = grid.window(3800.0, 5000.0)


def draw(basis, z, num=64):
    row, centre = continua.snap(basis, jnp.float32(z))
    keys = jax.random.split(jax.random.key(1), num)
    return np.asarray(jax.jit(jax.vmap(lambda k: continua.draw_continuum(k, basis, row, len(LOGLAM))))(keys)), float(
        centre
    )


@pytest.mark.parametrize("z", [0.3012, 0.55, 0.899])
def test_draws_are_passive_galaxies_of_unit_flux_at_their_bins_redshift(z):
    basis = continua.make_continua(continua.read_library("passive"), LOGLAM, (0.3, 0.9), 6)
    spectra, centre = draw(basis, z)
    wave = grid.wave(LOGLAM)
    assert abs(centre - z) <= continua.BIN / 2
    assert spectra[:, (wave > 4800)].mean() == pytest.approx(1, abs=0.02)
    red, blue = spectra[:, wave > 4800].mean(1), spectra[:, wave < 4000].mean(1)
    assert np.median(red / blue) > (1.3 if z < 0.6 else 1.05)  # they fall towards the blue


def test_calcium_k_of_the_shipped_basis_is_at_its_vacuum_wavelength():
    library = continua.read_library("passive")
    mean = library.coefficients.mean(0) @ library.vectors
    wave = 10 ** (library.loglam0 + grid.STEP * np.arange(len(mean)))
    near = (wave > 3920) & (wave < 3950)
    assert wave[near][mean[near].argmin()] == pytest.approx(3934.8, abs=1.5)


def test_six_eigenvectors_leave_little_of_the_library():
    library = continua.read_library("passive")
    full = continua.make_continua(library, LOGLAM, (0.5, 0.51), library.vectors.shape[0])
    six = continua.make_continua(library, LOGLAM, (0.5, 0.51), 6)
    exact, kept = draw(full, 0.505)[0], draw(six, 0.505)[0]
    assert 0 < np.abs(kept - exact).max() < 0.06 * exact.max()
    assert (kept - exact).std() < 0.01


def test_pipeline_eigenspectra_are_a_source(real_data):
    library = continua.read_library(str(real_data / "templates" / "spEigenGal-55740.fits"))
    spectra, _ = draw(continua.make_continua(library, LOGLAM, (0.5, 0.51), 6), 0.505)
    assert library.vectors.shape[0] == 4 and np.isfinite(spectra).all()
    assert spectra[:, grid.wave(LOGLAM) > 4800].mean() == pytest.approx(1, abs=0.05)


def test_decomposition_finds_the_subspace_in_spite_of_gaps(tmp_path):
    rng = np.random.default_rng(0)
    truth = np.linalg.qr(rng.normal(size=(300, 3)))[0].T
    flux = rng.normal(size=(200, 3)) * [30, 20, 10] @ truth + 0.01 * rng.normal(size=(200, 300))
    ivar = np.where(rng.random((200, 300)) < 0.3, 0.0, 1e4)
    vectors = continua.decompose(np.where(ivar > 0, flux, 0), ivar, num_vectors=3, iterations=60)
    assert np.linalg.svd(vectors @ truth.T)[1].min() > 0.9999  # cosine of the largest angle between the two
    library = continua.Library(3.2, vectors, flux @ vectors.T)
    continua.save_library(tmp_path / "own.npz", library)
    np.testing.assert_allclose(continua.read_library(str(tmp_path / "own.npz")).vectors, vectors)


@pytest.mark.parametrize("smooth", [0.0, 3.0])
def test_a_library_is_built_from_spectra_with_gaps_and_lines(smooth, tmp_path):
    rng, loglam = np.random.default_rng(0), LOGLAM[:600]
    z = rng.uniform(0.5, 0.6, 60)
    shift = np.round(np.log10(1 + z) / grid.STEP).astype(int)
    rest, start = np.arange(600 + np.ptp(shift)), shift.max() - shift
    shapes = np.stack([np.ones(len(rest)), np.sin(rest / 90), np.exp(-0.5 * ((rest - 450) / 12) ** 2)])
    members = np.stack([np.ones(60), *rng.uniform(-0.3, 0.3, (2, 60))], 1) @ shapes
    flux = np.stack([row[first : first + 600] for row, first in zip(members, start, strict=True)])
    flux *= rng.uniform(0.5, 20, (60, 1))
    ivar = np.where(rng.random(flux.shape) < 0.2, 0, 1 / (0.01 * flux) ** 2)
    seen = np.where(ivar > 0, flux * (1 + 0.01 * rng.normal(size=flux.shape)), 1e3)
    for row in seen:  # an absorber, each at its own place: not of the continuum
        first = rng.integers(590)
        row[first : first + 6] *= 0.3
    library = continua.build_library(seen, ivar, loglam, z, 3, smooth)
    continua.save_library(tmp_path / "own.npz", library)
    again = continua.read_library(str(tmp_path / "own.npz"))
    np.testing.assert_array_equal(again.z, np.sort(z).astype(np.float32))
    np.testing.assert_array_equal(again.coefficients, library.coefficients)
    model = np.empty((60, len(rest)))
    first = round((library.loglam0 - loglam[0]) / grid.STEP) + shift.max()
    whole = library.coefficients @ library.vectors
    model[np.argsort(z)] = np.pad(whole, ((0, 0), (first, len(rest) - first - whole.shape[1])), constant_values=np.nan)
    fitted = np.stack([row[first : first + 600] for row, first in zip(model, start, strict=True)])
    good = (ivar > 0) & np.isfinite(fitted)
    scale = (fitted * flux).sum(1, where=good) / (fitted**2).sum(1, where=good)
    error = np.abs(scale[:, None] * fitted / flux - 1)[good]
    assert good.mean() > 0.7 and np.median(error) < 0.01 and (error > 0.05).mean() < 0.02  # few reach the ends


def test_a_library_that_ends_within_the_window_is_refused():
    whole = continua.read_library("passive")
    cut = round((np.log10(2209) - whole.loglam0) / grid.STEP)
    short = whole._replace(loglam0=whole.loglam0 + cut * grid.STEP, vectors=whole.vectors[:, cut:])
    with pytest.raises(UserError, match=r"at redshifts .* to 0\.720, and mocks of 0\.3 to 0\.9 are asked for"):
        continua.make_continua(short, LOGLAM, (0.3, 0.9), 6)
    assert continua.reach(short, LOGLAM)[1] == pytest.approx(0.72, abs=1e-3)
    shorter = short._replace(vectors=short.vectors[:, : len(LOGLAM) - 1])
    with pytest.raises(UserError, match=r"from 3800 to 4999 A at no redshift: narrow config.data.window"):
        continua.make_continua(shorter, LOGLAM, (0.3, 0.9), 6)
    spectra = [draw(continua.make_continua(x, LOGLAM, (0.3, 0.72), 6), 0.715)[0] for x in (whole, short)]
    np.testing.assert_allclose(*spectra, rtol=2e-3)


def test_what_a_member_does_not_show_is_that_of_its_like():
    library = quasars.read_library("shipped")
    loglam, rng = grid.window(3799.0, 9200.0), np.random.default_rng(0)
    z = rng.uniform(0.4, 3.5, 150)
    rest = np.log10(1 + z)[:, None]
    pixel = (loglam[None] - rest - library.loglam0) / grid.STEP
    spectra = library.coefficients[:150] @ library.vectors
    flux = np.stack([np.interp(x, np.arange(len(y)), y) for x, y in zip(pixel, spectra, strict=True)])
    ivar = np.full(flux.shape, 100.0) / flux.mean(1, keepdims=True) ** 2
    seen = flux + rng.normal(size=flux.shape) / np.sqrt(ivar)
    own = continua.build_library(seen, ivar, loglam, z, 10, 3.0)
    wave = grid.wave(own.loglam0 + grid.STEP * np.arange(own.vectors.shape[1]))
    level = own.coefficients @ own.vectors[:, (wave > 1216) & (wave < 6765)].mean(1)
    assert level.min() > 0 and level.max() < 4  # of a median of 1
    lengths = [continua.principal(x, 6, (1300.0, 6000.0)) for x in (own, library)]
    inside = [grid.wave(x.loglam0 + grid.STEP * np.arange(x.vectors.shape[1])) for x in (own, library)]
    sizes = [np.sqrt((v[1:, (w > 1300) & (w < 6000)] ** 2).mean(1)) for v, w in zip(lengths, inside, strict=True)]
    assert np.all(sizes[0] < 4 * sizes[1]) and np.all(sizes[0] > sizes[1] / 2)  # without a prior, 50 times


def test_mocks_are_made_of_members_near_in_redshift():
    z = np.float32([0.30, 0.50, 0.51, 0.70])
    library = continua.Library(3.2, np.ones((1, 9)), np.ones((4, 1)), z)
    found = continua.nearby(library, np.array([0.1, 0.5, 0.68]), 0.1)
    assert found.tolist() == [[0, 4]] * 3  # fewer than LEAST in all
    many = library._replace(z=np.repeat(z, 40), coefficients=np.ones((160, 1)))
    assert continua.nearby(many, np.array([0.1, 0.5, 0.68]), 0.1).tolist() == [[0, 30], [40, 80], [120, 40]]
    assert continua.nearby(library._replace(z=np.zeros(0)), np.array([0.1]), 0.1).tolist() == [[0, 4]]


def test_missing_file_is_one_clear_sentence():
    with pytest.raises(UserError, match="which is no file"):
        continua.read_library("no/such/file.fits")


@pytest.mark.parametrize("name", ["other.npz", "torn.npz", "spec.fits"])
def test_a_file_of_something_else_is_one_clear_sentence(name, tmp_path):
    from astropy.io import fits

    if name == "other.npz":
        np.savez(tmp_path / name, params=np.zeros(3))
    elif name == "torn.npz":
        (tmp_path / name).write_bytes(b"PK\x03\x04 torn")
    else:
        fits.PrimaryHDU(header=fits.Header({"COEFF0": 3.5})).writeto(tmp_path / name)
    with pytest.raises(UserError, match="which holds no continua"):
        continua.read_library(str(tmp_path / name))


def test_principal_axes_are_as_long_as_the_scatter_of_the_library():
    library = continua.read_library("passive")
    mean, *axes = continua.principal(library, 6)
    wave = grid.wave(library.loglam0 + grid.STEP * np.arange(library.vectors.shape[1]))
    seen = (wave >= 2000) & (wave <= 3850)
    assert mean[seen].mean() == pytest.approx(1)
    spectra = library.coefficients @ library.vectors[:, seen]
    scatter = spectra / spectra.mean(1, keepdims=True) - mean[seen]
    units = np.stack(axes)[:, seen]
    numbers = np.linalg.lstsq(units.T, scatter.T, rcond=None)[0]
    np.testing.assert_allclose(numbers.std(1), 1, rtol=0.01)
    assert (scatter - numbers.T @ units).std() < 0.1 * scatter.std()
    with pytest.raises(UserError, match=r"has 10 vectors, fewer than 11: set --config\.model\.templates=10"):
        continua.principal(library, 11)


def test_principal_axes_are_those_of_the_spectra_themselves_at_the_cost_of_the_coefficients(monkeypatch):
    library, whole, sizes = continua.read_library("passive"), np.linalg.svd, []

    def svd(matrix: np.ndarray, **options):
        sizes.append(matrix.size)
        return whole(matrix, **options)

    monkeypatch.setattr(np.linalg, "svd", svd)
    rest = (2000.0, 2300.0)
    found = continua.principal(library, 6, rest)[1:]
    assert max(sizes) <= library.coefficients.size  # of whole spectra it is half a minute
    wave = grid.wave(library.loglam0 + grid.STEP * np.arange(library.vectors.shape[1]))
    seen = (wave >= rest[0]) & (wave <= rest[1])
    spectra = library.coefficients @ library.vectors[:, seen].astype(np.float64)
    level = spectra.mean(1)
    spectra = (spectra / level[:, None])[(level > np.median(level) / 3) & (level < np.median(level) * 3)]
    _, values, axes = whole(spectra - spectra.mean(0), full_matrices=False)
    expected = values[:5, None] / np.sqrt(len(spectra)) * axes[:5]
    signs = np.sign((found[:, seen] * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(found[:, seen] * signs, expected, atol=1e-6 * np.abs(expected).max())


def test_mocks_are_made_of_members_within_half_the_width_or_of_the_nearest():
    z = np.concatenate([np.linspace(0.2, 0.8, 601), [1.5, 1.6]])
    library = continua.Library(3.3, np.ones((1, 9)), np.ones((len(z), 1)), z)
    (first, number), far = continua.nearby(library, np.array([0.5, 2.0]), 0.1)
    assert z[first] == pytest.approx(0.45, abs=2e-3) and z[first + number - 1] == pytest.approx(0.55, abs=2e-3)
    assert far.tolist() == [len(z) - continua.LEAST, continua.LEAST]
