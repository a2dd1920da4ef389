"""Each kind of bad file gets one sentence and costs no other file."""

import os
import re

import numpy as np
import pytest
from astropy.io import fits

from lensjax.physics import grid
from lensjax.surveys import concatenate, find_files, read_block, write_spec, write_spplate
from tests.surveys import mocks

WINDOW = grid.window(3800.0, 5000.0)
ROW = {"plate": 4055, "mjd": 55359, "fiberid": 7, "z": 0.4, "class": "GALAXY", "objtype": "GALAXY"}


def good_spec(path):
    flux, ivar, wdisp, mask = (array[0] for array in mocks.spectra(1))
    write_spec(path, mocks.LOGLAM, flux, ivar, ROW, wdisp=wdisp, and_mask=mask)


def edit(path, change):
    """Rewrite a file after `change(units)`."""
    with fits.open(path) as units:
        units = fits.HDUList([unit.copy() for unit in units])
    change(units)
    units.writeto(path, overwrite=True)


def column_to(name, value):
    def change(units):
        units[1].data[name] = value

    return change


def without(name):
    def change(units):
        columns = [column for column in units[1].columns if column.name != name]
        units[1] = fits.BinTableHDU.from_columns(columns, name="COADD")

    return change


def header_to(key, value):
    def change(units):
        units[0].header[key] = value

    return change


def stretched(units):
    units[1].data["loglam"] = np.linspace(3.55, 4.0, len(units[1].data))


def red(units):
    units[1].data["loglam"] += 0.3


def drop_row(units):
    del units[2]


EDITS = {
    "nan": (column_to("flux", np.nan), "every flux value between 3800 and 4999 A is NaN"),
    "nan ivar": (
        column_to("ivar", np.nan),
        "no good pixel between 3800 and 4999 A: all missing, masked or with ivar 0",
    ),
    "no ivar": (without("ivar"), "no ivar column: the errors are unknown"),
    "no loglam": (without("loglam"), "no loglam column: the wavelengths are unknown"),
    "units": (header_to("BUNIT", "Jy"), "flux is in 'Jy': expected 1e-17 erg/s/cm2/A"),
    "air": (header_to("VACUUM", False), "wavelengths are in air: expected vacuum"),
    "air by name": (header_to("AIRORVAC", "air"), "wavelengths are in air: expected vacuum"),
    "grid": (stretched, "loglam is not a rising list of multiples of 1e-4: not a coadd on the survey's grid"),
    "red": (red, "covers 7083 to 20422 A: nothing in the window"),
    "no row": (drop_row, "no SPALL/SPECOBJ row: class and redshift are unknown"),
}


@pytest.mark.parametrize("case", EDITS)
def test_damaged_spec_gets_its_sentence(tmp_path, case):
    change, sentence = EDITS[case]
    path = tmp_path / "spec-4055-55359-0007.fits"
    good_spec(path)
    edit(path, change)
    block = read_block(str(path), WINDOW)
    assert list(block.table["status"]) == [sentence]
    assert np.isfinite(block.flux).all() and np.isfinite(block.z).all()


@pytest.mark.parametrize(("key", "value"), [("GCOUNT", -9), ("PCOUNT", -(10**9)), ("TFIELDS", 10**11)])
def test_damaged_sizes_end_in_a_sentence(tmp_path, key, value):
    path = tmp_path / "spec-4055-55359-0007.fits"
    good_spec(path)
    content = path.read_bytes()
    at = next(re.finditer(key.ljust(8).encode() + b"= ", content)).start()
    path.write_bytes(content[:at] + f"{key:8}= {value:>20}".ljust(80).encode() + content[at + 80 :])
    assert f"{key} is {value}" in read_block(str(path), WINDOW).table["status"][0]


def test_a_file_whose_name_is_no_text_has_its_row(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/Donn\xe9es-spec.fits")
    table = read_block(path, WINDOW).table
    assert "is no UTF-8: rename it" in table["status"][0] and table["file"][0].endswith("/Donn?es-spec.fits")


def test_spectrum_without_catalogue_row_keeps_its_flux_and_names(tmp_path):
    path = tmp_path / "spec-4055-55359-0007.fits"
    good_spec(path)
    edit(path, drop_row)
    block = read_block(str(path), WINDOW)
    assert block.has_data[0] and np.isnan(block.table["z"][0])
    assert (block.table["plate"][0], block.table["mjd"][0], block.table["fiberid"][0]) == (4055, 55359, 7)


def test_units_written_as_the_surveys_do_are_accepted(tmp_path):
    path = tmp_path / "spec-4055-55359-0007.fits"
    good_spec(path)
    for unit in ("1E-17 erg/cm^2/s/Ang", "10**-17 erg/(s cm2 Angstrom)", "1e-17 erg s^-1 cm^-2 Angstrom^-1", ""):
        edit(path, header_to("BUNIT", unit))
        assert read_block(str(path), WINDOW).table["status"][0] == ""


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "empty file: 0 bytes"),
        (b"<html>404 not found</html>", "not a FITS file: it does not begin with SIMPLE"),
        (b"SIMPLE  =                    T" + b" " * 500, "truncated: the file ends inside its first header"),
        (b"\0" * 5000, "not a FITS file"),
    ],
)
def test_what_is_no_fits_file_says_so(tmp_path, content, sentence):
    path = tmp_path / "spec-1-2-3.fits"
    path.write_bytes(content)
    block = read_block(str(path), WINDOW)
    assert block.table["status"][0].startswith(sentence) and block.flux.shape == (1, 1192)


def test_missing_file_and_damaged_gzip(tmp_path):
    assert read_block(str(tmp_path / "spec-9.fits"), WINDOW).table["status"][0] == "no such file"
    (tmp_path / "spec-1.fits.gz").write_bytes(b"\x1f\x8b\x08\0 not really")
    assert read_block(str(tmp_path / "spec-1.fits.gz"), WINDOW).table["status"][0].startswith("cannot be read")


def test_spec_cut_at_any_place_never_raises(tmp_path):
    whole = tmp_path / "whole.fits"
    good_spec(whole)
    content = whole.read_bytes()
    for length in np.linspace(1, len(content) - 2881, 40).astype(int):
        path = tmp_path / "spec-4055-55359-0007.fits"
        path.write_bytes(content[:length])
        block = read_block(str(path), WINDOW)
        assert block.table["status"][0] != "" and len(block.z) == 1


def test_plate_cut_at_any_place_is_one_row(tmp_path):
    path = tmp_path / "spPlate-4055-55359.fits"
    flux, ivar, _, _ = mocks.spectra(3)
    write_spplate(path, mocks.LOGLAM, flux, ivar, mocks.table(3))
    content = path.read_bytes()
    for length in np.linspace(1, len(content) - 2881, 40).astype(int):
        path.write_bytes(content[:length])
        block = read_block(str(path), WINDOW)
        assert block.table["status"][0] != "" and len(block.z) == 1 and not block.has_data.any()


def test_random_damage_never_raises(tmp_path):
    whole = tmp_path / "whole.fits"
    good_spec(whole)
    content = bytearray(whole.read_bytes())
    rng = np.random.default_rng(0)
    path = tmp_path / "spec-4055-55359-0007.fits"
    for _ in range(100):
        damaged = bytearray(content)
        for at in rng.integers(0, 9000, 20):  # the headers
            damaged[at] = rng.integers(32, 127)
        path.write_bytes(damaged)
        assert read_block(str(path), WINDOW).flux.shape == (1, 1192)


def test_a_plate_that_is_cut_short_says_so_wherever_it_ends(tmp_path):
    path = tmp_path / "spPlate-4055-55359.fits"
    flux, ivar, _, _ = mocks.spectra(3)
    write_spplate(path, mocks.LOGLAM, flux, ivar, mocks.table(3))
    content = path.read_bytes()
    for kept in (0.1, 0.3, 0.5, 0.9, 0.95):
        path.write_bytes(content[: int(kept * len(content))])
        assert read_block(str(path), WINDOW).table["status"][0].startswith(f"truncated: {int(kept * len(content))} of")


def test_plate_with_images_of_different_lengths(tmp_path):
    path = tmp_path / "spPlate-4055-55359.fits"
    flux, ivar, _, _ = mocks.spectra(3)
    write_spplate(path, mocks.LOGLAM, flux, ivar, mocks.table(3))

    def shorten(units):
        units[1].data = units[1].data[:, :-1]

    edit(path, shorten)
    assert read_block(str(path), WINDOW).table["status"][0] == (
        "HDU 1 has shape (3, 4599), the flux (3, 4600): not one plate"
    )


def test_neighbours_of_bad_files_are_read(tmp_path):
    for number in range(3):
        good_spec(tmp_path / f"spec-4055-55359-000{number}.fits")
    good_spec(tmp_path / "spec-4055-55359-0009.fits")
    edit(tmp_path / "spec-4055-55359-0009.fits", column_to("flux", np.nan))
    content = (tmp_path / "spec-4055-55359-0000.fits").read_bytes()
    (tmp_path / "spec-4055-55359-0004.fits").write_bytes(content[:20_000])
    (tmp_path / "spec-4055-55359-0005.fits").write_bytes(b"")
    (tmp_path / "spec-4055-55359-0006.fits").write_bytes(b"not a spectrum")
    block = concatenate([read_block(path, WINDOW) for path, _ in find_files(str(tmp_path))])
    assert list(block.table["status"] == "") == [True, True, True, False, False, False, False]
    assert list(block.has_data) == [True, True, True, False, False, False, False]
    assert "truncated" in block.table["status"][3]
