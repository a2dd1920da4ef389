"""Batches of real quasars: balanced draws of seed and draw alone, splits, broken files that cost a row."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from configs import mgii
from lensjax.core.errors import UserError
from lensjax.data import absorbers, batches
from lensjax.surveys import write_spec
from tests.surveys import mocks

POSITIVE, ALL = 10, 36  # the first ten fibers have an absorber; 18 of SDSS, as many of BOSS, in turn


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("quasars")
    flux, ivar, wdisp, _ = mocks.spectra(ALL)
    for i in range(ALL):
        plate = 500 if i % 2 else 5000
        row = {"plate": plate, "mjd": 52000 + plate, "fiberid": i, "z": 1.4, "class": "QSO", "objtype": "QSO"}
        write_spec(path / f"spec-{i:04d}.fits", mocks.LOGLAM, flux[i] + 3, ivar[i], row, wdisp[i])
    (path / "spec-broken.fits").write_bytes(b"SIMPLE  =")
    fibers = np.arange(POSITIVE)
    plates = np.where(fibers % 2, 500, 5000)
    columns = {"PLATE": plates, "MJD": 52000 + plates, "FIBER": fibers, "ZABS": np.full(POSITIVE, 1.1)}
    Table({**columns, "REW_MGII_2796": 0.5 + 0.1 * fibers}).write(path / "absorbers.csv")
    return path


def config(folder, **settings):
    made = mgii.get_config("smoke")
    made.data.source = "absorbers"
    made.data.absorbers.update({"catalogue": str(folder / "absorbers.csv"), "spectra": str(folder), **settings})
    return made


def test_random_split_is_balanced_and_four_to_one(folder):
    train, test = absorbers.load_absorbers(config(folder))
    assert train["label"].sum() == 8 and len(train["label"]) == 16
    assert test["label"].sum() == 2 and len(test["label"]) == 4
    assert len(np.unique([row.tobytes() for row in [*train["flux"], *test["flux"]]])) == 20
    for part in (train, test):
        there = part["label"] == 1
        np.testing.assert_allclose(part["z_abs"][:, 0], 1.1 * there, rtol=1e-6)
        assert (part["pixel_label"].sum(1) == there).all() and (part["flux"][part["ivar"] == 0] == 0).all()
        assert all(values.dtype == np.float32 for values in part.values())


def test_quasars_in_fibers_put_on_galaxies_are_quasars(folder, tmp_path):
    for path in folder.glob("spec-0*.fits"):
        with fits.open(path) as units:
            units[2].data["OBJTYPE"], units[2].data["CLASS_NOQSO"], units[2].data["Z_NOQSO"] = "GALAXY", "GALAXY", 0.5
            units.writeto(tmp_path / path.name)
    expected, found = (absorbers.load_absorbers(config(folder, spectra=str(f))) for f in (folder, tmp_path))
    for name in ("z", "flux", "label"):
        np.testing.assert_array_equal(found[0][name], expected[0][name])


def test_spectra_keep_their_truth(folder):
    flux = mocks.spectra(ALL)[0] + 3
    train, _ = absorbers.load_absorbers(config(folder))
    first = np.searchsorted(mocks.LOGLAM, np.log10(5000.0))
    pixels = train["flux"].shape[1]
    for i in range(len(train["label"])):
        good = train["ivar"][i] > 0
        same = [np.array_equal(row[first : first + pixels][good], train["flux"][i][good]) for row in flux]
        fiber = int(np.flatnonzero(same)[0])
        assert train["label"][i] == (fiber < POSITIVE)
        assert train["ew_2796"][i, 0] == pytest.approx((0.5 + 0.1 * fiber) * (fiber < POSITIVE))


def test_a_draw_is_a_function_of_seed_and_draw_alone(folder):
    positive, early = np.arange(ALL) < POSITIVE, np.arange(ALL) % 2 == 1
    first, again, other, seed = (
        absorbers.choose(positive, early, *settings, "random") for settings in ((0, 1), (0, 1), (0, 2), (1, 1))
    )
    np.testing.assert_array_equal(first[0], again[0])
    negatives = [set(np.concatenate(made)) - set(range(POSITIVE)) for made in (first, other, seed)]
    assert all(len(rows) == POSITIVE for rows in negatives) and len({frozenset(rows) for rows in negatives}) == 3
    few = absorbers.choose(np.arange(ALL) < 30, early, 0, 0, "random")
    assert len(few[0]) == 24 + 5 and len(few[1]) == 6 + 1  # fewer negatives than positives: all


def test_split_by_survey(folder):
    early = np.arange(ALL) % 2 == 1
    train, test = absorbers.choose(np.arange(ALL) < POSITIVE, early, 0, 0, "survey")
    assert early[train].all() and not early[test].any() and len(train) == len(test) == POSITIVE
    train, _ = absorbers.load_absorbers(config(folder, split="survey"))
    np.testing.assert_allclose(np.sort(train["ew_2796"][train["label"] == 1, 0]), 0.6 + 0.2 * np.arange(5), rtol=1e-5)


def test_they_are_a_source_of_batches(folder):
    made = batches.make_batches(config(folder))
    batch = made.train(0)
    assert (made.num_train, made.num_test) == (16, 4) and batch["flux"].shape[0] == 8
    names = {"flux", "ivar", "wdisp", "z", "label", "kind", "z_abs", "ew_2796", "ew_2803", "absorber_snr"}
    assert set(batch) == names | {"pixel_label", "wave", "snr"} and batch["z_abs"].shape == (8, 3)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"split": "plate"}, "split 'plate' and draw 0"),
        ({"draw": 5}, "draw 5: expected"),
        ({"spectra": ""}, "spectra is empty"),
        ({"spectra": "nowhere"}, "no such file"),
        ({"catalogue": ""}, "catalogue is empty"),
    ],
)
def test_bad_settings(folder, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        absorbers.load_absorbers(config(folder, **settings))


def test_a_catalogue_of_other_spectra(folder, tmp_path):
    Table({"TARGETID": [4], "Z_ABS": [1.1], "EW_2796": [1.0]}).write(tmp_path / "other.csv")
    with pytest.raises(UserError, match="36 quasars to learn from, 0 of them"):
        absorbers.load_absorbers(config(folder, catalogue=str(tmp_path / "other.csv")))
    with pytest.raises(UserError, match="to test on"):
        absorbers.choose(np.arange(ALL) < POSITIVE, np.ones(ALL, bool), 0, 0, "survey")
