"""SDSS, BOSS and eBOSS files: astropy is the oracle for the numbers, the survey's own tables for the facts."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from lensjax.physics import grid
from lensjax.surveys import find_files, read_block, write_spec, write_spplate
from tests.surveys import mocks

WINDOW = grid.window(3800.0, 5000.0)


@pytest.mark.parametrize("folder", ["boss_galaxies", "boss_sky", "boss_stars", "boss_quasars", "sdss_legacy"])
def test_every_real_file_agrees_with_astropy(real_data, folder):
    files = find_files(str(real_data / folder))
    assert (
        len(files)
        == {"boss_galaxies": 12, "boss_sky": 4, "boss_stars": 4, "boss_quasars": 45, "sdss_legacy": 8}[folder]
    )
    assert {kind for _, kind in files} == {"spec"}
    blocks = [read_block(path, WINDOW) for path, _ in files]
    assert all(block.table["status"][0] == "" for block in blocks)
    for (path, _), block in list(zip(files, blocks, strict=True))[:: 1 + len(files) // 12]:  # astropy is slow
        with fits.open(path) as units:
            pixels = units[1].data
            index = np.rint(pixels["LOGLAM"].astype(float) * 1e4).astype(int)
            keep = (index >= 35798) & (index <= 36989)
            good = (pixels["IVAR"][keep] > 0) & (pixels["AND_MASK"][keep] & 2**23 == 0)
            want = np.zeros(1192, np.float32)
            want[index[keep] - 35798] = np.where(good, pixels["FLUX"][keep], 0)
            row = units[2].data[0]
            ids = [row["PLATE"], row["MJD"], row["FIBERID"], row["CLASS"], row["SUBCLASS"], row["PLUG_RA"]]
        np.testing.assert_array_equal(block.flux[0], want)
        assert (block.ivar[0] > 0).sum() == good.sum()
        table = block.table
        assert [table[name][0] for name in ("plate", "mjd", "fiberid", "class", "subclass", "ra")] == ids


def test_known_facts_of_a_sky_fiber_that_looks_like_a_galaxy(real_data):
    table = read_block(str(real_data / "boss_galaxies" / "spec-5972-56334-0558.fits"), WINDOW).table
    assert table["sky"][0] and table["objtype"][0] == "SKY" and table["class"][0] == "GALAXY"
    assert table["zwarning"][0] == 5 and table["z"][0] == pytest.approx(0.3583, abs=1e-4)
    assert table["survey"][0] == "BOSS"


def test_legacy_files_are_padded_and_keep_z(real_data):
    block = read_block(str(real_data / "sdss_legacy" / "spec-0750-52235-0328.fits"), WINDOW)
    assert block.z[0] == pytest.approx(0.3817, abs=1e-4)  # its Z_NOQSO is 0
    assert block.table["survey"][0] == "SDSS" and block.table["objtype"][0] == "GALAXY"  # from SOURCETYPE
    assert (block.ivar[0, :28] == 0).all() and (block.ivar[0, 28:] > 0).sum() == 1161  # 3 BRIGHTSKY pixels
    assert (block.wdisp[0, :28] == 1).all()


def test_quasar_keeps_its_class_where_the_galaxy_fit_differs(real_data):
    table = read_block(str(real_data / "boss_quasars" / "spec-3655-55240-0104.fits"), WINDOW).table
    assert table["class"][0] == "QSO" and table["z"][0] == pytest.approx(0.5677, abs=1e-4)  # not Z_NOQSO 0.977


def test_line_spread_function_of_boss(real_data):
    files = find_files(str(real_data / "boss_galaxies"))
    wdisp = np.median([read_block(path, WINDOW).wdisp[0] for path, _ in files], axis=0)
    at = np.rint(grid.pixel([3900.0, 4300.0, 4900.0], WINDOW)).astype(int)
    np.testing.assert_allclose(wdisp[at], [1.25, 1.08, 0.95], atol=0.06)


def test_whole_spectrum_is_a_matter_of_the_window(real_data):
    path = str(real_data / "boss_galaxies" / "spec-4039-55648-0759.fits")
    wide, narrow = read_block(path, grid.window(3600.0, 9800.0)), read_block(path, WINDOW)
    first = grid.index0(WINDOW) - grid.index0(grid.window(3600.0, 9800.0))
    np.testing.assert_array_equal(wide.flux[:, first : first + 1192], narrow.flux)
    assert (wide.ivar[0] > 0).sum() > 4000


@pytest.fixture(scope="module")
def plate(tmp_path_factory):
    """A plate of 20 fibers on disk, and what went into it."""
    flux, ivar, wdisp, mask = mocks.spectra(20)
    ivar[5, 200:260] = 0
    table = mocks.table(20)
    path = tmp_path_factory.mktemp("plate") / "spPlate-4055-55359.fits"
    best = write_spplate(path, mocks.LOGLAM, flux, ivar, table, wdisp=wdisp, and_mask=mask)
    return path, best, (flux, ivar, wdisp, mask), table


def test_plate_round_trip(plate):
    path, _, (flux, ivar, wdisp, mask), table = plate
    block = read_block(str(path), WINDOW)
    cut = slice(35798 - 35502, 35798 - 35502 + 1192)
    good = (ivar[:, cut] > 0) & (mask[:, cut] & 2**23 == 0)
    np.testing.assert_array_equal(block.flux, np.where(good, flux[:, cut], 0))
    np.testing.assert_array_equal(block.ivar, np.where(good, ivar[:, cut], 0))
    np.testing.assert_array_equal(block.wdisp, wdisp[:, cut])
    np.testing.assert_allclose(block.z, table["z"], rtol=1e-6)
    for name in ("ra", "dec", "class", "subclass", "objtype"):
        np.testing.assert_array_equal(block.table[name], table[name])
    np.testing.assert_array_equal(block.table["fiberid"], np.arange(1, 21))
    assert set(block.table["plate"]) == {4055} and set(block.table["mjd"]) == {55359}
    assert block.table["sky"].sum() == 1 and (block.table["status"] == "").all()
    assert all(array.dtype == np.float32 and array.flags.c_contiguous for array in block.batch().values())


def test_plate_layout_is_the_survey_s(plate):
    path, best, _, _ = plate
    with fits.open(path) as units:
        assert [unit.name for unit in units[1:]] == ["IVAR", "ANDMASK", "ORMASK", "WAVEDISP", "PLUGMAP", "SKY"]
        assert units[0].header["COEFF0"] == pytest.approx(3.5502) and units[0].header["COEFF1"] == 1e-4
        assert units[0].header["PLATEID"] == 4055 and units[0].data.shape == (20, 4600)
    assert best.name == "spZbest-4055-55359.fits"
    with fits.open(best) as units:
        assert {"PLATE", "MJD", "FIBERID", "CLASS", "Z", "ZWARNING", "Z_NOQSO"} <= set(units[1].columns.names)


def test_spzbest_in_the_run1d_folder_and_in_any_order(plate, tmp_path):
    path, best, _, table = plate
    (tmp_path / "v5_13_2").mkdir()
    (tmp_path / path.name).write_bytes(path.read_bytes())
    with fits.open(best) as units:
        units[1].data = units[1].data[np.arange(19, 4, -1)]  # fibers 20 to 6
        units.writeto(tmp_path / "v5_13_2" / best.name)
    block = read_block(str(tmp_path / path.name), WINDOW)
    np.testing.assert_allclose(block.z[5:], table["z"][5:], rtol=1e-6)
    assert (block.table["status"][5:] == "").all() and (block.z[:5] == 0).all()
    assert block.table["status"][0] == "no row in spZbest: class and redshift are unknown"


def test_the_highest_run1d_counts_not_the_last_by_name(plate, tmp_path):
    path, best, _, table = plate
    (tmp_path / path.name).write_bytes(path.read_bytes())
    for run1d, shift in (("v5_9_0", 0.5), ("v5_13_0", 0.0)):
        (tmp_path / run1d).mkdir()
        with fits.open(best) as units:
            for name in ("Z", "Z_NOQSO"):
                units[1].data[name] += shift
            units.writeto(tmp_path / run1d / best.name)
    np.testing.assert_allclose(read_block(str(tmp_path / path.name), WINDOW).z, table["z"], rtol=1e-6)


def test_plate_without_spzbest_still_has_its_spectra(plate, tmp_path):
    path = plate[0]
    (tmp_path / path.name).write_bytes(path.read_bytes())
    block = read_block(str(tmp_path / path.name), WINDOW)
    assert block.has_data.all() and np.isnan(block.table["z"]).all() and (block.z == 0).all()
    assert set(block.table["status"]) == {
        "no spZbest file beside the spPlate or one folder below: class and redshift are unknown"
    }
    assert block.table["sky"].sum() == 1  # the plug map still tells


def test_spec_round_trip(tmp_path):
    flux, ivar, wdisp, _ = mocks.spectra(1)
    row = {"plate": 7400, "mjd": 57000, "fiberid": 12, "z": 0.5, "class": "GALAXY", "subclass": "AGN BROADLINE"}
    write_spec(tmp_path / "spec-7400-57000-0012.fits", mocks.LOGLAM, flux[0], ivar[0], row, wdisp=wdisp[0])
    block = read_block(str(tmp_path / "spec-7400-57000-0012.fits"), WINDOW)
    np.testing.assert_array_equal(block.flux[0], flux[0, 296:1488])
    np.testing.assert_array_equal(block.ivar[0], ivar[0, 296:1488])
    np.testing.assert_array_equal(block.wdisp[0], wdisp[0, 296:1488])
    got = {name: block.table[name][0] for name in ("plate", "fiberid", "z", "subclass", "survey")}
    assert got == {"plate": 7400, "fiberid": 12, "z": 0.5, "subclass": "AGN BROADLINE", "survey": "eBOSS"}


def test_gzipped_file_reads_the_same(plate, tmp_path):
    import gzip

    path, best, _, _ = plate
    for file in (path, best):
        (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1))
    packed, plain = read_block(str(tmp_path / f"{path.name}.gz"), WINDOW), read_block(str(path), WINDOW)
    np.testing.assert_array_equal(packed.flux, plain.flux)
    np.testing.assert_array_equal(packed.z, plain.z)


def test_writer_refuses_a_name_without_plate_and_mjd(tmp_path):
    with pytest.raises(ValueError, match="expected spPlate-PPPP-MMMMM"):
        write_spplate(tmp_path / "mock.fits", mocks.LOGLAM, *mocks.spectra(2)[:2], mocks.table(2))


def write_sdssv(path, header, row, name="SPALL"):
    """A spec file as SDSS-V writes it (specLite of DR19): no PLATE, PLATEID blank."""
    flux, ivar, wdisp, mask = (array[0] for array in mocks.spectra(1))
    pixels = {"FLUX": flux, "LOGLAM": mocks.LOGLAM.astype(np.float32), "IVAR": ivar, "AND_MASK": mask, "WDISP": wdisp}
    units = [fits.PrimaryHDU(None, fits.Header({"PLATEID": "", "VACUUM": True, **header}))]
    units += [fits.BinTableHDU(Table(pixels), name="COADD"), fits.BinTableHDU(Table(row), name=name)]
    units[1].header["TUNIT1"] = "10^-17 ergs/s/cm^2/Angs"
    fits.HDUList(units).writeto(path)
    return read_block(str(path), WINDOW)


FIELD = {"FIELD": [112360], "MJD": [60000], "OBJTYPE": ["QSO"], "CLASS": ["GALAXY"], "Z": [0.5], "ZWARNING": [0]}


def test_sdssv_names_are_field_and_catalogid(tmp_path):
    row = {**FIELD, "CATALOGID": [27021597911984196], "SDSS_ID": [114986844], "FIBER_RA": [150.1], "FIBER_DEC": [2.2]}
    block = write_sdssv(tmp_path / "spec-112360-60000-27021597911984196.fits", {"FIELDID": 112360}, row)
    table = {name: block.table[name][0] for name in ("survey", "plate", "mjd", "targetid", "ra", "dec", "z", "status")}
    assert table == {"survey": "SDSS-V", "plate": 112360, "mjd": 60000, "targetid": 27021597911984196, "ra": 150.1,
                     "dec": 2.2, "z": 0.5, "status": ""}  # fmt: skip


def test_sdssv_names_that_are_text_blank_or_in_the_header_alone(tmp_path):
    row = {**FIELD, "CATALOGID": ["u101010.1+020202.2"], "SDSS_ID": [7], "RACAT": [150.1], "DECCAT": [2.2]}
    block = write_sdssv(tmp_path / "spec-1.fits", {}, row)
    assert [block.table[name][0] for name in ("survey", "targetid", "ra", "dec")] == ["SDSS-V", 7, 150.1, 2.2]
    block = write_sdssv(tmp_path / "spec-2.fits", {"FIELDID": 112360, "MJD": 60000}, {"OTHER": [1]}, "OTHER")
    assert [block.table[name][0] for name in ("survey", "plate", "mjd")] == ["SDSS-V", 112360, 60000]
    block = write_sdssv(tmp_path / "spec-3.fits", {}, {"OTHER": [1]}, "OTHER")
    assert block.table["survey"][0] == "" and block.table["plate"][0] == -1


def test_templates_are_no_plate(tmp_path):
    header = fits.Header({"COEFF0": 3.5523, "COEFF1": 1e-4})
    fits.PrimaryHDU(np.ones((4, 4600), np.float32), header).writeto(tmp_path / "spEigenGal-55740.fits")
    status = read_block(str(tmp_path / "spEigenGal-55740.fits"), WINDOW).table["status"][0]
    assert "spField" not in status and status


@pytest.mark.parametrize(("key", "value"), [("FIELDID", 112360), ("PLATEID", ""), ("PLATEID", 15000)])
def test_spfield_is_not_taken_for_a_plate(tmp_path, key, value):
    images = [np.ones((2, 4600), np.float32)] * 4
    units = [fits.PrimaryHDU(images[0], fits.Header({"COEFF0": 3.5523, "COEFF1": 1e-4, key: value}))]
    units += [fits.ImageHDU(data) for data in images] + [fits.BinTableHDU(Table({"CATALOGID": [1, 2]}), name="PLUGMAP")]
    fits.HDUList(units).writeto(tmp_path / "spField-112360-60000.fits")
    block = read_block(str(tmp_path / "spField-112360-60000.fits"), WINDOW)
    assert block.table["status"][0].startswith("an spField file of SDSS-V") and len(block.z) == 1
