"""One process at a time holds a lock."""

import errno
import fcntl

import pytest

from lensjax.core.errors import UserError
from lensjax.core.locks import locked


def test_a_second_process_is_told_or_waits(tmp_path):
    with locked(tmp_path / "lock"), pytest.raises(UserError, match="is busy"), locked(tmp_path / "lock", "it is busy"):
        pass
    with locked(tmp_path / "lock", "it is busy"):
        pass


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def refuse(file, operation):
        raise OSError(number, "refused")

    monkeypatch.setattr(fcntl, "flock", refuse)
    number = errno.ENOSYS
    with locked(tmp_path / "lock"):
        pass
    number = errno.EBADF
    with pytest.raises(OSError, match="refused"), locked(tmp_path / "lock"):
        pass
