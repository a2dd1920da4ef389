"""Grades that a person gave: workdir/grades.csv, rewritten whole at every change."""

import csv
import io
import pathlib
import threading

import numpy as np

from lensjax.core.errors import UserError
from lensjax.core.files import write_text

NAME = "grades.csv"
GRADES = {"A": "a lens", "B": "probably a lens", "C": "perhaps a lens", "X": "no lens"}
LENSES, OTHERS = ("A", "B"), ("X",)


class Grades:
    """Grades of objects named by file and row (N,), so that they outlive new embeddings.

    Grades of objects that are not among these stay in the file. UserError for a file that cannot be read.
    """

    def __init__(self, path: pathlib.Path, file: np.ndarray, row: np.ndarray):
        self.path, self._lock = path, threading.Lock()
        self._names = list(zip(map(str, file), map(int, row), strict=True))
        self._given = _read(path)

    def set(self, number: int, grade: str) -> None:
        """Grade an object; "" takes its grade back."""
        if grade and grade not in GRADES:
            raise UserError(f"there is no grade {grade!r}: expected one of {', '.join(GRADES)}.")
        if not 0 <= number < len(self._names):
            raise UserError(f"there is no object {number}: expected 0 to {len(self._names) - 1}.")
        with self._lock:
            self._given.pop(self._names[number], None)
            if grade:
                self._given[self._names[number]] = grade
            _write(self.path, self._given)

    def column(self) -> np.ndarray:
        """(N,) text, "" where there is no grade."""
        return np.array([self._given.get(name, "") for name in self._names], "U1")

    def __getitem__(self, number: int) -> str:
        return self._given.get(self._names[number], "")


def _read(path: pathlib.Path) -> dict[tuple[str, int], str]:
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        return {(row["file"], int(row["row"])): row["grade"] for row in rows}
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is no table of file, row and grade: mend it, or move it away.") from None


def _write(path: pathlib.Path, given: dict[tuple[str, int], str]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "row", "grade"))
    writer.writerows((file, row, grade) for (file, row), grade in given.items())
    write_text(path, text.getvalue())
