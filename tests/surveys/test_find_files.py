"""What the user may type as the input of a search."""

import pathlib

import pytest

from lensjax.core.errors import UserError
from lensjax.surveys import find_files


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a" / "deep").mkdir(parents=True)
    for name in ("a/spec-1-2-3.fits", "a/deep/spPlate-1-2.fits", "a/deep/spZbest-1-2.fits", "a/coadd-x.fits",
                 "a/redrock-x.fits", "a/other.fits.gz", "a/README.txt", "a/.spec-1.77.tmp.fits"):  # fmt: skip
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def names(found):
    return [(pathlib.Path(path).name, kind) for path, kind in found]


ALL = [
    ("coadd-x.fits", "coadd"),
    ("spPlate-1-2.fits", "spPlate"),
    ("other.fits.gz", "unknown"),
    ("spec-1-2-3.fits", "spec"),
]


def test_folder_is_searched_to_any_depth_without_companions(folder):
    assert names(find_files(str(folder))) == ALL


def test_a_list_may_begin_with_a_byte_order_mark(folder):
    (folder / "list.txt").write_text("a/spec-1-2-3.fits\na/coadd-x.fits\n", encoding="utf-8-sig")
    assert names(find_files(str(folder / "list.txt"))) == [("coadd-x.fits", "coadd"), ("spec-1-2-3.fits", "spec")]


def test_links_to_folders_are_followed_once(folder, tmp_path_factory):
    linked = tmp_path_factory.mktemp("survey")
    (linked / "link").symlink_to(folder)
    assert names(find_files(str(linked))) == ALL
    (folder / "a" / "back").symlink_to(linked)  # a circle
    assert names(find_files(str(linked))) == ALL


def test_exposures_of_desi_are_read_where_they_are_named(folder):
    exposures = folder / "a" / "spectra-x.fits"
    exposures.write_bytes(b"")
    assert names(find_files(str(folder))) == ALL
    assert names(find_files(str(exposures))) == [("spectra-x.fits", "coadd")]
    assert names(find_files(str(folder / "a" / "spectra-*.fits"))) == [("spectra-x.fits", "coadd")]


def test_glob(folder):
    assert names(find_files(str(folder / "a" / "sp*.fits"))) == [("spec-1-2-3.fits", "spec")]
    assert names(find_files(str(folder / "**" / "*.fits"))) == [ALL[0], ALL[1], ALL[3]]


def test_single_file_is_kept_whatever_it_is(folder):
    for name in ("spec-1-2-3.fits", "README.txt", "deep/spZbest-1-2.fits"):
        (folder / "a" / name).write_bytes(b"SIMPLE  =                    T")
        assert find_files(str(folder / "a" / name))[0][0] == str(folder / "a" / name)


def test_list_file_is_relative_to_itself_and_keeps_what_is_missing(folder):
    (folder / "list.txt").write_text(
        "# mine\na/spec-1-2-3.fits\n\na/deep  # a folder\na/gone.fits\na/spec-1-2-3.fits\n"
    )
    found = names(find_files(str(folder / "list.txt")))
    assert found == [("spPlate-1-2.fits", "spPlate"), ("gone.fits", "unknown"), ("spec-1-2-3.fits", "spec")]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [("", "no input given"), ("nowhere", "no such file, folder or glob"), ("empty", "the folder holds no .fits file")],
)
def test_nothing_found_is_one_sentence(tmp_path, monkeypatch, source, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=sentence):
        find_files(source)
