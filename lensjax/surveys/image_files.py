"""Files of images, each opened without loading it: HDF5, .npy and .npz, FITS cutouts, pictures of the viewer.

Every opener returns an ImageFile or raises BadFile with the sentence that becomes the status of the file's one row.
"""

import functools
import pathlib
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


class ImageFile(NamedTuple):
    """An open file of `num` images of shape (H, W, B).

    bands: a letter each. columns(): the file's columns (num, ...) under its own names. read(rows): images
    (n, H, W, B) of ascending, different rows; rows of an image along y, north up; BadFile where they are damaged.
    """

    num: int
    shape: tuple[int, int, int]
    bands: str
    columns: Callable[[], dict[str, np.ndarray]]
    read: Callable[[np.ndarray], np.ndarray]


def open_images(path: pathlib.Path) -> ImageFile:
    """Open a file by its suffix; BadFile where it cannot be used."""
    name = path.name.lower()
    for suffixes, opener in OPENERS.items():
        if name.endswith(suffixes):
            if not path.is_file():
                raise BadFile("no such file: check the path")
            return _guarded(functools.partial(opener, path))
    raise BadFile(f"no images in a {path.suffix or 'nameless'} file: give {', '.join(SUFFIXES)}")


def _guarded(action: Callable[[], Any]) -> Any:
    """The action's result; BadFile where a damaged file breaks an assumption of a reader."""
    try:
        return action()
    except BadFile:
        raise
    except (OSError, ValueError, KeyError, IndexError, TypeError, OverflowError) as error:
        raise BadFile(f"damaged file ({type(error).__name__}: {error}): copy or download it again") from None


def open_hdf5(path: pathlib.Path) -> ImageFile:
    """Stein's layout: images (N, B, H, W) and columns of N rows beside them. Rows are read by slices of the file."""
    h5py = import_h5py()
    try:
        file: Any = h5py.File(path, "r")
        arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
    except (OSError, RuntimeError, KeyError) as error:
        raise BadFile(f"damaged or truncated HDF5 file ({error}): copy or download it again") from None
    images = _images(arrays, path)

    def read(rows: np.ndarray) -> np.ndarray:
        try:
            return np.concatenate([images[run[0] : run[-1] + 1] for run in runs(rows)])
        except (OSError, RuntimeError) as error:
            raise BadFile(f"damaged images ({error}): copy or download the file again") from None

    return _stacked(images, {name: item for name, item in arrays.items() if item is not images}, read)


def open_numpy(path: pathlib.Path) -> ImageFile:
    """A .npy array (N, B, H, W), memory-mapped, or a .npz of `images` and columns, which is loaded."""
    try:
        loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        arrays = {"images": loaded} if isinstance(loaded, np.ndarray) else {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise BadFile(f"not a numpy file that can be read ({error}): write it again") from None
    images = _images(arrays, path)
    return _stacked(images, {name: item for name, item in arrays.items() if item is not images}, lambda r: images[r])


def open_fits_cutout(path: pathlib.Path) -> ImageFile:
    """A FITS cutout with WCS: one cube (B, H, W), or one image a band (IMAGETYP "image" where there are others).

    Only its shape and header are kept; the file is opened again when it is read.
    """
    planes, header, bands = _planes(open_fits(path))
    _check_scale(header)
    count, height, width = planes.shape

    def columns() -> dict[str, np.ndarray]:
        ra, dec = centre(header, (height, width))
        return {"ra": np.array([ra]), "dec": np.array([dec])}

    def read(rows: np.ndarray) -> np.ndarray:
        return _guarded(lambda: _last(_planes(open_fits(path))[0][None])[rows])

    return ImageFile(1, (height, width, count), bands, columns, read)


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


def _images(arrays: dict[str, Any], path: pathlib.Path) -> Any:
    """The array of images among those of a file."""
    by_name = {name.lower(): item for name, item in arrays.items()}
    images = next((by_name[name] for name in IMAGES if name in by_name), None)
    if images is None:
        shown = ", ".join(sorted(arrays)[:8]) or "nothing"
        raise BadFile(f"{shown} in it: expected an array images of shape (N, bands, H, W)")
    if images.ndim != 4 or min(images.shape[1:]) < 1 or images.dtype.kind not in "fiu":
        raise BadFile(
            f"{images.dtype} images of shape {tuple(images.shape)} in {path.name}: expected numbers, (N, bands, H, W)"
        )
    return images


def _stacked(images: Any, others: dict[str, Any], read: Callable[[np.ndarray], np.ndarray]) -> ImageFile:
    """File of a stack of images: (N, B, H, W), or (N, H, W, B) where the last axis is the short one."""
    num, *shape = images.shape
    first = shape[0] <= shape[2]
    height, width, bands = (*shape[1:], shape[0]) if first else shape

    def columns() -> dict[str, np.ndarray]:
        return {name: np.asarray(item[:]) for name, item in others.items() if item.ndim in (1, 2) and len(item) == num}

    def pixels(rows: np.ndarray) -> np.ndarray:
        return _last(read(rows)) if first else read(rows)

    return ImageFile(num, (height, width, bands), _band_names(bands), columns, pixels)


def _band_names(number: int) -> str:
    return BANDS.get(number) or "?" * number


def _last(images: np.ndarray) -> np.ndarray:
    """(N, B, H, W) -> (N, H, W, B)."""
    return np.moveaxis(images, 1, -1)


def _planes(units: list[Hdu]) -> tuple[np.ndarray, dict, str]:
    """Images (B, H, W), the header with the WCS, and the names of the bands, in the order g, r, i, z where known."""
    found = [u for u in units if u.header.get("NAXIS", 0) in (2, 3) and u.header.get("XTENSION", "IMAGE") == "IMAGE"]
    found = [u for u in found if u.header.get("IMAGETYP", "image").strip() == "image"]
    if not found:
        raise BadFile("no image in the FITS file: expected a cube (bands, H, W) or one image a band")
    header = found[0].header
    if header["NAXIS"] == 3:
        planes = np.asarray(image(found[0]), np.float32)
        names = str(header.get("BANDS", "")).strip()
    else:
        if len({(u.header["NAXIS1"], u.header["NAXIS2"]) for u in found}) > 1:
            raise BadFile("images of different sizes in the FITS file: expected one of the same size for every band")
        planes = np.stack([np.asarray(image(u), np.float32) for u in found])
        names = "".join(str(u.header.get("BAND", "")).strip()[:1] for u in found)
    if len(names) != len(planes):
        names = _band_names(len(planes))
    order = sorted(range(len(names)), key=lambda i: "ugrizy".find(names[i]))
    return planes[order], header, "".join(names[i] for i in order)


def _check_scale(header: dict) -> None:
    """BadFile where the header says that pixels are not about 0.262 arcsec."""
    pair = [header.get(key, 0.0) for key in ("CD1_1", "CD1_2")]
    scale = 3600 * float(np.hypot(*pair)) or 3600 * abs(header.get("CDELT1", 0.0))
    if scale and abs(scale / PIXEL - 1) > SCALE_TOLERANCE:
        raise BadFile(
            f"pixels of {scale:.3f} arcsec: expected {PIXEL}; resample the image, or download it at this scale"
        )


def centre(header: dict, shape: tuple[int, ...]) -> tuple[float, float]:
    """ra, dec (degrees) of the centre of an image (H, W); NaN without a celestial WCS."""
    from astropy.io import fits
    from astropy.wcs import WCS

    if "CRVAL1" not in header:
        return float("nan"), float("nan")
    keys = ("CTYPE", "CRVAL", "CRPIX", "CD1_", "CD2_", "CDELT", "CUNIT", "PC1_", "PC2_", "EQUINOX", "RADESYS")
    kept = {key: value for key, value in header.items() if key.startswith(keys) and not key.endswith("3")}
    wcs = WCS(fits.Header({"NAXIS": 2, **kept}), naxis=2)
    ra, dec = wcs.pixel_to_world_values((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    return float(ra), float(dec)
