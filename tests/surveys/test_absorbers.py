"""Catalogues of absorbers: names of three surveys, the cuts of the paper, one sentence for each bad table."""

import numpy as np
import pytest
from astropy.table import Table

from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.surveys import absorbers
from lensjax.surveys.block import make_block

LOGLAM = grid.window(3799.0, 9200.0)
NAMES = {
    "jhu": ("PLATE", "MJD", "FIBER", "ZQSO", "ZABS", "REW_MGII_2796", "ERR_REW_MGII_2796", "REW_MGII_2803"),
    "desi": ("TARGETID", "Z_QSO", "Z_MGII", "EW_2796", "EW_2796_ERR", "EW_2803"),
    "qsoabsfind": ("TARGETID", "Z_QSO", "Z_ABS", "MGII_2796_EW", "MGII_2796_EW_ERROR", "MGII_2803_EW"),
}


def table(survey, suffix, folder):
    who = [[5138, 5138, 5138], [55830, 55830, 55830], [7, 7, 9]] if survey == "jhu" else [[390, 390, 395]]
    columns = [*who, [2.1, 2.1, 1.9], [1.2, 0.9, 0.8], [1.0, 0.5, 2.0], [0.1, 0.0, 0.2], [0.6, 0.4, 1.5]]
    path = folder / f"{survey}.{suffix}"
    Table(columns, names=NAMES[survey]).write(path)
    return str(path)


@pytest.mark.parametrize("suffix", ["fits", "csv", "ecsv"])
@pytest.mark.parametrize("survey", NAMES)
def test_column_names_of_the_surveys(survey, suffix, tmp_path):
    made = absorbers.read_absorbers(table(survey, suffix, tmp_path))
    np.testing.assert_array_equal(made["z_abs"], [1.2, 0.9, 0.8])
    np.testing.assert_array_equal(made["error_2796"], [0.1, np.nan, 0.2])
    np.testing.assert_array_equal(made["ew_2803"], [0.6, 0.4, 1.5])
    assert np.isnan(made["error_2803"]).all() and (made["z"] > 1.8).all()
    if survey == "jhu":
        assert made["fiberid"].tolist() == [7, 7, 9] and "targetid" not in made
    else:
        assert made["targetid"].tolist() == [390, 390, 395]


def test_errors_of_desi_are_given_each_way(tmp_path):
    columns = {"TARGETID": [4], "Z_QSO": [2.0], "Z_MGII": [1.0], "EW_2796": [1.0], "EW_2803": [0.7]}
    errors = {"EW_2796_ERR_LOW": [0.1], "EW_2796_ERR_HIGH": [0.2], "EW_2803_ERR_LOW": [-0.1], "EW_2803_ERR_HIGH": [0.1]}
    Table({**columns, **errors}).write(tmp_path / "desi.fits")
    made = absorbers.read_absorbers(str(tmp_path / "desi.fits"))
    assert made["error_2796"][0] == pytest.approx(0.15) and made["error_2803"][0] == pytest.approx(0.1)


def test_identities_with_gaps(tmp_path):
    columns = {"PLATE": np.ma.array([1, 2], np.uint16, mask=[False, True]), "MJD": [3, 3], "FIBER": [5, 6]}
    Table({**columns, "ZABS": [0.9, 0.8], "EW_2796": [1.0, 1.0]}).write(tmp_path / "masked.fits")
    assert absorbers.read_absorbers(str(tmp_path / "masked.fits"))["plate"][0] == 1
    columns = {"TARGETID": [39633345008634465.0, np.nan], "ZABS": [0.9, 0.8], "EW_2796": [1.0, 1.0]}
    Table(columns).write(tmp_path / "float.fits")
    with pytest.raises(UserError, match="as floats, whose last digits are lost: give integers"):
        absorbers.read_absorbers(str(tmp_path / "float.fits"))


def test_a_row_of_several_absorbers_is_spread_out(tmp_path):
    columns = {"PLATE": [1, 2], "MJD": [3, 3], "FIBER": [5, 6], "ZABS": [[0.9, 1.1], [0.8, 0.0]]}
    Table({**columns, "REW_MGII_2796": [[1.0, 2.0], [3.0, 0.0]]}).write(tmp_path / "wide.fits")
    made = absorbers.read_absorbers(str(tmp_path / "wide.fits"))
    assert made["plate"].tolist() == [1, 1, 2] and made["ew_2796"].tolist() == [1, 2, 3]


def test_bad_tables(tmp_path):
    def write(name, **columns):
        Table(columns).write(tmp_path / name)
        return str(tmp_path / name)

    (tmp_path / "broken.fits").write_text("no table")
    bad = {
        "": "catalogue is empty",
        "missing.fits": "is no file",
        str(tmp_path / "broken.fits"): "cannot be read",
        write("none.csv", PLATE=[1], MJD=[2], FIBER=[3], ZABS=[0.8]): "expected REW_MGII_2796 or EW_2796",
        write("who.csv", ZABS=[0.8], EW_2796=[1.0]): "expected PLATE, MJD and FIBER, or TARGETID",
        write("empty.csv", TARGETID=[4], ZABS=[-1.0], EW_2796=[1.0]): "no row with a redshift",
        write("odd.fits", TARGETID=[4], ZABS=[[1.0, 2.0]], EW_2796=[[1.0, 2.0, 3.0]]): "ew_2796 of shape",
    }
    for path, sentence in bad.items():
        with pytest.raises(UserError, match=sentence):
            absorbers.read_absorbers(path)


def block(z, **known):
    shape = (len(z), len(LOGLAM))
    ones = np.ones(shape, np.float32)
    fibers = {"plate": 9, "mjd": 8, "fiberid": np.arange(len(z)), "class": "QSO", "z": z, **known}
    return make_block(ones, ones, ones, np.zeros(shape, bool), fibers, LOGLAM)


def catalogue(*rows):
    """Rows of fiber, z_abs, W2796."""
    fiber, z_abs, ew = (np.array(column, float) for column in zip(*rows, strict=True))
    who = {"plate": 9 + 0 * fiber, "mjd": 8 + 0 * fiber, "fiberid": fiber}
    found = {"z_abs": z_abs, "ew_2796": ew, "ew_2803": 0.5 * ew, "error_2796": ew / 8, "error_2803": 0.5 * ew / 6}
    return {**{name: x.astype(int) for name, x in who.items()}, **found, "z": np.full(len(fiber), np.nan)}


def test_the_cuts_of_the_paper():
    quasars = block([2.0, 2.0, 2.0, 1.0, 3.9, 0.9])
    listed = catalogue((0, 1.2, 1.0), (1, 1.2, 0.29), (2, 2.1, 1.0), (3, 1.005, 1.0), (4, 1.5, 1.0))
    truth, positive, usable = absorbers.label_block(quasars, listed, LOGLAM)
    # weak; beyond 2800 A of the quasar; behind it; blueward of its C IV
    assert positive.tolist() == [True, False, False, False, False, False]
    assert usable.tolist() == [True, False, False, False, False, True]  # what is listed is no negative either
    np.testing.assert_allclose(truth["wave"], [2796.352 * 2.2, 0, 0, 0, 0, 0], rtol=1e-6)


def test_truth_is_that_of_the_simulator():
    listed = catalogue(*((0, z, ew) for z, ew in ((0.9, 1.0), (1.0, 0.2), (1.1, 2.0), (1.2, 0.5), (1.3, 0.4))))
    listed["error_2796"][0], listed["error_2803"][0] = 0.01, np.nan
    truth, positive, _ = absorbers.label_block(block([2.0, 2.0]), listed, LOGLAM)
    assert set(truth) == {*absorbers.TRUTH, "z"} and positive.tolist() == [True, False]
    np.testing.assert_allclose(truth["z_abs"], [[0.9, 1.1, 1.2], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(truth["absorber_snr"][0], [100, 10, 10], rtol=1e-5)
    np.testing.assert_allclose(truth["ew_2803"][0], [0.5, 1.0, 0.25], rtol=1e-6)
    places = np.round(grid.pixel(2796.352 * np.array([1.9, 2.1, 2.2]), LOGLAM))
    np.testing.assert_array_equal(np.flatnonzero(truth["pixel_label"][0]), places)
    assert truth["snr"].tolist() == truth["absorber_snr"][:, 0].tolist() and truth["label"].tolist() == [1, 0]
    assert all(values.dtype == np.float32 for values in truth.values())


def test_what_is_no_quasar_is_no_negative():
    kinds = ["QSO", "GALAXY", "", "QSO", "QSO"]
    quasars = block([2.0] * 4 + [0.1], **{"class": kinds, "objtype": ["QSO", "GALAXY", "QSO", "SKY", "QSO"]})
    _, positive, usable = absorbers.label_block(quasars, catalogue((77, 1.0, 1.0)), LOGLAM)
    assert not positive.any() and usable.tolist() == [True, False, True, False, False]


def test_the_catalogue_gives_a_redshift_that_the_spectrum_lacks():
    listed = {**catalogue((0, 1.0, 1.0)), "z": np.array([1.8])}
    truth, positive, _ = absorbers.label_block(block([np.nan]), listed, LOGLAM)
    assert positive[0] and truth["z"][0] == np.float32(1.8)
