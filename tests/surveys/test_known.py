"""The user's table of known objects: rows without a place, and the early check. Matching is tested with the search."""

import numpy as np
import pytest
from astropy.table import Table

from configs import vetting
from lensjax.core.errors import UserError
from lensjax.surveys.known import check_known, identify, known_objects


def settings(folder, text):
    (folder / "known.csv").write_text(text)
    vet = vetting.vetting()
    vet.known = str(folder / "known.csv")
    return vet


def test_rows_without_a_place_are_left_out_and_counted(tmp_path, capsys):
    vet = settings(tmp_path, "name,ra,dec\na,nan,2.0\nb,1.0,2.0\nc,,3.0\nd,1.0,\ne,1.0,99.0\n")
    name, distance = known_objects(np.array([1.0]), np.array([2.0]), vet)
    assert name.tolist() == ["b"] and distance[0] == 0
    assert capsys.readouterr().err == f"{vet.known}: 4 known objects without coordinates are left out\n"
    known_objects(np.array([1.0]), np.array([2.0]), vet)
    assert not capsys.readouterr().err  # read once
    settings(tmp_path, "name,ra,dec\nnew,1.0,2.0\n")
    assert known_objects(np.array([1.0]), np.array([2.0]), vet)[0].tolist() == ["new"]  # and again when it has changed


def test_the_columns_of_vizier(tmp_path):
    vet = settings(tmp_path, "Name,RAJ2000,DEJ2000\na,1.0,2.0\n")
    assert known_objects(np.array([1.0]), np.array([2.0]), vet)[0].tolist() == ["a"]


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        (".csv", "name,ra,dec\na,10:04:09.35,-00:02:56.5\n"),
        (".csv", "name,RA,Dec\na,10h04m09.35s,-0d02m56.5s\n"),
        (".csv", "\ufeffra,dec,name\n151.03896,-0.04903,a\n"),  # a spreadsheet's
        (".csv", "Name,RA_ICRS,DE_ICRS\na,151.03896,-0.04903\n"),
        (".tsv", "# VizieR\nName\t_RAJ2000\t_DEJ2000\n \tdeg\tdeg\n----\t----\t----\na\t151.03896\t-0.04903\n"),
    ],
    ids=["colons", "letters", "mark", "icrs", "units"],
)
def test_positions_as_tables_give_them(tmp_path, suffix, text):
    vet = vetting.vetting()
    vet.known = str(tmp_path / f"known{suffix}")
    (tmp_path / f"known{suffix}").write_text(text, encoding="utf-8")
    name, distance = known_objects(np.array([151.03896]), np.array([-0.04903]), vet)
    assert name.tolist() == ["a"] and distance[0] < 0.1


@pytest.mark.parametrize("text", ["name,ra,dec\n,1.0,2.0\nb,5.0,2.0\n", "z,ra,dec\n0.3,1.0,2.0\n"])
def test_an_entry_without_a_name_is_told_by_its_row(tmp_path, text):
    assert known_objects(np.array([1.0]), np.array([2.0]), settings(tmp_path, text))[0].tolist() == ["row 0"]


@pytest.mark.parametrize("kind", [str, bytes])
def test_names_of_fits_tables(tmp_path, kind):
    names = np.array(["a ", "b"]).astype(np.dtype(kind))
    Table({"NAME": names, "RA": [1.0, 9.0], "DEC": [2.0, 2.0]}).write(tmp_path / "known.fits")
    vet = vetting.vetting()
    vet.known = str(tmp_path / "known.fits")
    assert known_objects(np.array([9.0, 1.0]), np.array([2.0, 2.0]), vet)[0].tolist() == ["b", "a"]


@pytest.mark.parametrize(("suffix", "separator"), [(".tsv", "\t"), (".txt", " ")])
def test_lists_of_text(tmp_path, suffix, separator):
    vet = vetting.vetting()
    vet.known = str(tmp_path / f"known{suffix}")
    (tmp_path / f"known{suffix}").write_text(
        separator.join(["name", "ra", "dec"]) + "\n" + separator.join("a12") + "\n"
    )
    assert known_objects(np.array([1.0]), np.array([2.0]), vet)[0].tolist() == ["a"]


def test_the_table_can_be_checked_before_it_is_needed(tmp_path):
    check_known(settings(tmp_path, "ra,dec\n1,2\n"))
    check_known(vetting.vetting())  # none
    for text in ("ra,dec\nnan,1\n", "a,b\n1,2\n"):
        with pytest.raises(UserError, match="none with a place in the sky"):
            check_known(settings(tmp_path, text))
    vet = vetting.vetting()
    vet.known = str(tmp_path / "none.fits")
    with pytest.raises(UserError, match="cannot be read"):
        check_known(vet)


def test_objects_beyond_the_poles_are_nowhere(tmp_path):
    vet = settings(tmp_path, "name,ra,dec\nb,1.0,2.0\n")
    found = identify(np.array([1.0, 1.0]), np.array([-999.0, 2.0]), vet)
    assert found["known"].tolist() == ["", "b"] and found["name"][0] == found["viewer"][0] == ""


def test_objects_have_a_name_and_a_link_where_they_have_a_place():
    vet = vetting.vetting()
    found = identify(np.array([150.0, np.nan]), np.array([-2.5, 1.0]), vet)
    assert found["name"].tolist() == ["J100000.00-023000.0", ""] and found["known"].tolist() == ["", ""]
    first, second = found["viewer"]
    assert "ra=150.00000&dec=-2.50000" in first and second == ""
    vet.viewer = ""
    assert identify(np.array([150.0]), np.array([2.0]), vet)["viewer"].tolist() == [""]


@pytest.mark.parametrize("link", ["http://x/{name}", "http://x/{", "http://x/{}", "http://x/{ra.b}"])
def test_a_link_with_other_braces_is_one_sentence(link):
    vet = vetting.vetting()
    vet.viewer = link
    with pytest.raises(UserError, match=r"expected a link with \{ra\} and \{dec\}"):
        check_known(vet)
