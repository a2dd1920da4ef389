"""The pre-selection: spAll and specObj tables, and the cuts of the paper."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from configs import lya
from lensjax.core.errors import UserError
from lensjax.physics import grid
from lensjax.surveys import concatenate, find_files, join, read_block, read_catalogue, select, tables
from lensjax.surveys.block import full_table
from tests.surveys.test_sdss import plate  # noqa: F401

WINDOW = grid.window(3800.0, 5000.0)
CUTS = lya.get_config().select


def write_catalogue(path, **columns):
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(Table(columns))]).writeto(path)
    return str(path)


def test_catalogue_overrides_what_the_plate_says(plate, tmp_path):  # noqa: F811
    fibers = np.arange(20, 5, -1)
    path = write_catalogue(
        tmp_path / "spAll.fits",
        plate=np.full(15, 4055), MJD=np.full(15, 55359), FiberID=fibers, Z=fibers / 100, ZWARNING=fibers * 0,
        CLASS=np.full(15, "QSO", "S6"), SUBCLASS=np.full(15, "BROADLINE", "S20"), JUNK=np.zeros((15, 10)),
    )  # fmt: skip
    block = join(read_block(str(plate[0]), WINDOW), read_catalogue(path))
    np.testing.assert_allclose(block.z[5:], np.arange(6, 21) / 100, rtol=1e-6)
    assert set(block.table["class"][5:]) == {"QSO"} and set(block.table["class"][:5]) == {"GALAXY"}
    assert list(block.table["status"]) == ["not in the catalogue"] * 5 + [""] * 15


def test_catalogue_by_targetid(tmp_path):
    ids = 39633345008634465 + np.arange(4)
    path = write_catalogue(
        tmp_path / "zcatalog.fits", TARGETID=ids[::-1], Z=np.arange(4.0), SPECTYPE=np.full(4, "STAR", "S6")
    )
    block = read_block(str(tmp_path / "none.fits"), WINDOW)
    block = block._replace(table=full_table(1, {"targetid": ids[:1]}))
    joined = join(block, read_catalogue(path))
    assert joined.table["z"][0] == 3.0 and joined.table["class"][0] == "STAR" and joined.z[0] == 3.0


def test_of_several_rows_of_a_target_the_primary_one_counts(tmp_path):
    columns = {"Z": [0.9, 0.31], "SPECTYPE": np.full(2, "GALAXY", "S6"), "ZWARN": [4, 0]}
    path = write_catalogue(tmp_path / "zall.fits", TARGETID=[4, 4], ZCAT_PRIMARY=[False, True], **columns)
    block = read_block(str(tmp_path / "none.fits"), WINDOW)
    joined = join(block._replace(table=full_table(1, {"targetid": [4]})), read_catalogue(path))
    assert joined.table["z"][0] == 0.31 and joined.table["zwarning"][0] == 0


def test_target_numbers_that_are_floats_are_refused(tmp_path):
    columns = {"Z": [0.9, 0.31], "SPECTYPE": np.full(2, "GALAXY", "S6")}
    path = write_catalogue(tmp_path / "z.fits", TARGETID=[39633345008634465.0, 39633345008634466.0], **columns)
    with pytest.raises(UserError, match="identities of objects as floats"):
        read_catalogue(path)


def test_catalogue_stands_in_for_a_missing_spzbest(plate, tmp_path):  # noqa: F811
    (tmp_path / plate[0].name).write_bytes(plate[0].read_bytes())
    who = {"PLATE": np.full(19, 4055), "MJD": np.full(19, 55359), "FIBERID": np.arange(1, 20)}
    path = write_catalogue(
        tmp_path / "spAll.fits", **who, Z=np.full(19, 0.5), ZWARNING=np.zeros(19, int), CLASS=np.full(19, "GALAXY")
    )
    block = join(read_block(str(tmp_path / plate[0].name), WINDOW), read_catalogue(path))
    assert list(block.table["status"][:19]) == [""] * 19 and "no spZbest file" in block.table["status"][19]
    selected, reason = select(block.table, CUTS)
    assert selected[[0, 1, 3]].all() and reason[2] == "sky fiber" and not selected[19]


def test_catalogue_of_sdssv_tells_visits_apart(tmp_path):
    ids, mjd = np.array([9, 9, 4]) + 27021597911984196, np.array([60001, 60000, 60000])
    path = write_catalogue(
        tmp_path / "spAll.fits",
        FIELD=np.full(3, 112360),
        MJD=mjd,
        CATALOGID=ids,
        Z=np.arange(3.0),
        CLASS=["GALAXY"] * 3,
    )
    known = {"targetid": ids[[0, 1, 0]], "plate": 112360, "mjd": np.array([60001, 60000, 59999])}
    block = concatenate([read_block(str(tmp_path / "none.fits"), WINDOW)] * 3)
    joined = join(block._replace(table=full_table(3, known)), read_catalogue(path))
    assert list(joined.table["status"]) == ["", "", "not in the catalogue"]
    assert joined.table["z"][:2].tolist() == [0.0, 1.0]


def test_catalogue_is_read_in_blocks_of_rows(tmp_path, monkeypatch):
    fibers = np.arange(20, 0, -1)
    path = write_catalogue(
        tmp_path / "spAll.fits", PLATE=np.full(20, 4055), MJD=np.full(20, 55359), FIBERID=fibers, Z=fibers / 100,
        CLASS=np.array(["GALAXY", "QSO"] * 10),
    )  # fmt: skip
    whole, asked = read_catalogue(path), []
    read = tables.read_columns
    monkeypatch.setattr(tables, "ROWS", 7)
    monkeypatch.setattr(tables, "read_columns", lambda unit, names, rows: asked.append(rows) or read(unit, names, rows))
    blocks = read_catalogue(path)
    assert asked == [slice(0, 7), slice(7, 14), slice(14, 21)] and set(blocks) == set(whole)
    for name, values in whole.items():
        np.testing.assert_array_equal(blocks[name], values)
    assert blocks["key"]["fiberid"].tolist() == list(range(1, 21)) and blocks["z"][0] == pytest.approx(0.01)


@pytest.mark.parametrize("columns", [{"A": np.zeros(3)}, {"PLATE": np.zeros(3), "Z": np.zeros(3)}])
def test_catalogue_of_something_else_is_one_sentence(tmp_path, columns):
    with pytest.raises(UserError, match="expected PLATE, MJD and FIBERID"):
        read_catalogue(write_catalogue(tmp_path / "x.fits", **columns))


@pytest.mark.parametrize("name", ["mine.csv", "mine.ecsv", "mine.vot", "mine.parquet"])
def test_catalogue_may_be_any_table_of_astropy(tmp_path, name):
    mine = Table(
        {
            "plate": [4055, 4055, 4054], "mjd": np.full(3, 55359), "fiberID": [7, 3, 9], "z": [0.7, np.nan, 0.9],
            "zwarning": [0, 4, 0], "class": ["GALAXY", "QSO", "STAR"], "subClass": ["", "BROADLINE", ""],
            "remark": ["a", "b", "c"],
        },
        masked=True,
    )  # fmt: skip
    mine["z"].mask[1] = mine["subClass"].mask[0] = True
    options = {"format": "votable"} if name.endswith(".vot") else {}
    mine.write(tmp_path / name, **options)
    read = read_catalogue(str(tmp_path / name))
    assert read["key"]["fiberid"].tolist() == [9, 3, 7] and set(read) == {"key", "z", "zwarning", "class", "subclass"}
    np.testing.assert_array_equal(read["z"], [0.9, np.nan, 0.7])
    assert read["class"].tolist() == ["STAR", "QSO", "GALAXY"] and read["subclass"].tolist() == ["", "BROADLINE", ""]


def test_catalogue_of_skyserver_begins_with_a_title(tmp_path):
    (tmp_path / "casjobs.csv").write_text("#Table1\nplate,mjd,fiberID,z,class\n4055,55359,7,0.7,GALAXY\n")
    read = read_catalogue(str(tmp_path / "casjobs.csv"))
    assert read["key"].tolist() == [(4055, 55359, 7)] and read["class"].tolist() == ["GALAXY"]


def test_primary_rows_are_told_by_text_too(tmp_path):
    (tmp_path / "zall.csv").write_text("targetid,z,spectype,zcat_primary\n4,0.9,GALAXY,False\n4,0.31,GALAXY,True\n")
    assert read_catalogue(str(tmp_path / "zall.csv"))["z"].tolist() == [0.31, 0.9]


def test_missing_catalogue_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_catalogue(tmp_path / "spAll.fits")


def test_cuts_and_their_reasons():
    rows = [  # class, subclass, z, zwarning, objtype, status, reason
        ("GALAXY", "", 0.5, 0, "GALAXY", "", ""),
        ("GALAXY", "AGN BROADLINE", 0.5, 0, "GALAXY", "", "subclass AGN BROADLINE"),
        ("GALAXY", "STARFORMING", 0.5, 0, "GALAXY", "", "subclass STARFORMING"),
        ("GALAXY", "STARBURST BROADLINE", 0.5, 0, "", "", "subclass STARBURST BROADLINE"),
        ("GALAXY", "STARBURST", 0.5, 0, "", "", "subclass STARBURST"),
        ("GALAXY", "", 0.3, 0, "GALAXY", "", "z is not above 0.3"),
        ("GALAXY", "", np.nan, 0, "GALAXY", "", "z is not above 0.3"),
        ("GALAXY", "", 0.5, 4, "GALAXY", "", "ZWARNING 4"),
        ("QSO", "", 0.5, 0, "QSO", "", "class QSO, not GALAXY"),
        ("", "", 0.5, 0, "", "", "class unknown, not GALAXY"),
        ("GALAXY", "", 0.5, 5, "SKY", "", "sky fiber"),
        ("GALAXY", "", 0.5, 0, "GALAXY", "truncated", "truncated"),
    ]
    names = ("class", "subclass", "z", "zwarning", "objtype", "status")
    columns = {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}
    selected, reason = select(full_table(len(rows), columns), CUTS)
    assert list(reason) == [row[6] for row in rows]
    np.testing.assert_array_equal(selected, np.arange(len(rows)) == 0)


def test_starbursts_and_warnings_are_behind_switches():
    cuts = CUTS.copy_and_resolve_references()
    cuts.drop_starburst, cuts.clean_redshift = False, False
    known = {"class": "GALAXY", "z": 0.5, "subclass": np.array(["STARBURST", "STARFORMING"]), "zwarning": 4}
    assert list(select(full_table(2, known), cuts)[0]) == [True, False]


def test_real_galaxies_are_selected_and_the_sky_fiber_is_not(real_data):
    chosen = []
    for path, _ in find_files(str(real_data / "boss_galaxies")):
        selected, reason = select(read_block(path, WINDOW).table, CUTS)
        chosen.append(selected[0])
        if "5972" in path:
            assert reason[0] == "sky fiber"
    assert sum(chosen) == 11


def test_noqso_fit_is_for_galaxies_only():
    columns = {
        "CLASS": np.array(["GALAXY", "QSO", "QSO", "GALAXY"]),
        "OBJTYPE": np.array(["GALAXY", "QSO", "GALAXY", "GALAXY"]),
        "CLASS_NOQSO": np.array(["GALAXY", "GALAXY", "GALAXY", ""]),
        "SUBCLASS_NOQSO": np.full(4, "x"),
        "SUBCLASS": np.full(4, "y"),
        "Z": np.array([0.5, 2.0, 2.0, 0.4]),
        "Z_NOQSO": np.array([0.51, 0.6, 0.6, 0.0]),
        "ZWARNING": np.zeros(4),
        "ZWARNING_NOQSO": np.ones(4),
    }
    out = tables.standardise(columns)
    np.testing.assert_array_equal(out["z"], [0.51, 2.0, 0.6, 0.4])
    assert list(out["class"]) == ["GALAXY", "QSO", "GALAXY", "GALAXY"]
    assert list(out["zwarning"]) == [1, 0, 1, 0] and list(out["subclass"]) == ["x", "y", "x", "y"]
    out = tables.standardise(columns, quasars=True)
    np.testing.assert_array_equal(out["z"], columns["Z"])
    assert list(out["class"]) == list(columns["CLASS"]) and not out["zwarning"].any()


def test_a_redshift_of_zero_without_quasar_templates_is_none():
    columns = {"CLASS": np.array(["GALAXY"] * 2), "Z": np.full(2, 0.5), "ZWARNING": np.zeros(2, int)}
    columns |= {"CLASS_NOQSO": columns["CLASS"], "ZWARNING_NOQSO": columns["ZWARNING"], "Z_NOQSO": np.array([0.0, 0.4])}
    columns |= {"SUBCLASS": np.array(["", ""]), "SUBCLASS_NOQSO": np.array(["", ""])}
    np.testing.assert_array_equal(tables.standardise(columns)["z"], [0.5, 0.4])


def test_a_key_without_a_number_is_of_no_object():
    """As of floats in a spreadsheet with an empty cell."""
    key = tables.row_key({"plate": np.array([4055.0, np.nan]), "mjd": np.array([55359, 55359])}, ("plate", "mjd"))
    assert key.tolist() == [(4055, 55359), (-1, 55359)]
