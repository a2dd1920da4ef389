"""Continua of the user's own objects, from their files to the mocks that are made of them."""

import jax
import numpy as np
import pytest

from configs import common, lya
from lensjax.core.errors import UserError
from lensjax.data.batches import make_simulator
from lensjax.physics import grid
from lensjax.search.continua import build_continua, median_snr, redshifts
from lensjax.search.mock import write_mock_plates
from lensjax.sims import continua


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    config = common.smoke(lya.get_config())
    config.data.window, config.vet.window = (3800.0, 5000.0), (3700.0, 5200.0)
    config.mock.update({"fibers": 80, "sky_fraction": 0.2, "lost_rate": 0.0, "window": (3700.0, 5200.0)})
    config.search.input = str(write_mock_plates(config, tmp_path_factory.mktemp("mock")))
    config.continua.update({"vectors": 3, "least_snr": 0.5})
    return config


def test_mocks_are_made_of_what_was_built(config, tmp_path, capsys):
    path = build_continua(config, tmp_path)
    library = continua.read_library(str(path))
    said = capsys.readouterr().out
    assert f"{len(library.z)} objects" in said and 30 <= len(library.z) <= 64 and (tmp_path / "continua.png").exists()
    assert library.vectors.shape[0] == 3 and np.all(np.diff(library.z) >= 0)
    own = config.copy_and_resolve_references()
    own.sim.update({"continuum": str(path), "num_eigenvectors": 3})
    own.sim.redshift = config.sim.redshift = redshifts(library, grid.window(*config.data.window))
    assert f'--config.sim.redshift="({own.sim.redshift[0]:.2f}, {own.sim.redshift[1]:.2f})"' in said
    made = [jax.jit(jax.vmap(make_simulator(c)))(jax.random.split(jax.random.key(0), 64)) for c in (config, own)]
    shipped, mine = (np.asarray(mock["continuum"]) / np.mean(mock["continuum"], 1, keepdims=True) for mock in made)
    means = [one.mean(0).reshape(-1, 8).mean(1) for one in (mine, shipped)]
    np.testing.assert_allclose(*means, atol=0.25)  # a plate of few and faint galaxies
    assert np.ptp(means[0]) > 1  # the break is there: no flat spectra


def test_too_few_objects_are_one_sentence(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.continua.least_snr = 1e4
    with pytest.raises(UserError, match=r"has 0 objects that config.select accepts.* 30 are needed for 3 vectors"):
        build_continua(config, tmp_path)
    assert not list(tmp_path.iterdir())


def test_median_snr_is_of_good_pixels():
    flux, ivar = np.float32([[1, 2, 9], [5, 5, 5]]), np.float32([[4, 4, 0], [0, 0, 0]])
    assert median_snr(flux, ivar).tolist() == [3, 0]
