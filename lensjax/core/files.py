"""Files that are either the old whole thing or the new whole thing, whenever the process is killed."""

import contextlib
import errno
import hashlib
import os
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def naming_full(path: str | os.PathLike) -> Iterator[None]:
    """Where the block finds the disk full, OSError that names `path`, whatever a library makes of it."""
    try:
        yield
    except Exception as error:  # of any type: some say why in their text alone
        found = next((number for number in FULL if os.strerror(number) in str(error)), None)
        if found is None:
            raise
        raise OSError(found, os.strerror(found), os.fspath(path)) from error


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A temporary path in the same folder that takes the place of `path` when the block ends well.

    The temporary keeps the suffix of `path`, since some writers choose the format by it.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.tmp{path.suffix}")
    try:
        with naming_full(path):
            yield temporary
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def create_memmap(path: str | os.PathLike, dtype: Any, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy file as an array. Its room on the disk is taken at once: where there is none, OSError.

    A file with holes would end the whole process, by a signal, at the first page that finds no room.
    """
    array = np.lib.format.open_memmap(path, "w+", dtype, shape)
    if array.size and hasattr(os, "posix_fallocate"):  # not on macOS
        with naming_full(path), open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.stat(path).st_size)
    return array


def stamp(path: str | os.PathLike) -> str:
    """Path, size and time of a file, text that changes with the file; the path alone where there is none."""
    with contextlib.suppress(OSError):
        info = pathlib.Path(path).stat()
        return f"{path}\0{info.st_size}\0{info.st_mtime_ns}\n"
    return f"{path}\n"


def walk(folder: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Files below a folder, to any depth and through links to folders, each folder once."""
    seen = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(root)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (pathlib.Path(root, name) for name in names)


def read_list(path: str | os.PathLike) -> list[pathlib.Path]:
    """The entries of a text file, one a line, relative to its folder; # begins a comment, and a byte-order mark, as
    spreadsheets write it, is none of the text."""
    text = pathlib.Path(path).read_text(encoding="utf-8-sig", errors="replace")
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [pathlib.Path(path).parent / pathlib.Path(line).expanduser() for line in lines if line]


def content(path: str | os.PathLike) -> str:
    """SHA-256 of what is in a file, text; empty where there is none."""
    path = pathlib.Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write the file whole, or leave the old one."""
    with replacing(path) as temporary:
        temporary.write_text(text)
