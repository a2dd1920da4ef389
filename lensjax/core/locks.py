"""Locks between processes: flock, which the system releases however a process ends."""

import contextlib
import errno
import fcntl
import os
import pathlib
from collections.abc import Iterator

from lensjax.core.errors import UserError

NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)  # of file systems without locks, as some clusters have


@contextlib.contextmanager
def locked(path: str | os.PathLike, busy: str = "") -> Iterator[None]:
    """Holds an exclusive lock on a file, made if need be; the system releases it however the process ends.

    busy: where another process holds the lock, UserError of this sentence instead of waiting for it. On a file system
    without locks nothing is held.
    """
    with pathlib.Path(path).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            raise UserError(busy) from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        yield
