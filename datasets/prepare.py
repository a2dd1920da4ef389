"""Build a data set once, whatever kills or races the build."""

import contextlib
import fcntl
import pathlib
import shutil
import sys


def prepare(builder) -> pathlib.Path:
    """Builds the set of a TFDS builder unless it is there, and returns its folder.

    A build writes into `incomplete.*` and renames it at the end, so the folder is whole or absent. What killed
    builds left behind is removed. Two processes that want the same set take turns; the second finds it built.
    """
    folder = pathlib.Path(builder.data_dir)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        for stale in folder.parent.glob(f"incomplete.*_{folder.name}"):
            shutil.rmtree(stale)
        with contextlib.redirect_stdout(sys.stderr):  # the library announces its work on stdout
            builder.download_and_prepare()
    return folder


@contextlib.contextmanager
def locked(path: pathlib.Path):
    """Holds an exclusive lock on a file; the system releases it however the process ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
