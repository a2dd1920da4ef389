"""Files of cutouts in every form, whole and damaged."""

import pathlib

import numpy as np
import pytest

from lensjax.core.errors import UserError
from lensjax.physics.bands import PIXEL
from lensjax.surveys import viewer
from lensjax.surveys.cutouts import OK, fit, open_cutouts, write_cutouts

RNG = np.random.default_rng(0)
SIZE = 12


def images(num, size=SIZE, bands=3):
    return RNG.normal(0.01, 0.003, (num, size, size, bands)).astype(np.float32)


def columns(num):
    return {
        "ra": np.linspace(10, 11, num), "dec": np.linspace(-1, 1, num), "ebv": np.full(num, 0.03),
        "flux": np.abs(RNG.normal(10, 1, (num, 3))), "psfsize": np.full((num, 3), 1.3), "inds": np.arange(num),
        "psfdepth": np.full((num, 3), 300.0), "z_spec": np.where(np.arange(num) % 2, -99.0, 0.5),
        "source_type": np.array(["DEV", "REX"] * num)[:num],
    }  # fmt: skip


def write_fits(path, image, scale=PIXEL, bands="grz", centre=(150.0, 2.0), split=False):
    from astropy.io import fits

    size = image.shape[0]
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": centre[0], "CRVAL2": centre[1]})
    header.update(CRPIX1=(size + 1) / 2, CRPIX2=(size + 1) / 2, CD1_1=-scale / 3600, CD1_2=0.0, CD2_1=0.0)
    header["CD2_2"] = scale / 3600
    cube = np.moveaxis(image, -1, 0)
    if split:
        parts = [fits.ImageHDU(plane, header) for plane in cube]
        for part, band in zip(parts, bands, strict=True):
            part.header.update(BAND=band, IMAGETYP="image")
        weight = fits.ImageHDU(cube[0] * 0, header)
        weight.header.update(BAND="g", IMAGETYP="invvar")
        fits.HDUList([fits.PrimaryHDU(), *parts, weight]).writeto(path)
    else:
        header["BANDS"] = bands
        fits.PrimaryHDU(cube, header).writeto(path)


def test_steins_layout_comes_back_by_row(tmp_path):
    pixels, table = images(7), columns(7)
    write_cutouts(tmp_path / "a.h5", pixels, table)
    source = open_cutouts(str(tmp_path / "a.h5"))
    assert (len(source), source.bands, source.size) == (7, "grz", SIZE)
    np.testing.assert_array_equal(source.read([5, 1, 1, 6]), pixels[[5, 1, 1, 6]])
    got = source.table()
    for name in ("ra", "dec", "ebv", "flux", "psfsize", "psfdepth", "inds"):
        np.testing.assert_allclose(got[name], table[name], rtol=1e-6)
    assert np.isnan(got["z_spec"][1]) and got["z_spec"][0] == 0.5 and got["type"].tolist()[:2] == ["DEV", "REX"]
    assert set(got["status"]) == {OK} and got["row"].tolist() == list(range(7))


def test_chunks_are_one_sequence(tmp_path):
    parts = [images(n) for n in (3, 1, 4)]
    for i, part in enumerate(parts):
        write_cutouts(tmp_path / f"chunk_{i}.h5", part, columns(len(part)))
    whole = np.concatenate(parts)
    for name in ("chunk_*.h5", "."):
        source = open_cutouts(str(tmp_path / name))
        order = [7, 0, 3, 3, 4, 2]
        np.testing.assert_array_equal(source.read(order), whole[order])
        assert source.table()["row"].tolist() == [0, 1, 2, 0, 0, 1, 2, 3]
    (tmp_path / "list.txt").write_text("chunk_1.h5  # the short one\nchunk_0.h5\n")
    assert len(open_cutouts(str(tmp_path / "list.txt"))) == 4
    (tmp_path / "list.txt").write_text("chunk_[01].h5\n.\nabsent\n")
    listed = open_cutouts(str(tmp_path / "list.txt"))
    assert len(listed) == 8 + 1 and (listed.table()["status"] == OK).sum() == 8  # each file once
    (tmp_path / "list.txt").write_text("chunk_1.h5\n", encoding="utf-8-sig")  # as spreadsheets write it
    assert len(open_cutouts([tmp_path / "list.txt", tmp_path / "chunk_1.h5"])) == 1
    with pytest.raises(IndexError):
        source.read([8])


def test_crop_and_pad_about_the_centre():
    pixels = images(2, 9)
    np.testing.assert_array_equal(fit(pixels, 5), pixels[:, 2:7, 2:7])
    padded = fit(pixels, 12)
    np.testing.assert_array_equal(fit(padded, 9), pixels)
    assert padded.sum() == pytest.approx(pixels.sum(), rel=1e-5)


@pytest.mark.parametrize("bands", [1, 4, 5])
def test_any_number_of_bands_and_key_names(tmp_path, bands):
    h5py = pytest.importorskip("h5py")
    pixels = images(3, bands=bands)
    with h5py.File(tmp_path / "odd.hdf5", "w") as file:
        file["cutouts"] = np.moveaxis(pixels, -1, 1)
        file["RA"], file["psfsize_r"] = [1.0, 2.0, 3.0], [1.1, 1.2, 1.3]
    source = open_cutouts(tmp_path / "odd.hdf5")
    np.testing.assert_array_equal(source.read([2, 0]), pixels[[2, 0]])
    assert source.table()["ra"].tolist() == [1, 2, 3] and source.table()["psfsize"].shape == (3, bands)


def test_colours_are_no_fluxes(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "galaxies.h5", "w") as file:
        file["images"] = np.full((3, SIZE, SIZE, 3), 90, np.uint8)
    with pytest.raises(UserError, match=r"uint8 images in galaxies\.h5, colours of pictures"):
        open_cutouts(tmp_path / "galaxies.h5")


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_numpy_files(tmp_path, name):
    pixels = images(4)
    first = np.moveaxis(pixels, -1, 1)
    np.save(tmp_path / name, first) if name.endswith("y") else np.savez(tmp_path / name, images=first, ra=np.arange(4))
    source = open_cutouts(tmp_path / name)
    np.testing.assert_array_equal(source.read([3, 1]), pixels[[3, 1]])


def test_fits_cutouts_know_their_place_and_their_bands(tmp_path):
    pixels = images(3)
    write_fits(tmp_path / "1.fits", pixels[0], centre=(150.5, 2.5))
    write_fits(tmp_path / "2.fits", pixels[1][..., ::-1], bands="zrg")
    write_fits(tmp_path / "3.fits", pixels[2], split=True)
    source = open_cutouts(tmp_path)
    np.testing.assert_array_equal(source.read([0, 1, 2]), pixels)
    table = source.table()
    np.testing.assert_allclose([table["ra"][0], table["dec"][0]], [150.5, 2.5], atol=1e-9)


def test_bands_that_are_wanted_are_taken_of_files_that_name_them_among_others(tmp_path):
    pixels = images(4, bands=4)
    pixels[1, ..., 2] = 0  # nobody observed i
    write_fits(tmp_path / "1.fits", pixels[0], bands="griz")
    write_fits(tmp_path / "2.fits", pixels[1][..., [3, 2, 1, 0]], bands="zirg", split=True)
    write_fits(tmp_path / "3.fits", pixels[2][..., [0, 1, 3]])
    write_cutouts(tmp_path / "4.h5", pixels[3:])  # whose planes may be anything
    source = open_cutouts(tmp_path, bands="grz")
    assert source.bands == "grz"
    np.testing.assert_array_equal(source.read([0, 1, 2]), pixels[:3][..., [0, 1, 3]])
    status = source.table()["status"].tolist()
    assert status[:3] == [OK] * 3 and status[3].startswith("bands griz: expected grz")
    assert open_cutouts(tmp_path).bands == "griz"
    write_fits(tmp_path / "other.fits", pixels[0][..., :2], bands="gr")
    (tmp_path / "other.fits").replace(tmp_path / "1.fits")
    assert np.isnan(source.read([0])).all()


@pytest.mark.parametrize("imagetyp", ["IMAGE", "image", "SCIENCE"])
def test_inverse_variances_and_masks_are_no_images(tmp_path, imagetyp):
    """However the viewer spells what is one: its fits-cutout has capitals, its subimage has not."""
    from astropy.io import fits

    units = []
    others = [("INVVAR", 2.0), ("MASKBITS", 3.0)] + [("MODEL", 4.0)] * (imagetyp.lower() == "image")
    for kind, value in [(imagetyp, 1.0), *others]:
        header = fits.Header({"IMAGETYP": kind, "BANDS": "grz"})
        units.append((fits.ImageHDU if units else fits.PrimaryHDU)(np.full((3, SIZE, SIZE), value, "f4"), header))
    fits.HDUList(units).writeto(tmp_path / "1.fits")
    np.testing.assert_array_equal(open_cutouts(tmp_path).read([0]), 1.0)


@pytest.mark.parametrize("scale", [PIXEL, 0.4])
@pytest.mark.parametrize("form", ["CD", "PC", "CDELT"])
def test_the_scale_is_read_from_any_form_of_a_wcs(tmp_path, form, scale):
    """Turned by half a radian; as astropy writes it (PC of the pixels' size, CDELT 1), and with the size in CDELT."""
    from astropy.io import fits

    turn = np.array([[np.cos(0.5), -np.sin(0.5)], [np.sin(0.5), np.cos(0.5)]])
    size = np.array([-scale, scale]) / 3600
    matrix, delta = (turn, size) if form == "CDELT" else (turn * size, np.ones(2))
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0})
    header.update(CRPIX1=(SIZE + 1) / 2, CRPIX2=(SIZE + 1) / 2)
    if form != "CD":
        header.update(CDELT1=delta[0], CDELT2=delta[1])
    for (i, j), value in np.ndenumerate(matrix):
        header[f"{'CD' if form == 'CD' else 'PC'}{i + 1}_{j + 1}"] = value
    fits.PrimaryHDU(np.ones((3, SIZE, SIZE), "f4"), header).writeto(tmp_path / "1.fits")
    if scale == PIXEL:
        assert open_cutouts(tmp_path).table()["ra"][0] == pytest.approx(150.0, abs=1e-6)
    else:
        with pytest.raises(UserError, match=r"pixels of 0\.400 arcsec"):
            open_cutouts(tmp_path)


def test_what_a_run_left_in_the_folder_is_no_image_of_the_survey(tmp_path):
    write_cutouts(tmp_path / "galaxies.h5", images(4))
    (tmp_path / "run" / "embeddings").mkdir(parents=True)
    (tmp_path / "run" / "probe").mkdir()
    for name in ("curves.png", "completeness.png", "evaluation.png", "probe/probe.png"):
        (tmp_path / "run" / name).write_bytes(b"\x89PNG")
    for name in ("weights.npz", "neighbours.npz", "probe/classifiers.npz", "completeness.fits", "graded.fits"):
        (tmp_path / "run" / name).write_bytes(b"x")
    np.save(tmp_path / "run" / "embeddings" / "part-00000.npy", np.zeros((4, 8)))
    write_cutouts(tmp_path / "run" / "injected.hdf5", images(2))
    assert len(open_cutouts(tmp_path)) == 4
    with pytest.raises(UserError, match="the folder holds no file of images"):
        open_cutouts(tmp_path / "run")
    assert len(open_cutouts(tmp_path / "run" / "injected.hdf5")) == 2  # where it is named itself


def test_text_that_is_not_ascii_is_written(tmp_path):
    write_cutouts(tmp_path / "1.h5", images(2), {"type": np.array(["elliptique", "élancé"])})
    assert open_cutouts(tmp_path / "1.h5").table()["type"].tolist() == ["elliptique", "?lanc?"]


@pytest.mark.parametrize("bands", ["z,r,g", "ZRG", "z r g"])
def test_bands_of_a_fits_cube_are_read_however_they_are_spelt(tmp_path, bands):
    pixels = images(1)
    write_fits(tmp_path / "1.fits", pixels[0][..., ::-1], bands=bands)
    source = open_cutouts(tmp_path)
    assert source.bands == "grz"
    np.testing.assert_array_equal(source.read([0]), pixels)


def test_a_fits_cube_may_have_its_bands_last(tmp_path):
    from astropy.io import fits

    pixels = images(1)
    fits.PrimaryHDU(pixels[0]).writeto(tmp_path / "1.fits")
    np.testing.assert_array_equal(open_cutouts(tmp_path).read([0]), pixels)


@pytest.mark.parametrize("split", [False, True])
def test_fluxes_in_another_unit_are_told(tmp_path, split):
    from astropy.io import fits

    units = ["", "nanomaggy", "nanomaggies / pixel", "nMgy", "nmgy pix-1", "uJy", "adu", "nmgy/arcsec2", "maggies"]
    for i, unit in enumerate(units):
        write_fits(tmp_path / f"{i}.fits", images(1)[0], split=split)
        with fits.open(tmp_path / f"{i}.fits", mode="update") as parts:
            parts[2 if split else 0].header["BUNIT"] = unit
    status = open_cutouts(tmp_path).table()["status"].tolist()
    assert status[:5] == [OK] * 5
    for unit, text in zip(units[5:], status[5:], strict=True):
        assert text.startswith(f"fluxes in '{unit}': expected nanomaggies a pixel")


def test_a_psf_is_no_cutout(tmp_path):
    from astropy.io import fits

    pixels = images(2)
    write_fits(tmp_path / "cutout.fits", pixels[0])
    psf = np.full((SIZE, SIZE), 1 / SIZE**2, np.float32)
    for name, planes in {"psf.fits": [psf, psf, psf], "other.fits": [psf, psf, 2 * psf]}.items():
        first, *rest = planes
        fits.HDUList([fits.PrimaryHDU(first), *map(fits.ImageHDU, rest)]).writeto(tmp_path / name)
    status = open_cutouts(tmp_path).table()["status"].tolist()
    assert status[:2] == [OK, OK] and status[2].startswith("point-spread functions")


def test_pictures_become_flux(tmp_path):
    pixels = images(2)
    for i, image in enumerate(pixels):
        viewer.write_picture(tmp_path / f"{i}.png", image)
    np.testing.assert_allclose(open_cutouts(tmp_path).read([1, 0]), pixels[[1, 0]], atol=1e-3)


def test_damaged_files_cost_their_own_rows_only(tmp_path):
    pixels = images(5)
    write_cutouts(tmp_path / "good.h5", pixels, columns(5))
    whole = (tmp_path / "good.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.fits").write_bytes(b"")
    (tmp_path / "text.h5").write_text("hello")
    write_cutouts(tmp_path / "small.h5", images(2, 8))
    write_cutouts(tmp_path / "four.h5", images(2, bands=4))
    write_fits(tmp_path / "coarse.fits", images(1)[0], scale=0.5)
    np.save(tmp_path / "flat.npy", np.zeros((4, 4)))
    lost = images(2)
    lost[1, 0, 0, 0] = np.nan
    write_cutouts(tmp_path / "nan.h5", lost)
    source = open_cutouts(tmp_path)
    read = source.read(np.arange(len(source)))
    table = source.table()
    status = {name: [] for name in {str(f).rsplit("/", 1)[-1] for f in table["file"]}}
    for file, text in zip(table["file"], table["status"], strict=True):
        status[file.rsplit("/", 1)[-1]].append(str(text))
    assert status["good.h5"] == [OK] * 5
    np.testing.assert_array_equal(read[np.char.endswith(table["file"], "good.h5")], pixels)
    for name, words in {
        "cut.h5": "download it again", "text.h5": "download it again", "empty.fits": "0 bytes",
        "small.h5": "8 x 8 pixels: expected 12 x 12", "four.h5": "bands griz: expected grz",
        "coarse.fits": "pixels of 0.500 arcsec", "flat.npy": r"shape (4, 4) in flat.npy: expected numbers, (N, bands",
    }.items():  # fmt: skip
        assert all(words in text for text in status[name]), (name, status[name])
    assert status["nan.h5"][0] == OK and "1 of 144 pixels are NaN" in status["nan.h5"][1]
    bad = np.array([text != OK for text in table["status"]])
    assert np.isnan(read[bad]).all() and np.isfinite(read[~bad]).all()
    assert open_cutouts(tmp_path, size=8).table()["status"][list(table["file"]).index(str(tmp_path / "small.h5"))] == OK


@pytest.mark.parametrize(
    "header",
    [
        {"CD1_1": 0.0, "CD2_2": 0.0},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--SIN"},
        {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
        {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"},
        {"CRVAL1": "here"},
    ],
)
def test_a_place_that_makes_no_sense_costs_no_image(tmp_path, header):
    from astropy.io import fits

    pixels = images(2)
    write_fits(tmp_path / "a.fits", pixels[0])
    write_fits(tmp_path / "b.fits", pixels[1])
    with fits.open(tmp_path / "b.fits", mode="update") as units:
        units[0].header.update(header)
    source = open_cutouts(tmp_path)
    np.testing.assert_array_equal(source.read([0, 1]), pixels)
    table = source.table()
    assert table["status"].tolist() == [OK, OK] and table["ra"][0] == pytest.approx(150)
    assert np.isnan(table["ra"][1]) and np.isnan(table["dec"][1])


def test_damaged_archives_and_columns_cost_no_more_than_themselves(tmp_path):
    h5py = pytest.importorskip("h5py")
    pixels = images(5)
    np.savez_compressed(tmp_path / "cut.npz", images=np.moveaxis(pixels, -1, 1))
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.npz").write_bytes(whole[:500] + bytes(500) + whole[1000:])
    objects = np.array([None] * 5)
    np.savez(tmp_path / "objects.npz", images=np.moveaxis(pixels, -1, 1), ra=objects, dec=np.arange(5.0))
    with h5py.File(tmp_path / "good.h5", "w") as file:
        file["images"], file["dec"] = np.moveaxis(pixels, -1, 1), np.arange(5.0)
        ra = file.create_dataset("ra", data=np.arange(5.0), compression="gzip")
        file["ebv"] = h5py.SoftLink("/nothing")
        place, length = ra.id.get_chunk_info(0).byte_offset, ra.id.get_chunk_info(0).size
    with (tmp_path / "good.h5").open("r+b") as stream:
        stream.seek(place)
        stream.write(b"x" * length)
    source = open_cutouts(tmp_path)
    table = source.table()
    np.testing.assert_array_equal(source.read(np.arange(2, 12)), np.concatenate([pixels, pixels]))
    assert table["status"].tolist()[2:] == [OK] * 10 and OK not in table["status"][:2]
    assert np.isnan(table["ra"]).all() and table["dec"].tolist()[2:] == [0, 1, 2, 3, 4] * 2


def test_no_file_stays_open_and_the_stamp_changes_with_each(tmp_path):
    pixels = images(2)
    for i in range(3):
        write_cutouts(tmp_path / f"{i}.h5", pixels, columns(2))
        np.save(tmp_path / f"{i}.npy", np.moveaxis(pixels, -1, 1))
    paths = sorted(map(str, tmp_path.iterdir()))
    source = open_cutouts([*paths, paths[0]])  # each once
    np.testing.assert_array_equal(source.read(np.arange(12)), np.concatenate([pixels] * 6))
    source.table()
    if (handles := pathlib.Path("/proc/self/fd")).is_dir():
        held = {str(handle.readlink()) for handle in handles.iterdir() if handle.is_symlink()}
        assert not held & set(paths)
    assert source.stamp == open_cutouts(tmp_path).stamp
    np.save(tmp_path / "1.npy", np.moveaxis(images(3), -1, 1))
    assert source.stamp != open_cutouts([paths[0]]).stamp and "1.npy" in source.stamp
    assert len(open_cutouts(tmp_path)) == 13


def test_a_file_that_changes_while_it_is_read_costs_its_own_rows(tmp_path):
    pixels = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
    for name in ("a.h5", "b.h5"):
        write_cutouts(tmp_path / name, pixels)
    cutouts = open_cutouts(tmp_path)
    write_cutouts(tmp_path / "a.h5", pixels[:4])
    read = cutouts.read([1, 5, 7])
    np.testing.assert_array_equal(read[[0, 2]], pixels[[1, 1]])
    assert np.isnan(read[1]).all() and "changed since it was opened" in cutouts.table()["status"][5]
    write_cutouts(tmp_path / "a.h5", pixels[..., :2])
    assert np.isnan(cutouts.read([0])).all()


def test_an_image_without_a_band_is_none(tmp_path):
    pixels = images(4)
    pixels[1, ..., 1], pixels[2] = 0, 0
    pixels[3, 2:, :, 0] = 0  # the edge of what was observed
    write_cutouts(tmp_path / "a.h5", pixels)
    source = open_cutouts(tmp_path)
    read = source.read(np.arange(4))
    np.testing.assert_array_equal(read[[0, 3]], pixels[[0, 3]])
    assert np.isnan(read[1:3]).all()
    status = source.table()["status"].tolist()
    assert status[0] == status[3] == OK
    assert status[1].startswith("every pixel in r is zero") and status[2].startswith("every pixel in grz is zero")
    np.testing.assert_array_equal(open_cutouts(tmp_path, holes=True).read(np.arange(4)), pixels)


def test_holes_can_be_kept(tmp_path):
    pixels = images(2)
    pixels[1, 3, 4, 0] = np.inf
    write_cutouts(tmp_path / "a.h5", pixels)
    np.testing.assert_array_equal(open_cutouts(tmp_path, holes=True).read([0, 1]), pixels)
    assert np.isnan(open_cutouts(tmp_path).read([1])).all()


def test_nothing_usable_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no input of images is given"):
        open_cutouts("")  # which is no name of the current folder
    with pytest.raises(UserError, match="the folder holds no file of images"):
        open_cutouts(tmp_path)
    (tmp_path / "a.h5").write_text("hello")
    with pytest.raises(UserError, match="none of 1 files holds an image"):
        open_cutouts(tmp_path)
    np.save(tmp_path / "a.npy", np.zeros((0, 3, 9, 9)))
    with pytest.raises(UserError, match=r"no image in a\.npy, whose array images has shape \(0, 3, 9, 9\)"):
        open_cutouts(tmp_path / "a.npy")
    with pytest.raises(UserError, match="column ra has 2 rows for 1 images"):
        write_cutouts(tmp_path / "b.h5", images(1), {"ra": [1, 2]})


def test_real_files(real_data):
    folder = real_data / "cutouts"
    source = open_cutouts([str(folder / f"{n}_even_grz_nmgy.npz") for n in ("lrg46", "top64")])
    assert len(source) == 55 and source.read([0, 54]).shape == (2, 91, 91, 3)
    cutout = open_cutouts(folder / "cutout_59.1067_-30.4848.fits")
    table = cutout.table()
    assert (table["ra"][0], table["dec"][0]) == (pytest.approx(59.1067, abs=1e-3), pytest.approx(-30.4848, abs=1e-3))
    assert cutout.bands == "grz" and np.isfinite(cutout.read([0])).all()
    if any(folder.glob("copsf_*.fits")):
        with pytest.raises(UserError, match="point-spread functions"):
            open_cutouts(str(folder / "copsf_*.fits"))
