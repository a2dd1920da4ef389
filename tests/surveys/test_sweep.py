"""Catalogue columns under one set of names."""

import numpy as np
import pytest

from lensjax.core.errors import UserError
from lensjax.surveys.sweep import read_sweep, standardise


def test_any_case_any_layout_and_what_is_missing_is_nan():
    columns = {"ra": [1.0, 2.0], "Dec": [3.0, 4.0], "z_spec": [-99.0, 0.4], "flux_g": [1, 2], "FLUX_R": [3, 4]}
    columns |= {"psfsize": np.ones((2, 3)), "source_type": np.array([b"REX ", b"DEV"]), "nobs": np.ones(7)}
    table = standardise(columns, 2)
    assert table["dec"].tolist() == [3, 4] and table["type"].tolist() == ["REX", "DEV"]
    assert np.isnan(table["z_spec"][0]) and table["z_spec"][1] == 0.4
    np.testing.assert_array_equal(table["flux"], np.float32([[1, 3, np.nan], [2, 4, np.nan]]))
    assert table["psfsize"].shape == (2, 3) and (table["inds"] == -1).all() and np.isnan(table["nobs"]).all()


def test_numbers_that_are_none_are_missing():
    nan, masked = np.nan, np.ma.array([5, 6, 7, 8], mask=[0, 1, 0, 0])
    columns = {"label": ["previous", "1", "new", "0"], "objid": [1.0, nan, np.inf, 1e30], "release": masked}
    columns |= {"brickid": np.ma.array([5, 6, 7, 8], np.uint16, mask=[0, 1, 0, 0]), "inds": [None, 3, "x", -99]}
    columns |= {"z_phot": ["0.5", "n/a", "", "-99"], "ra": np.ma.array([1.0, 2, 3, 4], mask=[0, 0, 1, 0])}
    table = standardise({name: v if np.ma.isMA(v) else np.array(v) for name, v in columns.items()}, 4)
    assert table["label"].tolist() == [-1, 1, -1, 0] and table["objid"].tolist() == [1, -1, -1, -1]
    assert table["release"].tolist() == table["brickid"].tolist() == [5, -1, 7, 8]
    assert table["inds"].tolist() == [-1, 3, -1, -1] and table["inds"].dtype == np.int64
    np.testing.assert_array_equal(table["z_phot"], [0.5, nan, nan, nan])
    assert standardise({"label": np.array([0.5, 1.0, 0.0])}, 3)["label"].tolist() == [-1, 1, 0]
    assert standardise({"label": np.array([0.5, 1.0, None])}, 3)["label"].tolist() == [-1, 1, -1]
    np.testing.assert_array_equal(table["ra"], [1, 2, nan, 4])


def test_columns_of_odd_shapes_cost_nothing_else():
    odd = {"flux_g": np.ones((2, 2)), "ra": np.ones((2, 0)), "dec": np.ones(2)}
    table = standardise(odd, 2)
    assert table["flux"].shape == (2, 3) and table["dec"].tolist() == [1, 1] and np.isnan(table["ra"]).all()


def test_no_objects_are_no_rows():
    assert standardise({"RA": np.zeros(0), "OBJID": np.zeros(0, int)}, 0)["objid"].shape == (0,)


def test_real_file_with_labels_in_words(real_data):
    path = real_data / "cutouts" / "top64_even_grz_nmgy.npz"
    if not path.exists():
        pytest.skip(f"no {path.name} in {path.parent}")
    with np.load(path) as file:
        columns = {name: file[name] for name in file.files if name != "images"}
    assert columns["label"].dtype.kind == "U"
    assert (standardise(columns, len(columns["label"]))["label"] == -1).all()


@pytest.mark.parametrize("name", ["sweep-310m005-320p000.fits", "tractor-3301m002.fits"])
def test_real_tables(real_data, name):
    path = real_data / "cutouts" / name
    if not path.exists():
        pytest.skip(f"no {name} in {path.parent}")
    table = read_sweep(path)
    assert len(table["ra"]) == 6 and (table["flux"][:, 1] != 0).all()
    assert ((table["ra"] > 300) & (table["ra"] < 340)).all() and (table["ebv"] > 0).all()
    assert np.nanmedian(table["psfdepth"]) > 1 and set(table["type"]) <= {"PSF", "REX", "EXP", "DEV", "COMP", "SIMP"}


def test_other_files_are_refused_in_one_sentence(tmp_path):
    (tmp_path / "note.fits").write_text("not fits")
    with pytest.raises(UserError, match="give a sweep or tractor FITS table"):
        read_sweep(tmp_path / "note.fits")
    from astropy.table import Table

    Table({"COLOUR": [1.0]}).write(tmp_path / "other.fits")
    with pytest.raises(UserError, match="has the columns COLOUR: expected RA and DEC"):
        read_sweep(tmp_path / "other.fits")
