"""Files that are either the old whole thing or the new whole thing, whenever the process is killed."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """A temporary path in the same folder that takes the place of `path` when the block ends well.

    The temporary keeps the suffix of `path`, since some writers choose the format by it.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write the file whole, or leave the old one."""
    with replacing(path) as temporary:
        temporary.write_text(text)
