"""HDF5 in, HDF5 out: pairs with and without an arc, streamed."""

import numpy as np
import pytest
from ml_collections import config_dict

from configs import cutouts
from lensjax.core.errors import UserError
from lensjax.data.inject_arcs import inject_arcs, observing
from lensjax.physics import bands
from lensjax.surveys.cutouts import open_cutouts, write_cutouts

NUM, SIZE = 5, 64


@pytest.fixture
def config():
    made = config_dict.ConfigDict({"seed": 1, "data": {"size": SIZE}, "train": {"batch_size": 4}})
    made.sim = cutouts.lenses()
    return made


@pytest.fixture
def survey(tmp_path):
    images = np.random.default_rng(0).normal(0, (0.003, 0.004, 0.012), (NUM, SIZE, SIZE, 3)).astype(np.float32)
    images[:, 28:36, 28:36] += 0.2
    images[2, 0, 0, 0] = np.nan
    depth = np.full((NUM, 3), 300.0)
    depth[1] = np.nan
    columns = {"ra": np.arange(NUM) * 1.0, "dec": np.zeros(NUM), "psfsize": np.full((NUM, 3), 1.3), "psfdepth": depth}
    write_cutouts(tmp_path / "survey.h5", images, {**columns, "source_type": np.array(["DEV"] * NUM)})
    return tmp_path / "survey.h5", images


def test_pairs_of_the_same_galaxy(config, survey, tmp_path):
    import h5py

    path, images = survey
    assert inject_arcs(config, path, tmp_path / "out.h5") == NUM - 1
    source = open_cutouts(tmp_path / "out.h5")
    pixels = source.read(range(len(source)))
    with h5py.File(tmp_path / "out.h5") as file:
        label, host, theta = (file[name][:] for name in ("label", "host", "theta_e"))
    assert source.table()["label"].tolist() == label.tolist() == [0, 1] * (NUM - 1)  # what the probe is trained on
    assert host.tolist() == [0, 0, 1, 1, 3, 3, 4, 4]
    np.testing.assert_array_equal(pixels[::2], images[[0, 1, 3, 4]])
    assert (theta[1::2] > 0).all() and (theta[::2] == 0).all()
    assert ((pixels[1::2] - pixels[::2]).sum((1, 2, 3)) > 0).all()
    assert source.table()["ra"].tolist() == [0, 0, 1, 1, 3, 3, 4, 4] and set(source.table()["type"]) == {"DEV"}

    config.train.batch_size = 3  # the same arcs, whatever the passes
    inject_arcs(config, path, tmp_path / "again.h5")
    np.testing.assert_allclose(open_cutouts(tmp_path / "again.h5").read(range(8)), pixels, atol=1e-5)


def test_known_lenses_are_no_galaxies_without_an_arc(config, survey, tmp_path, capsys):
    _, images = survey
    write_cutouts(tmp_path / "labelled.h5", images, {"label": np.array([0, 1, 0, -1, 1])})
    assert inject_arcs(config, tmp_path / "labelled.h5", tmp_path / "out.h5") == 2
    out = open_cutouts(tmp_path / "out.h5")
    np.testing.assert_array_equal(out.read([0, 2]), images[[0, 3]])
    assert out.table()["label"].tolist() == [0, 1, 0, 1]
    said = capsys.readouterr().err
    assert "2 cutouts with label 1" in said
    assert "1 cutouts that are unusable" in said and "labelled.h5, row 2: 1 of 4096 pixels are NaN" in said
    write_cutouts(tmp_path / "lenses.h5", images, {"label": np.ones(NUM)})
    with pytest.raises(UserError, match="of 5 cutouts 5 are lenses"):
        inject_arcs(config, tmp_path / "lenses.h5", tmp_path / "none.h5")


def test_unknown_noise_is_measured(config, survey):
    path, images = survey
    _, noise, ebv = observing(images[:2], np.arange(2), open_cutouts(path).table(), config.sim)
    np.testing.assert_allclose(noise[1], (0.003, 0.004, 0.012), rtol=0.05)
    np.testing.assert_array_equal(ebv, [0, 0])
    padded = np.pad(images[:2], ((0, 0), (40, 40), (40, 40), (0, 0)))  # most of the image is no image
    np.testing.assert_allclose(
        observing(padded, np.arange(2), open_cutouts(path).table(), config.sim)[1], noise, rtol=0.03
    )
    blank = observing(np.zeros_like(padded), np.arange(2), open_cutouts(path).table(), config.sim)[1]
    np.testing.assert_allclose(blank[1], 1e-5)


def test_what_cannot_be_used(config, tmp_path):
    write_cutouts(tmp_path / "four.h5", np.zeros((2, SIZE, SIZE, 4)))
    with pytest.raises(UserError, match="bands griz: give cutouts in grz"):
        inject_arcs(config, tmp_path / "four.h5", tmp_path / "out.h5")
    write_cutouts(tmp_path / "nan.h5", np.full((2, SIZE, SIZE, 3), np.nan))
    with pytest.raises(UserError, match="4096 of 4096 pixels are NaN"):
        inject_arcs(config, tmp_path / "nan.h5", tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


def test_a_psf_that_is_not_known_is_the_median_of_the_law(config, survey):
    path, images = survey
    table = {**open_cutouts(path).table(), "psfsize": np.full((NUM, 3), np.nan, np.float32)}
    got = observing(images[:2], np.arange(2), table, config.sim)[0]
    law = np.asarray(config.sim.psf)
    expected = (law[:, 1] + law[:, 2]) * bands.PIXEL * bands.FWHM
    np.testing.assert_allclose(got, np.tile(expected, (2, 1)), rtol=1e-5)
