"""What the app shows: objects of a workdir in an order that was asked for, their pictures, and what grades teach."""

import collections
import contextlib
import functools
import math
import pathlib
import threading
from typing import Any, NamedTuple

import numpy as np

from lensjax.core.errors import UserError
from lensjax.data.cutouts import GRZ, check_bands, wanted_bands
from lensjax.embed import catalogue, linear
from lensjax.embed.embed import open_source
from lensjax.embed.encoder import make_encoder
from lensjax.embed.probe import FOLDER
from lensjax.embed.store import OK, Embeddings
from lensjax.explore.grades import LENSES, NAME, OTHERS, Grades
from lensjax.surveys import viewer
from lensjax.surveys.block import BadFile
from lensjax.surveys.catalogues import make_table, write_table
from lensjax.surveys.cutouts import Cutouts
from lensjax.surveys.image_files import ImageFile, open_images

SORTS = ("score", "magnitude", "object", "similarity", "taught")  # the first that there is comes up first
ASCENDING = ("magnitude", "object")  # the others have the largest first
STEM = "graded"
GRADE = {"grade": ("", "meta.code.qual", "given by eye: A a lens, B probably, C perhaps, X no lens")}
SHOWN = ("name", "ra", "dec", "known", "viewer", "score", "similarity", "mag_g", "mag_r", "mag_z", "label", "status")
SAMPLE = 1_024  # objects, graded and drawn, that are learned from: of one size, so that one program serves them all
PICTURES = 4_096  # that are kept
OPEN = 16  # files of images of which what they hold is kept
DIGITS = 18  # of an object's number at most
BLANK = np.zeros((32, 32, 3), np.float32)  # in place of an image that is not there


class Request(NamedTuple):
    """Which objects, in which order. queries: numbers of objects or names of uploads; window: mag, each way of any
    query that is an object, 0 for none; grade: of this grade alone, "" for all."""

    sort: str = "object"
    queries: tuple[str, ...] = ()
    window: float = 0.0
    grade: str = ""


class Gallery:
    """Objects, pictures and grades of a workdir with embeddings; safe to be asked by several threads."""

    def __init__(self, config: Any, workdir: str | pathlib.Path):
        self.config, self.workdir = config, pathlib.Path(workdir)
        self.embeddings = Embeddings(workdir)
        objects = self.embeddings.objects()
        self.columns = {"object": np.arange(self.embeddings.rows), **objects}
        self.columns |= catalogue.read_scores(self.workdir / FOLDER, self.embeddings, objects)
        self.grades = Grades(self.workdir / NAME, objects["file"], objects["row"])
        self.taught = np.full(self.embeddings.rows, np.nan, np.float32)
        self._source, self._encoder, self._lock = _open(config, objects, self.embeddings.about), None, threading.RLock()
        self._pictures: collections.OrderedDict[int, bytes] = collections.OrderedDict()
        self._uploads: dict[str, np.ndarray] = {}
        self._compared: tuple[tuple[str, ...], np.ndarray] = (), np.empty(0)
        self._orders: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # sort -> values, and the objects in their order

    def page(self, asked: Request, start: int, count: int) -> dict[str, Any]:
        """{"total", "objects"}: those from place `start` of the order on, at most `count`, as plain values."""
        order, similarity = self.order(asked)
        chosen = order[start : start + count]
        columns = {name: values[chosen] for name, values in self.columns.items()} | {"similarity": similarity[chosen]}
        columns |= catalogue.identify(columns, self.config.catalogue) | {"taught": self.taught[chosen]}
        names = [name for name in (*SHOWN, "taught") if name in columns]
        rows = [{name: _plain(columns[name][i]) for name in names} for i in range(len(chosen))]
        objects = [{"object": int(n), "grade": self.grades[n], **row} for n, row in zip(chosen, rows, strict=True)]
        self.pictures(chosen)
        return {"total": len(order), "objects": objects}

    def order(self, asked: Request) -> tuple[np.ndarray, np.ndarray]:
        """(numbers of the objects (M,) in order, similarity (N,) to the queries)."""
        if asked.sort not in SORTS:
            raise UserError(f"there is no order {asked.sort!r}: expected one of {', '.join(SORTS)}.")
        similarity = self.similarity(asked.queries)
        values = {
            "score": lambda: self.columns["score"],
            "similarity": lambda: similarity,
            "taught": lambda: self.taught,
            "magnitude": lambda: self.columns.get("mag_r", np.full(self.embeddings.rows, np.nan)),
            "object": lambda: self.columns["object"],
        }[asked.sort]()
        order = self._sorted(asked.sort, values)
        keep = np.isfinite(values)
        numbers = [int(query) for query in asked.queries if query.isdecimal()]
        if asked.window and numbers and "mag_r" in self.columns:
            mag = self.columns["mag_r"]
            keep &= (np.abs(mag[:, None] - mag[numbers]) <= asked.window).any(1)
        if asked.grade:
            keep &= self.grades.column() == asked.grade
        return order[keep[order]], similarity

    def _sorted(self, sort: str, values: np.ndarray) -> np.ndarray:
        """Numbers of the objects (N,) in the order of values (N,), kept as long as these are the same array."""
        kept, order = self._orders.get(sort, (None, np.empty(0)))
        if kept is not values:
            order = np.argsort(values if sort in ASCENDING else -values, kind="stable")
            self._orders[sort] = values, order
        return order

    def similarity(self, queries: tuple[str, ...]) -> np.ndarray:
        """(N,) the largest cosine to one of the queries; NaN without any. The last answer is kept."""
        if not queries:
            return np.full(self.embeddings.rows, np.nan, np.float32)
        with self._lock:
            if self._compared[0] != queries:
                vectors = np.array([self._vector(query) for query in queries], np.float32)
                self._compared = queries, catalogue.most_similar(self.embeddings, vectors)[0]
            return self._compared[1]

    def _vector(self, query: str) -> np.ndarray:
        if query in self._uploads:
            return self._uploads[query]
        if not query.isdecimal() or len(query) > DIGITS or int(query) >= self.embeddings.rows:
            raise UserError(f"there is no object {query}: expected 0 to {self.embeddings.rows - 1}.")
        vector = self.embeddings.take(np.array([int(query)]))[0]
        if not np.isfinite(vector).all():
            raise UserError(f"object {query} has no embedding: ask for another.")
        return vector

    def upload(self, path: pathlib.Path) -> str:
        """Embed the first image of a file (FITS, HDF5, numpy, viewer PNG or JPEG); returns its name as a query."""
        with self._lock:
            self._encoder = self._encoder or make_encoder(self.config, self.workdir)
            encoder = self._encoder
            if encoder.identity != self.embeddings.about["weights"]:
                raise UserError("the weights changed since the objects were embedded: run --mode=embed again.")
            wanted = wanted_bands(encoder.config)
            source = Cutouts([(path.name, _images(path))], encoder.config.augment.size, bands=wanted)
            image = source.read(np.array([0]))
            if not np.isfinite(image).all():
                raise UserError(f"the image cannot be used: {source.table()['status'][0]}.")
            check_bands(source, encoder.config)
            batch = np.repeat(image, self.config.embed.batch_size, 0)
            name = f"upload-{len(self._uploads) + 1}"
            self._uploads[name] = np.asarray(encoder.embed(batch))[0]
            self._keep(name, image[0])
            return name

    def teach(self) -> dict[str, int]:
        """Fit a linear classifier to the grades, and give every object its probability, `taught`.

        Lenses are those graded A and B. Others are those graded X, and, as nearly nothing in a survey is a lens,
        objects without a grade, drawn at random (Stein et al. 2022, section 3.3). UserError without a lens.
        """
        grade, usable = self.grades.column(), self.columns["status"] == OK
        lens, other, free = (np.flatnonzero(np.isin(grade, given) & usable) for given in (LENSES, OTHERS, ("",)))
        if not len(lens):
            raise UserError("no object with an embedding has grade A or B yet: grade one lens at least.")
        drawn = np.random.default_rng(0).permutation(free)[: max(SAMPLE - len(lens) - len(other), 0)]
        rows = np.concatenate([lens, other, drawn])
        label = np.arange(len(rows)) < len(lens)
        settings = self.config.explore
        probes = linear.fit(self.embeddings.take(rows), label, settings.iterations, settings.l2)[-1:]
        taught = np.empty(self.embeddings.rows, np.float32)
        for piece, vectors in self.embeddings.pieces():
            taught[piece] = linear.probability(probes, vectors)
        self.taught = taught  # whole, since other threads order by it
        return {"lenses": len(lens), "others": len(other), "drawn": len(drawn)}

    def pictures(self, numbers: np.ndarray) -> None:
        """Draw the objects' pictures, those that are not there yet in one go."""
        with self._lock:
            missing = [int(n) for n in numbers if int(n) not in self._pictures]
            if missing:
                for number, image in zip(missing, self._source.read(np.array(missing)), strict=True):
                    self._keep(number, image)

    def picture(self, name: int | str) -> bytes:
        """PNG of an object in the viewer's colours, or of an upload."""
        with self._lock:
            if name not in self._pictures and isinstance(name, int) and 0 <= name < self.embeddings.rows:
                self.pictures(np.array([name]))
            if name not in self._pictures:
                raise UserError(f"there is no picture of {name}.")
            return self._pictures[name]

    def _keep(self, name: Any, image: np.ndarray) -> None:
        three = np.linspace(0, image.shape[-1] - 1, 3).round().astype(int)
        self._pictures[name] = viewer.to_png(np.nan_to_num(image[..., three]))
        while len(self._pictures) > PICTURES:
            self._pictures.popitem(last=False)

    def export(self) -> list[pathlib.Path]:
        """Write the graded objects, best grade first, as graded.fits, .ecsv, .vot and .parquet; their paths."""
        grade = self.grades.column()
        chosen = np.flatnonzero(grade != "")
        if not len(chosen):
            raise UserError("no object has a grade yet: there is nothing to export.")
        chosen = chosen[np.argsort(grade[chosen], kind="stable")]
        columns = {name: values[chosen] for name, values in self.columns.items()} | {"grade": grade[chosen]}
        columns |= catalogue.identify(columns, self.config.catalogue) | {"rank": np.arange(1, len(chosen) + 1)}
        meta = catalogue.provenance(self.config, self.workdir, self.embeddings)
        return write_table(self.workdir, STEM, make_table(columns, meta, GRADE | catalogue.COLUMNS))


class _Files:
    """Images of objects (N,), by the file and row that they came from; a file is opened when it is needed."""

    def __init__(self, objects: dict[str, np.ndarray]):
        self._file, self._row, self._status = (objects[name] for name in ("file", "row", "status"))
        self._last = dict(zip(self._file, self._row, strict=True))  # rows of a file ascend
        self._open = functools.lru_cache(OPEN)(_open_file)

    def read(self, numbers: np.ndarray) -> list[np.ndarray]:
        """Images (H, W, B), each at the size of its file; BLANK without an image, or where the file is gone.

        UserError for a file that does not hold as many images as it did.
        """
        images = [BLANK] * len(numbers)
        usable = np.flatnonzero(self._status[numbers] == OK)
        for path in np.unique(self._file[numbers[usable]].astype(str)):
            source = self._open(path)
            if source is None:
                continue
            if len(source) != self._last[path] + 1:
                raise UserError(f"{path} holds {len(source)} images and held others: run --mode=embed again.")
            mine = usable[self._file[numbers[usable]] == path]
            for i, image in zip(mine, source.read(self._row[numbers[mine]]), strict=True):
                images[i] = image
        return images


def _images(path: pathlib.Path) -> ImageFile | str:
    """What is in a file, or why it cannot be used."""
    try:
        return open_images(path)
    except BadFile as error:
        return str(error)


def _open_file(path: str) -> Cutouts | None:
    """The images of a file; None where there are none."""
    with contextlib.suppress(BadFile, UserError):
        return Cutouts([(path, open_images(pathlib.Path(path)))], bands=GRZ)


def _open(config: Any, objects: dict[str, np.ndarray], about: dict[str, Any]) -> Any:
    """The images of the objects: mocks, or those of the files that they came from; UserError for other mocks."""
    if set(objects["file"]) != {"mock"}:
        return _Files(objects)
    source = open_source(config)
    if source.stamp != about.get("mocks", source.stamp) or len(source) != len(objects["file"]):
        raise UserError(
            "the embeddings are of other mocks than this config makes: give the --config, seed and "
            "config.embed with which they were embedded, or run --mode=embed again."
        )
    return source


def _plain(value: Any) -> Any:
    """A number, text, or None for NaN."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
