"""Files from a server that fails in every way: retries, whole files or none, a pause between requests, one table."""

import collections
import concurrent.futures
import contextlib
import csv
import errno
import http.client
import pathlib
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence

from lensjax.core.errors import UserError
from lensjax.core.files import replacing
from lensjax.core.journal import Progress
from lensjax.surveys.block import BadFile

RETRY = (429, 500, 502, 503, 504)  # HTTP answers that may be different the next time
HOPELESS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)  # of the disk: the next file fares no better
Check = Callable[[pathlib.Path], None]  # raises BadFile where a file is not whole


class Missing(Exception):
    """The server does not have the file: asking again will not help."""


class Unwanted(BadFile):
    """The server gave a whole file of something else: asking again will not help."""


class Pace:
    """At most one request every `seconds`, whatever the number of threads."""

    def __init__(self, seconds: float):
        self.seconds, self._next, self._lock = seconds, 0.0, threading.Lock()

    def wait(self) -> None:
        """Return when it is this request's turn."""
        with self._lock:
            turn = max(self._next, time.monotonic())
            self._next = turn + self.seconds
        time.sleep(max(turn - time.monotonic(), 0.0))


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
    """UserError where the block finds the folder full or forbidden."""
    try:
        yield
    except OSError as error:
        if error.errno not in HOPELESS:
            raise
        raise UserError(
            f"the folder {folder} cannot be written ({error.strerror}): expected room and permission; make room, or "
            "give another --workdir, and run the same command again"
        ) from error


def download(url: str, path: pathlib.Path, settings, check: Check, pace: Pace | None = None) -> str:
    """Download with retries, waiting twice as long each time; empty when done, else the last reason.

    Raises Missing, and UserError where the disk is full or forbidden.
    settings: retries, backoff and timeout (seconds). The file is there when it has passed `check`, or not at all.
    """
    reason = ""
    for attempt in range(settings.retries + 1):
        if attempt:
            time.sleep(settings.backoff * 2 ** (attempt - 1))
        if pace:
            pace.wait()
        try:
            with writing(path.parent), replacing(path) as temporary:
                _transfer(url, temporary, settings.timeout)
                check(temporary)
            return ""
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise Missing from None
            reason = f"the server answered {error.code} {error.reason}"
            if error.code not in RETRY:
                break
        except urllib.error.URLError as error:
            reason = f"the server cannot be reached ({getattr(error.reason, 'strerror', None) or error.reason})"
        except Unwanted as error:
            reason = str(error)
            break
        except (OSError, http.client.HTTPException, BadFile) as error:
            reason = f"{type(error).__name__}: {error}"
    return f"not downloaded: {reason}"


def _transfer(url: str, path: pathlib.Path, timeout: float) -> None:
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        path.write_bytes(answer.read())  # read() raises IncompleteRead where the length was announced


def is_complete(path: pathlib.Path, check: Check) -> bool:
    """Whether an earlier download is there and whole."""
    try:
        check(path)
    except BadFile:
        return False
    return True


def fetch_all(
    files: Mapping[pathlib.Path, Sequence],
    fetch_file: Callable[[pathlib.Path], str],
    workers: int,
    columns: Sequence[str],
    table: pathlib.Path,
) -> pathlib.Path:
    """Have every file, `workers` at a time, and write `table` (CSV): path, what is asked for, status; returns it.

    fetch_file(path) -> empty when the file is there, else why not. columns: names of the table's columns. UserError
    where a folder cannot be written.
    """
    for folder in {path.parent for path in files}:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
    status, lost = [], 0
    with (
        contextlib.closing(Progress(len(files), 0, "fetch")) as progress,
        concurrent.futures.ThreadPoolExecutor(workers) as pool,
    ):
        for why in pool.map(fetch_file, files):
            status.append(why)
            lost += bool(why)
            progress.note(f"{lost} not fetched")
            progress.advance()
    with writing(table.parent), replacing(table) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows((path, *asked, why) for (path, asked), why in zip(files.items(), status, strict=True))
    if lost:
        reason, _ = collections.Counter(filter(None, status)).most_common(1)[0]
        print(f"fetch: {lost} of {len(status)} not fetched, most often because: {reason}", file=sys.stderr)
    return table
