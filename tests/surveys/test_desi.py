"""DESI coadds: information and flux are conserved on the way to the log grid, and the LSF is the matrix's."""

import gzip

import numpy as np
import pytest
from astropy.io import fits

from lensjax.physics import grid
from lensjax.surveys import desi, read_block
from lensjax.surveys.fits import image, open_fits

WINDOW = grid.window(3800.0, 5000.0)
NAME = "coadd-4-80613-thru20210324.fits"


def write_coadd(
    folder, flux, ivar, sigma=0.76, redshifts=True, mask=None, unit="10**-17 erg/(s cm2 Angstrom)", packed=False
):
    """A coadd of one B arm, 3600-5200 A, and its redrock file; sigma: of the LSF in A; packed: mask in tiles."""
    num, length = flux.shape
    wave = 3600.0 + 0.8 * np.arange(length)
    offset = 0.8 * np.arange(-5, 6)
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)
    resolution = np.broadcast_to((kernel / kernel.sum())[None, :, None], (num, 11, length)).astype(np.float32)
    ids = np.arange(num) + 10
    fibers = np.rec.fromarrays(
        [ids, ids * 1.0, ids * 2.0, np.array(["TGT"] * num, "S3")], names="TARGETID,TARGET_RA,TARGET_DEC,OBJTYPE"
    )
    mask = np.zeros((num, length), np.int32) if mask is None else mask
    images = {"B_WAVELENGTH": wave, "B_FLUX": flux, "B_IVAR": ivar, "B_MASK": mask, "B_RESOLUTION": resolution}
    units = [fits.PrimaryHDU(), fits.BinTableHDU(fibers, name="FIBERMAP")]
    units += [fits.ImageHDU(data, name=name) for name, data in images.items()]
    units[3].header["BUNIT"] = unit
    if packed:
        units[5] = fits.CompImageHDU(mask, name="B_MASK", compression_type="GZIP_1")
    fits.HDUList(units).writeto(folder / "coadd-x.fits")
    if redshifts:
        rows = np.rec.fromarrays(
            [ids[::-1], ids[::-1] / 100, ids * 0, np.array(["GALAXY"] * num, "S6")], names="TARGETID,Z,ZWARN,SPECTYPE"
        )
        fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU(rows, name="REDSHIFTS")]).writeto(folder / "redrock-x.fits")
    return wave


def test_real_coadd(real_data):
    block = read_block(str(real_data / "desi" / NAME), WINDOW)
    got = {name: block.table[name][0] for name in ("survey", "class", "objtype", "targetid", "status", "zwarning")}
    assert got == {"survey": "DESI", "class": "GALAXY", "objtype": "TGT", "targetid": 39633345008634465, "status": "",
                   "zwarning": 0}  # fmt: skip
    assert block.z[0] == pytest.approx(0.3687, abs=1e-4)
    assert block.table["ra"][0] == pytest.approx(105.4898, abs=1e-3)
    assert (block.ivar[0] > 0).sum() == 1192
    with fits.open(real_data / "desi" / NAME) as units:
        wave, flux, ivar = (units[f"B_{name}"].data.squeeze() for name in ("WAVELENGTH", "FLUX", "IVAR"))
    inside = (wave > 3900) & (wave < 4900)
    here = (grid.wave(WINDOW) > 3900) & (grid.wave(WINDOW) < 4900)
    width = np.diff(grid.edges(WINDOW))
    assert block.ivar[0, here].sum() == pytest.approx(ivar[inside].sum(), rel=2e-3)
    assert (block.flux[0] * width)[here].sum() == pytest.approx(0.8 * flux[inside].sum(), rel=0.01)
    resolution = 4300 / (2.355 * block.wdisp[0, 537] * grid.wave(WINDOW)[537] * np.log(10) * 1e-4)
    assert 2000 < resolution < 3500  # DESI's blue arm: 2000 at 3600 A to 3200 at 5800 A


def test_real_coadd_joins_its_arms(real_data):
    block = read_block(str(real_data / "desi" / NAME), grid.window(3650.0, 9750.0))
    assert (block.ivar[0] > 0).mean() > 0.99
    here = (grid.wave(grid.window(3650.0, 9750.0)) > 5770) & (grid.wave(grid.window(3650.0, 9750.0)) < 5790)
    with fits.open(real_data / "desi" / NAME) as units:
        one = np.median(units["B_IVAR"].data[units["B_FLUX"].data.shape[0] - 1][-30:])
    assert np.median(block.ivar[0, here]) > one  # two arms know more than one


def test_rebinning_keeps_information_and_noise():
    """Sums over many pixels have the error that ivar says, although neighbours are correlated."""
    rng = np.random.default_rng(0)
    wave = 3600.0 + 0.8 * np.arange(2000)
    share = desi.overlap_matrix(wave, grid.edges(WINDOW))
    ivar = np.full((4000, 2000), 4.0)
    flux = rng.normal(0, 0.5, ivar.shape)
    out_ivar = ivar @ share
    out = (flux * ivar) @ share / out_ivar
    pulls = out * np.sqrt(out_ivar)
    blocks = (out * out_ivar)[:, :1190].reshape(4000, 119, 10).sum(2) / np.sqrt(
        out_ivar[:, :1190].reshape(4000, 119, 10).sum(2)
    )
    assert 0.75 < pulls.std() < 0.95  # each pixel by itself is better than its ivar says
    assert 0.95 < blocks.std() <= 1.0
    neighbours = np.mean(pulls[:, 1:] * pulls[:, :-1]) / np.mean(pulls**2)
    assert 0.1 < neighbours < 0.3


def test_straight_continuum_survives(tmp_path):
    wave = write_coadd(tmp_path, *line_and_errors())
    block = read_block(str(tmp_path / "coadd-x.fits"), WINDOW)
    model = 1 + (grid.wave(WINDOW) - wave[0]) / 1000
    np.testing.assert_allclose(block.flux[0], model, rtol=2e-4)
    np.testing.assert_array_equal(block.table["targetid"], [10, 11, 12])
    np.testing.assert_allclose(block.z, [0.10, 0.11, 0.12])  # the redrock rows are in another order


def line_and_errors(num=3, length=2000):
    ramp = np.float32(1 + 0.8 * np.arange(length) / 1000)
    return np.tile(ramp, (num, 1)), np.full((num, length), 2.0, np.float32)


def test_lsf_width_is_that_of_the_resolution_matrix(tmp_path):
    write_coadd(tmp_path, *line_and_errors(), sigma=0.9)
    block = read_block(str(tmp_path / "coadd-x.fits"), WINDOW)
    want = np.sqrt(0.9**2 + 0.8**2 / 12) / (grid.wave(WINDOW) * np.log(10) * 1e-4)
    np.testing.assert_allclose(block.wdisp[1], want, rtol=0.01)


def test_masked_pixels_do_not_count(tmp_path):
    flux, ivar = line_and_errors()
    mask = np.zeros(flux.shape, np.int32)
    flux[1, 500:600], mask[1, 500:600] = 1e6, 4
    flux[2, 700], ivar[2, 700] = np.nan, np.nan
    write_coadd(tmp_path, flux, ivar, mask=mask)
    block = read_block(str(tmp_path / "coadd-x.fits"), WINDOW)
    assert block.flux.max() < 3 and np.isfinite(block.flux).all()
    hidden = (grid.wave(WINDOW) > 4002) & (grid.wave(WINDOW) < 4078)
    assert (block.ivar[1, hidden] == 0).all() and (block.ivar[0] > 0).all()


def test_coadd_without_redrock_says_so(tmp_path):
    write_coadd(tmp_path, *line_and_errors(), redshifts=False)
    block = read_block(str(tmp_path / "coadd-x.fits"), WINDOW)
    assert block.has_data.all()
    assert block.table["status"][0] == "no redrock file beside the coadd: class and redshift are unknown"


def test_redrock_may_be_gzipped(tmp_path):
    write_coadd(tmp_path, *line_and_errors())
    plain = tmp_path / "redrock-x.fits"
    (tmp_path / "redrock-x.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    block = read_block(str(tmp_path / "coadd-x.fits"), WINDOW)
    np.testing.assert_allclose(block.z, [0.10, 0.11, 0.12])


@pytest.mark.parametrize("packed", [False, True])
def test_unsigned_and_compressed_masks_hide_the_same_pixels(tmp_path, packed):
    flux, ivar = line_and_errors()
    mask = np.zeros(flux.shape, np.int32)
    mask[1, 500:600] = 4
    blocks = []
    for name, dtype in (("plain", np.int32), ("other", np.uint32)):
        (tmp_path / name).mkdir()
        write_coadd(tmp_path / name, flux, ivar, mask=mask.astype(dtype), packed=packed and name == "other")
        blocks.append(read_block(str(tmp_path / name / "coadd-x.fits"), WINDOW))
    np.testing.assert_array_equal(blocks[1].ivar, blocks[0].ivar)
    np.testing.assert_array_equal(blocks[1].flux, blocks[0].flux)
    assert (blocks[0].ivar[1] == 0).any() and set(blocks[1].table["status"]) == {""}


def test_damaged_tiles_cost_their_own_file(tmp_path):
    write_coadd(tmp_path, *line_and_errors(), packed=True)
    path = tmp_path / "coadd-x.fits"
    content, unit = bytearray(path.read_bytes()), open_fits(path)[5]
    content[unit.start + 48 : unit.start + unit.size] = b"x" * (unit.size - 48)  # the tiles, behind 3 descriptors
    path.write_bytes(content)
    block = read_block(str(path), WINDOW)
    assert block.table["status"][0].startswith("extension B_MASK cannot be decompressed") and len(block.z) == 1


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64])
def test_unsigned_pixels_keep_every_bit(tmp_path, dtype):
    values = np.array([[0, 1, np.iinfo(dtype).max]], dtype)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(values)]).writeto(tmp_path / "x.fits")
    got = image(open_fits(tmp_path / "x.fits")[1])
    assert got.dtype == dtype and got.tolist() == values.tolist()


def test_wrong_units_are_named(tmp_path):
    write_coadd(tmp_path, *line_and_errors(), unit="nanomaggies")
    block = read_block(str(tmp_path / "coadd-x.fits"), WINDOW)
    assert block.table["status"][0] == "flux is in 'nanomaggies': expected 1e-17 erg/s/cm2/A" and not block.has_data[0]
