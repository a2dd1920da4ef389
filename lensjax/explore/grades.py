"""Grades that a person gave: workdir/grades.csv, rewritten whole at every change."""

import csv
import functools
import io
import os
import pathlib
import threading

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import write_text

NAME = "grades.csv"
GRADES = {"A": "a lens", "B": "probably a lens", "C": "perhaps a lens", "X": "no lens"}
Given = dict[tuple[str, int], tuple[str, str]]  # (whole path, row) -> path as it is in the file, grade
LENSES, OTHERS = ("A", "B"), ("X",)


class Grades:
    """Grades of objects named by file and row (N,), so that they outlive new embeddings.

    Grades of objects that are not among these stay in the file, `strays` of them. Every change is made to the file as
    it is by then: another app of the same workdir may have written it. UserError for a file that cannot be read.
    """

    def __init__(self, path: pathlib.Path, file: np.ndarray, row: np.ndarray):
        self.path, self._lock = path, threading.Lock()
        whole = functools.cache(_whole)
        self._names = list(zip((whole(str(one)) for one in file), map(int, row), strict=True))
        self._first: dict[tuple[str, int], int] = {}  # name -> the first object of that name
        self._same = np.array([self._first.setdefault(name, i) for i, name in enumerate(self._names)], np.int64)
        self._given = _read(path)
        self.strays = len(self._given.keys() - self._first.keys())

    def set(self, number: int, grade: str) -> None:
        """Grade an object; "" takes its grade back."""
        if grade and grade not in GRADES:
            raise UserError(f"there is no grade {grade!r}: expected one of {', '.join(GRADES)}.")
        if not 0 <= number < len(self._names):
            raise UserError(f"there is no object {number}: expected 0 to {len(self._names) - 1}.")
        with self._lock:
            given = _read(self.path)
            given.pop(self._names[number], None)
            if grade:
                given[self._names[number]] = self._names[number][0], grade
            _write(self.path, given)
            self._given = given

    def column(self) -> np.ndarray:
        """(N,) text, "" where there is no grade."""
        grade = np.full(len(self._names), "", "U1")
        for name, (_, given) in self._given.items():
            if name in self._first:
                grade[self._first[name]] = given
        return grade[self._same]

    def __getitem__(self, number: int) -> str:
        return self._given.get(self._names[number], ("", ""))[1]


def _whole(file: str) -> str:
    """The path however it was spelled; "mock" is none."""
    return file if file == "mock" else os.path.abspath(file)


def _read(path: pathlib.Path) -> Given:
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a byte-order mark
            rows = list(csv.DictReader(file))
        given = {(_whole(row["file"]), int(row["row"])): (row["file"], row["grade"]) for row in rows}
    except (KeyError, TypeError, ValueError, csv.Error):
        raise UserError(f"{path} is no table of file, row and grade: mend it, or move it away.") from None
    for (_, row), (file, grade) in given.items():
        if grade not in GRADES:
            raise UserError(
                f"{path} gives {file}, row {row}, the grade {grade!r}: expected one of {', '.join(GRADES)}."
            )
    return given


def _write(path: pathlib.Path, given: Given) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "row", "grade"))
    writer.writerows((file, row, grade) for (_, row), (file, grade) in given.items())
    write_text(path, text.getvalue())
