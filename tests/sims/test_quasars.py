"""Quasar continua: draws at any redshift, libraries of the user's own quasars and of pipelines."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.sims import continua, quasars

LOGLAM = grid.window(3799.0, 9200.0)


@pytest.fixture(scope="module")
def shipped():
    return quasars.read_library("shipped")


@pytest.mark.parametrize("z", [0.4, 1.5, 3.9])
def test_draws_are_positive_scaled_and_functions_of_their_key(shipped, z):
    draw = jax.jit(jax.vmap(lambda key: quasars.draw_continuum(key, library, jnp.float32(z), LOGLAM)))
    library = quasars.make_quasars(shipped)
    keys = jax.random.split(jax.random.key(0), 32)
    flux, wave = np.asarray(draw(keys)), grid.wave(LOGLAM)
    level = flux[:, (wave > quasars.BRIGHT[0]) & (wave < quasars.BRIGHT[1])].mean(1)
    assert flux.shape == (32, len(LOGLAM)) and (flux > 0).all()
    np.testing.assert_allclose(level, 1, rtol=2e-3)
    assert len(np.unique(flux[:, 0])) > 30
    np.testing.assert_array_equal(draw(keys), flux)


def test_emission_lines_are_where_the_redshift_puts_them(shipped):
    library = quasars.make_quasars(shipped)
    keys = jax.random.split(jax.random.key(1), 64)
    for z in (0.6, 1.5):
        flux = jax.jit(jax.vmap(lambda key, z=z: quasars.draw_continuum(key, library, jnp.float32(z), LOGLAM)))(keys)
        mean, rest = np.asarray(flux).mean(0), grid.wave(LOGLAM) / (1 + z)
        near = (rest > 2700) & (rest < 2900)
        assert rest[near][mean[near].argmax()] == pytest.approx(2800, abs=12)


def test_quasars_of_the_user_are_drawn_at_their_own_redshift(shipped):
    z = np.arange(800, dtype=np.float32) / 200 + 0.0025
    library = continua.Library(2.8, np.ones((1, 12_000), np.float32), np.ones((800, 1), np.float32), z)
    members = quasars.make_quasars(library).members
    for redshift, number in ((0.05, 40), (1.05, 40), (1.39, 40), (7.0, 30)):  # none at 7: the nearest 30
        row = int(redshift / quasars.BIN)
        draws = jax.vmap(lambda key, row=row: continua.draw_members(key, members[row]))
        found = z[np.asarray(draws(jax.random.split(jax.random.key(0), 400)))]
        assert len(np.unique(found)) == number
        assert np.all((found / quasars.BIN).astype(int) == row) or redshift == 7
    assert np.asarray(quasars.make_quasars(shipped).members).tolist() == [[0, len(shipped.coefficients)]] * 40


def test_principal_vectors_span_the_scatter(shipped):
    vectors = continua.principal(shipped, 6, (1400.0, 6000.0))
    wave = grid.wave(shipped.loglam0 + grid.STEP * np.arange(vectors.shape[1]))
    inside = (wave >= 1400) & (wave <= 6000)
    assert vectors.shape[0] == 6 and vectors[0, inside].mean() == pytest.approx(1, rel=1e-3)
    size = np.abs(vectors[1:, inside]).mean(1)
    assert (size < 1).all() and size[0] > size[-1]


def test_a_saved_library_is_read_back(shipped, tmp_path):
    continua.save_library(tmp_path / "mine.npz", shipped)
    again = quasars.read_library(str(tmp_path / "mine.npz"))
    np.testing.assert_array_equal(again.vectors, shipped.vectors)
    assert again.z.size == 0
    with pytest.raises(UserError, match="no file"):
        quasars.read_library(str(tmp_path / "other.npz"))


def test_eigenspectra_of_the_pipeline(real_data):
    found = sorted((real_data / "templates").glob("spEigenQSO-*.fits"))
    if not found:
        pytest.skip("no spEigenQSO file in the folder of real data")
    for path in found:
        library = quasars.read_library(str(path))
        flux = quasars.draw_continuum(jax.random.key(0), quasars.make_quasars(library), jnp.float32(1.5), LOGLAM)
        assert np.isfinite(flux).all() and (np.asarray(flux) > 0).all() and len(library.vectors) in (4, 10)
