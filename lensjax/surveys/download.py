"""Files from a server that fails in every way: retries, whole files or none, a pause between requests, one table."""

import concurrent.futures
import csv
import http.client
import pathlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence

from lensjax.core.files import replacing
from lensjax.surveys.block import BadFile

RETRY = (429, 500, 502, 503, 504)  # HTTP answers that may be different the next time
Check = Callable[[pathlib.Path], None]  # raises BadFile where a file is not whole


class Missing(Exception):
    """The server does not have the file: asking again will not help."""


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


def download(url: str, path: pathlib.Path, settings, check: Check, pace: Pace | None = None) -> str:
    """Download with retries, waiting twice as long each time; empty when done, else the last reason. Raises Missing.

    settings: retries, backoff and timeout (seconds). The file is there when it has passed `check`, or not at all.
    """
    reason = ""
    for attempt in range(settings.retries + 1):
        if attempt:
            time.sleep(settings.backoff * 2 ** (attempt - 1))
        if pace:
            pace.wait()
        try:
            with replacing(path) as temporary:
                _transfer(url, temporary, settings.timeout)
                check(temporary)
            return ""
        except urllib.error.HTTPError as error:
            if error.code == 404:
                raise Missing from None
            reason = f"the server answered {error.code} {error.reason}"
            if error.code not in RETRY:
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

    fetch_file(path) -> empty when the file is there, else why not. columns: names of the table's columns.
    """
    for folder in {path.parent for path in files}:
        folder.mkdir(parents=True, exist_ok=True)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        status = list(pool.map(fetch_file, files))
    with replacing(table) as temporary, temporary.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows((path, *asked, why) for (path, asked), why in zip(files.items(), status, strict=True))
    return table
