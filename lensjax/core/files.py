"""Files that are either the old whole thing or the new whole thing, whenever the process is killed."""

import contextlib
import hashlib
import os
import pathlib
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A temporary path in the same folder that takes the place of `path` when the block ends well.

    The temporary keeps the suffix of `path`, since some writers choose the format by it.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


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


def content(path: str | os.PathLike) -> str:
    """SHA-256 of what is in a file, text; empty where there is none."""
    path = pathlib.Path(path)
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write the file whole, or leave the old one."""
    with replacing(path) as temporary:
        temporary.write_text(text)
