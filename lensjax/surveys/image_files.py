"""Files of images, each opened without loading it: HDF5, .npy and .npz, FITS cutouts, pictures of the viewer.

Every opener returns an ImageFile or raises BadFile with the sentence that becomes the status of the file's one row.
"""

import contextlib
import functools
import pathlib
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lensjax.core.errors import UserError
from lensjax.physics.bands import PIXEL
from lensjax.surveys import viewer
from lensjax.surveys.block import BadFile
from lensjax.surveys.fits import Hdu, image, open_fits

IMAGES = ("images", "image", "cutouts", "cutout", "data", "x")  # names of the array of images in a file, any case
BANDS = {1: "r", 2: "gr", 3: "grz", 4: "griz", 5: "ugriz"}  # by their number, where a file does not name them
SCALE_TOLERANCE = 0.05  # of a FITS file's pixels about 0.262 arcsec
UNIT_TOLERANCE = 0.01  # of the sum of a PSF about 1
OTHERS = ("invvar", "maskbits")  # IMAGETYP, lower case, of what the viewer stores beside images
NANOMAGGIES = r"(nano[ -]?magg\w*|nmgy)(\W*(per )?pix\w*\W*1?)?"  # a pixel; as FITS headers spell them, any case


class ImageFile(NamedTuple):
    """An open file of `num` images of shape (H, W, B).

    bands: a letter each; named: whether the file itself says so, and not the number of its planes. columns(): the
    file's columns (num, ...) under its own names, those that can be read.
    read(rows): images (n, H, W, B) of ascending, different rows; rows of an image along y, north up; BadFile where they
    are damaged. No file stays open between the calls.
    """

    num: int
    shape: tuple[int, int, int]
    bands: str
    columns: Callable[[], dict[str, np.ndarray]]
    read: Callable[[np.ndarray], np.ndarray]
    named: bool = False

    def only(self, bands: str) -> "ImageFile":
        """The planes of these bands, where the file names them all among others; else as it is."""
        if not self.named or not set(bands) <= set(self.bands):
            return self
        planes, shape = [self.bands.index(band) for band in bands], (*self.shape[:2], len(bands))
        return self._replace(bands=bands, shape=shape, read=lambda rows: _guarded(np.take, self.read(rows), planes, -1))


def open_images(path: pathlib.Path) -> ImageFile:
    """Open a file by its suffix; BadFile where it cannot be used."""
    name = path.name.lower()
    for suffixes, opener in OPENERS.items():
        if name.endswith(suffixes):
            if not path.is_file():
                raise BadFile("no such file: check the path")
            file = _guarded(functools.partial(opener, path))
            return file._replace(read=functools.partial(_guarded, file.read))
    raise BadFile(f"no images in a {path.suffix or 'nameless'} file: give {', '.join(SUFFIXES)}")


def _guarded(action: Callable[..., Any], *arguments: Any) -> Any:
    """The action's result; BadFile where a damaged file breaks an assumption of a reader."""
    try:
        return action(*arguments)
    except (BadFile, UserError):
        raise
    except Exception as error:  # every reader has its own: zipfile.BadZipFile, zlib.error, h5py's RuntimeError, ...
        raise BadFile(f"damaged file ({type(error).__name__}: {error}): copy or download it again") from None


def open_hdf5(path: pathlib.Path) -> ImageFile:
    """Stein's layout: images (N, B, H, W) and columns of N rows beside them. Rows are read by slices of the file."""
    h5py = import_h5py()
    try:
        with h5py.File(path, "r") as file:
            found = {name: _item(file, name) for name in file}
            arrays = {name: item for name, item in found.items() if isinstance(item, h5py.Dataset)}
            key = _images(arrays, path)
            shape, others = arrays[key].shape, _of_rows(arrays, key)
    except (OSError, RuntimeError, KeyError) as error:
        raise BadFile(f"damaged or truncated HDF5 file ({error}): copy or download it again") from None

    def column(name: str) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return file[name][:]

    def read(rows: np.ndarray) -> np.ndarray:
        with h5py.File(path, "r") as file:
            return np.concatenate([file[key][run[0] : run[-1] + 1] for run in runs(rows)])

    return _stacked(shape, others, column, read)


def _item(file: Any, name: str) -> Any:
    """What has that name in an HDF5 file; None where it is damaged, or a link to nothing."""
    try:
        return file[name]
    except (OSError, RuntimeError, KeyError):
        return None


def open_numpy(path: pathlib.Path) -> ImageFile:
    """A .npy array (N, B, H, W), memory-mapped when it is read, or a .npz of `images` and columns, which is loaded."""
    try:
        with path.open("rb") as stream:
            packed = stream.read(2) == b"PK"
            stream.seek(0)
            arrays = _unpack(stream) if packed else {"images": np.load(path, mmap_mode="r", allow_pickle=False)}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BadFile(f"not a numpy file that can be read ({error}): write it again") from None
    key = _images(arrays, path)
    shape, others = arrays[key].shape, _of_rows(arrays, key)
    if packed:
        return _stacked(shape, others, arrays.__getitem__, lambda rows: arrays[key][rows])
    # mapped again for every reading, since a map keeps its file open
    return _stacked(shape, others, {}.__getitem__, lambda rows: np.load(path, mmap_mode="r")[rows])


def _unpack(stream: Any) -> dict[str, np.ndarray]:
    """Arrays of a .npz; without those that cannot be read, unless it is the images."""
    arrays = {}
    with np.load(stream, allow_pickle=False) as stored:
        images = next((name for name in IMAGES if name in map(str.lower, stored.files)), "")
        for name in stored.files:
            try:
                arrays[name] = stored[name]
            except Exception:  # of an array of Python objects, or of damaged bytes
                if name.lower() == images:
                    raise
    return arrays


def open_fits_cutout(path: pathlib.Path) -> ImageFile:
    """A FITS cutout with WCS: one cube (B, H, W), or (H, W, B) where the last axis is the short one; or one image a
    band. Where IMAGETYP calls some of them images, these; an inverse variance or a mask is none.

    Only its shape and header are kept; the file is opened again when it is read.
    """
    planes, header, bands, named = _planes(open_fits(path))
    _check_scale(header)
    _check_psf(planes, header)
    count, height, width = planes.shape

    def columns() -> dict[str, np.ndarray]:
        ra, dec = centre(header, (height, width))
        return {"ra": np.array([ra]), "dec": np.array([dec])}

    def read(rows: np.ndarray) -> np.ndarray:
        return _last(_planes(open_fits(path))[0][None])[rows]

    return ImageFile(1, (height, width, count), bands, columns, read, named)


def open_picture(path: pathlib.Path) -> ImageFile:
    """A PNG or JPEG saved from the viewer, its stretch inverted; where a colour was clipped, the limit is taken."""
    height, width = viewer.read_picture(path)[1].shape
    return ImageFile(1, (height, width, 3), "grz", dict, lambda rows: viewer.read_picture(path)[0][None][rows])


OPENERS: dict[tuple[str, ...], Callable[[pathlib.Path], ImageFile]] = {
    (".h5", ".hdf5", ".hdf"): open_hdf5,
    (".npy", ".npz"): open_numpy,
    (".fits", ".fit", ".fits.gz", ".fit.gz"): open_fits_cutout,
    viewer.PICTURES: open_picture,
}
SUFFIXES = tuple(suffix for suffixes in OPENERS for suffix in suffixes)


def import_h5py() -> Any:
    """The module h5py, of the extra `cutouts`; UserError with the command that installs it where it is missing."""
    try:
        import h5py
    except ImportError:
        raise UserError("HDF5 files need the package h5py: pip install 'lensjax[cutouts]'") from None
    return h5py


def runs(rows: np.ndarray) -> list[np.ndarray]:
    """Ascending rows as consecutive stretches: one slice of a file each."""
    return np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)


def _images(arrays: dict[str, Any], path: pathlib.Path) -> str:
    """Name of the array of images among those of a file."""
    by_name = {name.lower(): name for name in arrays}
    key = next((by_name[name] for name in IMAGES if name in by_name), None)
    if key is None:
        shown = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise BadFile(f"{shown} in it: expected an array images of shape (N, bands, H, W)")
    images = arrays[key]
    if images.shape[:1] == (0,):
        raise BadFile(f"no image in {path.name}, whose array {key} has shape {tuple(images.shape)}: leave it out")
    if images.ndim != 4 or min(images.shape[1:]) < 1 or images.dtype.kind not in "fiu":
        raise BadFile(
            f"{images.dtype} images of shape {tuple(images.shape)} in {path.name}: expected numbers, (N, bands, H, W)"
        )
    if images.dtype.itemsize == 1:
        raise BadFile(
            f"{images.dtype} images in {path.name}, colours of pictures: expected nanomaggies; pictures of the Legacy "
            "Surveys' viewer can be given as PNG or JPEG files, or converted with lensjax.surveys.viewer.from_rgb"
        )
    return key


def _of_rows(arrays: dict[str, Any], key: str) -> list[str]:
    """Names of the columns, (N,) or (N, K), beside the images of that name."""
    num = len(arrays[key])
    return [n for n, item in arrays.items() if n != key and item.ndim in (1, 2) and len(item) == num]


def _stacked(
    stack: tuple[int, ...],
    names: list[str],
    column: Callable[[str], np.ndarray],
    read: Callable[[np.ndarray], np.ndarray],
) -> ImageFile:
    """File of a stack of images: (N, B, H, W), or (N, H, W, B) where the last axis is the short one."""
    num, *shape = stack
    first = shape[0] <= shape[2]
    height, width, bands = (*shape[1:], shape[0]) if first else shape

    def columns() -> dict[str, np.ndarray]:
        found = {}
        for name in names:
            with contextlib.suppress(BadFile):  # a damaged column costs neither the images nor the others
                found[name] = np.asarray(_guarded(column, name))
        return found

    def pixels(rows: np.ndarray) -> np.ndarray:
        return _last(read(rows)) if first else read(rows)

    return ImageFile(num, (height, width, bands), _band_names(bands), columns, pixels)


def _band_names(number: int) -> str:
    return BANDS.get(number) or "?" * number


def _last(images: np.ndarray) -> np.ndarray:
    """(N, B, H, W) -> (N, H, W, B)."""
    return np.moveaxis(images, 1, -1)


def _planes(units: list[Hdu]) -> tuple[np.ndarray, dict, str, bool]:
    """Images (B, H, W), the header with the WCS, the names of the bands, in the order g, r, i, z where known, and
    whether the file names them."""
    found = [u for u in units if u.header.get("NAXIS", 0) in (2, 3) and u.header.get("XTENSION", "IMAGE") == "IMAGE"]
    kinds = [str(u.header.get("IMAGETYP", "image")).strip().lower() for u in found]
    images = [u for u, kind in zip(found, kinds, strict=True) if kind == "image"]
    found = images or [u for u, kind in zip(found, kinds, strict=True) if kind not in OTHERS]
    if not found:
        raise BadFile("no image in the FITS file: expected a cube (bands, H, W) or one image a band")
    _check_unit(found)
    header = found[0].header
    if header["NAXIS"] == 3:
        planes = np.asarray(image(found[0]), np.float32)
        if planes.shape[0] > planes.shape[2]:  # (H, W, B), as numpy often has it
            planes = np.moveaxis(planes, -1, 0)
        names = stated_bands(header)
    else:
        if len({(u.header["NAXIS1"], u.header["NAXIS2"]) for u in found}) > 1:
            raise BadFile("images of different sizes in the FITS file: expected one of the same size for every band")
        planes = np.stack([np.asarray(image(u), np.float32) for u in found])
        stated = [u.header.get("BAND", u.header.get("BANDS", "")) for u in found]  # the viewer's single band: BANDS
        names = "".join(str(name).strip()[:1].lower() for name in stated)
    named = len(names) == len(planes)
    if not named:
        names = _band_names(len(planes))
    order = sorted(range(len(names)), key=lambda i: "ugrizy".find(names[i]))
    return planes[order], header, "".join(names[i] for i in order), named


def stated_bands(header: dict) -> str:
    """A letter for each band that the header of a cube names, in its order, however they are spelt; "" for none."""
    return "".join(re.findall("[a-z]", str(header.get("BANDS", "")).lower()))


def _check_unit(units: list[Hdu]) -> None:
    """BadFile where a header states another unit of flux than nanomaggies; one that states none is fine."""
    for unit in units:
        stated = str(unit.header.get("BUNIT", "")).strip()
        if stated and not re.fullmatch(NANOMAGGIES, stated, re.IGNORECASE):
            raise BadFile(f"fluxes in {stated!r}: expected nanomaggies a pixel; convert them, and mend or remove BUNIT")


def _check_scale(header: dict) -> None:
    """BadFile where the header says that pixels are not about 0.262 arcsec."""
    scale = 3600 * float(np.hypot(header.get("CD1_1", 0.0), header.get("CD1_2", 0.0)))
    if not scale:
        turned = float(np.hypot(header.get("PC1_1", 1.0), header.get("PC1_2", 0.0)))
        scale = 3600 * abs(header.get("CDELT1", 0.0)) * turned
    if scale and abs(scale / PIXEL - 1) > SCALE_TOLERANCE:
        raise BadFile(
            f"pixels of {scale:.3f} arcsec: expected {PIXEL}; resample the image, or download it at this scale"
        )


def _check_psf(planes: np.ndarray, header: dict) -> None:
    """BadFile where images (B, H, W) are point-spread functions, which lie beside cutouts: no place, each of sum 1."""
    if "CRVAL1" not in header and np.all(np.abs(planes.sum(axis=(1, 2), dtype=np.float64) - 1) < UNIT_TOLERANCE):
        raise BadFile("point-spread functions, by their sum of 1 in every band: expected images of the sky")


def centre(header: dict, shape: tuple[int, ...]) -> tuple[float, float]:
    """ra, dec (degrees) of the centre of an image (H, W); NaN without a WCS of RA and DEC that astropy understands."""
    from astropy.io import fits
    from astropy.wcs import WCS

    axes = [str(header.get(f"CTYPE{i}", "")) for i in (1, 2)]
    if "CRVAL1" not in header or not (axes[0].startswith("RA") and axes[1].startswith("DEC")):
        return float("nan"), float("nan")
    keys = ("CTYPE", "CRVAL", "CRPIX", "CD1_", "CD2_", "CDELT", "CUNIT", "PC1_", "PC2_", "EQUINOX", "RADESYS")
    kept = {key: value for key, value in header.items() if key.startswith(keys) and not key.endswith("3")}
    try:
        wcs = WCS(fits.Header({"NAXIS": 2, **kept}), naxis=2)
        ra, dec = wcs.pixel_to_world_values((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    except Exception:  # wcslib has a dozen kinds for a header that makes no sense
        return float("nan"), float("nan")
    return float(ra), float(dec)
