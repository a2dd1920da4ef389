"""Image surveys: files of cutouts in, arrays of pixels and one table of objects out; nothing is loaded as a whole.

source = open_cutouts("south_*.h5", size=96)
source.table()["flux"]; source.read([3, 17])
"""

import collections
import contextlib
import glob
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import read_list, replacing, stamp, walk
from lensjax.surveys.block import BadFile
from lensjax.surveys.image_files import SUFFIXES, ImageFile, import_h5py, open_images
from lensjax.surveys.sweep import standardise

OK = "ok"  # status of an object whose image can be used, as far as is known
LISTS = (".txt", ".list")
TEXT = 32  # characters of a text column that are written
# What runs leave in their workdir, which may lie in a folder of images, or be it.
OWN = re.compile(
    r"(.*/)?((curves|completeness|evaluation)\.png|(completeness|ranked|graded)\.fits|injected\.hdf5"
    r"|(weights|neighbours)\.npz|probe/(probe\.png|classifiers\.npz)|embeddings/part-\d+\.npy)"
)


class Cutouts:
    """The images of some files, as one sequence.

    size: pixels of an image, along either axis; bands: a letter each. No file stays open.
    """

    def __init__(
        self,
        files: Sequence[tuple[str, ImageFile | str]],
        size: int | None = None,
        holes: bool = False,
        bands: str = "",
    ):
        """files: path, and what is in it or why it cannot be used. size: crop or pad images to it about the centre.

        holes: images keep their finite pixels where others are not, and bands that are zero throughout. bands: a letter
        each, the planes to take of files that name these bands among others.
        """
        if bands:
            files = [(path, file.only(bands) if isinstance(file, ImageFile) else file) for path, file in files]
        good = [file for _, file in files if isinstance(file, ImageFile)]
        if not good:
            name, reason = files[0]
            raise UserError(f"none of {len(files)} files holds an image that can be used; {name}: {reason}")
        self.bands = _most_common([file.bands for file in good], [file.num for file in good])
        shapes = [file.shape[:2] for file in good if file.bands == self.bands]
        self.shape = _most_common(shapes, [file.num for file in good if file.bands == self.bands])
        self.size, self._resized = size or min(self.shape), size is not None
        self._holes, self._paths = holes, [path for path, _ in files]
        self._files = [self._checked(file) for _, file in files]
        counts = [file.num if isinstance(file, ImageFile) else 1 for _, file in files]
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._found: dict[int, str] = {}  # row -> what was wrong with it when it was read

    def _checked(self, file: ImageFile | str) -> ImageFile | tuple[int, str]:
        """The file, or the number of its rows and the reason that none of them fits the others."""
        if isinstance(file, str):
            return 1, file
        if file.bands != self.bands:
            return file.num, f"bands {file.bands}: expected {self.bands} as most have; give these files on their own"
        if file.shape[:2] != self.shape and not self._resized:
            found, wanted = (" x ".join(map(str, shape)) for shape in (file.shape[:2], self.shape))
            return file.num, f"{found} pixels: expected {wanted} as most have; ask for a size to crop or pad all"
        return file

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def stamp(self) -> str:
        """Text that changes with the files."""
        return "".join(stamp(path) for path in sorted(set(self._paths)))

    def table(self) -> dict[str, np.ndarray]:
        """One row for each object, damaged ones included: file, row (within it), status ("ok", or why it is unusable).

        And the columns of `sweep.standardise`, NaN, -1 or "" where a file does not say. An image is looked at when it
        is read, so NaN pixels and dark bands get their status then.
        """
        parts = []
        for path, file, start, stop in zip(self._paths, self._files, self._starts[:-1], self._starts[1:], strict=True):
            columns, status = (file.columns(), OK) if isinstance(file, ImageFile) else ({}, file[1])
            num = int(stop - start)
            rows = {"file": np.full(num, path), "row": np.arange(num), "status": np.full(num, status)}
            parts.append(rows | standardise(columns, num, self.bands))
        table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        status = table["status"].astype(object)
        for row, reason in self._found.items():
            status[row] = reason
        return table | {"status": status.astype(np.str_)}

    def read(self, rows) -> np.ndarray:
        """Images (n, size, size, B) float32, nanomaggies a pixel, of rows (n,); NaN throughout where unusable.

        And, unless holes are kept, where a pixel is NaN or infinite, or a band is zero throughout.
        """
        rows = np.asarray(rows, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {len(self)}")
        out = np.full((len(rows), self.size, self.size, len(self.bands)), np.nan, np.float32)
        wanted, back = np.unique(rows, return_inverse=True)
        place = np.searchsorted(self._starts, wanted, "right") - 1
        for number in np.unique(place):
            images = self._read_file(int(number), wanted[place == number])
            mine = np.flatnonzero(place[back] == number)
            out[mine] = images[back[mine] - np.flatnonzero(place == number)[0]]
        return out

    def _read_file(self, number: int, rows: np.ndarray) -> np.ndarray:
        """Images of ascending rows, all of one file."""
        file = self._files[number]
        nothing = np.full((len(rows), self.size, self.size, len(self.bands)), np.nan, np.float32)
        if not isinstance(file, ImageFile):
            return nothing
        try:
            images = fit(np.asarray(file.read(rows - self._starts[number]), np.float32), self.size)
            if images.shape != nothing.shape:
                raise BadFile("the file has changed since it was opened: run the same command again")
        except BadFile as error:
            if len(rows) > 1:  # one damaged block of a file must not cost its neighbours
                return np.concatenate([self._read_file(number, rows[i : i + 1]) for i in range(len(rows))])
            self._found[int(rows[0])] = str(error)
            return nothing
        if self._holes:
            return images
        lost = np.logical_not(np.isfinite(images).all(axis=-1))
        for i in np.flatnonzero(lost.any(axis=(1, 2))):
            share = f"{lost[i].sum()} of {lost[i].size} pixels are NaN or infinite"
            self._found[int(rows[i])] = f"{share}: expected none; leave the object out, or fill them"
            images[i] = np.nan
        dark = (images == 0).all(axis=(1, 2))
        for i in np.flatnonzero(dark.any(axis=1)):
            bands = "".join(band for band, zero in zip(self.bands, dark[i], strict=True) if zero)
            self._found[int(rows[i])] = f"every pixel in {bands} is zero, as where nothing was observed: leave it out"
            images[i] = np.nan
        return images


def _most_common(values: list, weights: list[int]):
    """The value with the largest sum of weights; the first of equals."""
    total = collections.Counter()
    for value, weight in zip(values, weights, strict=True):
        total[value] += weight
    return total.most_common(1)[0][0]


def fit(images: np.ndarray, size: int) -> np.ndarray:
    """Images (n, H, W, B) cropped about the centre, or padded with zeros, to (n, size, size, B)."""
    for axis in (1, 2):
        extra = images.shape[axis] - size
        if extra > 0:
            images = np.take(images, np.arange(extra // 2, extra // 2 + size), axis)
        elif extra < 0:
            pad = [(0, 0)] * 4
            pad[axis] = (-extra // 2, -extra - (-extra // 2))
            images = np.pad(images, pad)
    return images


def open_cutouts(source, size: int | None = None, holes: bool = False, bands: str = "") -> Cutouts:
    """The cutouts that `source` names, ready to be read by row.

    Args:
        source: HDF5 (Stein et al. 2022: images (N, B, H, W) nanomaggies, and columns), .npy, .npz, FITS cutouts, viewer
            pictures; one file, a folder (to any depth), a glob, a text file with one of these a line, or a list.
        size: pixels to crop, or pad with zeros, every image to; None keeps the size that most images have.
        holes: images keep their finite pixels where others are not, and bands that are zero throughout; else they are
            NaN throughout, and not "ok".
        bands: a letter each: of files that name these bands among others, as FITS cutouts do, only these are taken.

    Raises UserError where there is no file, or none that can be used. A file that cannot be used is one row of the
    table, whose status says why.
    """
    opened: list[tuple[str, ImageFile | str]] = []
    for path in find_images(source):
        try:
            opened.append((str(path), open_images(path)))
        except BadFile as error:
            opened.append((str(path), str(error)))
    return Cutouts(opened, size, holes, bands)


def find_images(source) -> list[pathlib.Path]:
    """Absolute paths, sorted and each once, of the files that `source` names; UserError where there are none."""
    if isinstance(source, list | tuple):
        return list(dict.fromkeys(path for item in source for path in find_images(item)))
    if not str(source):
        raise UserError("no input of images is given: set config.embed.input, or config.data.input to train on them.")
    path = pathlib.Path(source).expanduser()
    if path.is_file() and path.suffix.lower() in LISTS:
        found = [file for entry in read_list(path) for file in (_expand(entry) or [entry])]  # absent ones get a row
    else:
        found = _expand(path)
    if not found:
        what = "the folder holds no file of images" if path.is_dir() else "no such file, folder or glob"
        raise UserError(
            f"input {source or '(nothing)'}: {what}; expected {', '.join(SUFFIXES)}, or a list of such files"
        )
    return sorted({pathlib.Path(os.path.abspath(path)) for path in found})


def _expand(path: pathlib.Path) -> list[pathlib.Path]:
    """Files of a folder (to any depth), a file, or a glob; empty where there are none."""
    if path.is_dir():
        return [file for file in walk(path) if _is_images(file)]
    return [path] if path.is_file() else [pathlib.Path(name) for name in glob.glob(str(path), recursive=True)]


def _is_images(path: pathlib.Path) -> bool:
    """Whether a file of a folder is to be read: by its suffix, and not what a run of ours has left there."""
    wanted = path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")
    return wanted and path.is_file() and not OWN.fullmatch(path.as_posix())


def write_cutouts(path, images: np.ndarray, columns: dict[str, np.ndarray] | None = None) -> None:
    """Write images (N, H, W, B), nanomaggies, and columns (N, ...) in Stein's layout: HDF5 with images (N, B, H, W).

    The file replaces an old one whole. UserError where a column has another length.
    """
    with writing_cutouts(path) as append:
        append(images, columns or {})


@contextlib.contextmanager
def writing_cutouts(path) -> Iterator[Callable[[np.ndarray, dict[str, np.ndarray]], None]]:
    """append(images, columns), as `write_cutouts`, for a file that does not fit in memory; every call the same columns.

    The file takes the place of an old one when the block ends well.
    """
    with replacing(path) as temporary, import_h5py().File(temporary, "w") as file:

        def append(images: np.ndarray, columns: dict[str, np.ndarray]) -> None:
            arrays = {"images": np.moveaxis(np.asarray(images, np.float32), -1, 1)}
            for name, values in columns.items():
                values = np.asarray(values)
                if values.dtype.kind in "UO":
                    values = np.char.encode(values.astype(np.str_), "ascii", "replace").astype(f"S{TEXT}")
                arrays[name] = values
                if len(values) != len(images):
                    raise UserError(f"column {name} has {len(values)} rows for {len(images)} images: give one for each")
            for name, values in arrays.items():
                _append(file, name, values)

        yield append


def _append(file, name: str, values: np.ndarray) -> None:
    if name not in file:
        file.create_dataset(name, data=values, maxshape=(None, *values.shape[1:]))
        return
    old = len(file[name])
    file[name].resize((old + len(values), *values.shape[1:]))
    file[name][old:] = values
