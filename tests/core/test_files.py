"""Files are replaced whole; a full disk is an error that names the file."""

import errno
import os

import pytest

from lensjax.core.files import create_memmap, naming_full, replacing

FULL = os.strerror(errno.ENOSPC)


def test_a_file_is_the_old_one_or_the_new_one(tmp_path):
    path = tmp_path / "table.txt"
    for text in ("old", "new"):
        with replacing(path) as temporary:
            temporary.write_text(text)
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "new" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, f"Detail: {FULL}"), RuntimeError(f"write() failed: {FULL}; at byte 7")]
)
def test_a_full_disk_names_the_file_whatever_the_library_says(tmp_path, error):
    with pytest.raises(OSError) as caught, replacing(tmp_path / "table.txt"):
        raise error
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] {FULL}: '{tmp_path}/table.txt'"
    with pytest.raises(ValueError, match="another"), naming_full(tmp_path):
        raise ValueError("another")


def test_a_map_takes_its_room_at_once(tmp_path, monkeypatch):
    create_memmap(tmp_path / "whole.npy", "f4", (1000, 1000))
    assert (tmp_path / "whole.npy").stat().st_blocks * 512 >= 4_000_000
    assert create_memmap(tmp_path / "empty.npy", "f4", (0, 3)).shape == (0, 3)
