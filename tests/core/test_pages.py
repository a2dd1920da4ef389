"""Programs begin once more with large pages, once, and as they were called."""

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys
from lensjax.core.pages import use_huge_pages
print("begins", flush=True)
use_huge_pages()
print(os.environ["GLIBC_TUNABLES"], sys.argv[1:], sys.flags.utf8_mode, os.getpid())
"""


def run(tmp_path, given):
    path = tmp_path / "program.py"
    path.write_text(CODE)
    plain = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    command = [sys.executable, "-X", "utf8=1", str(path), "--a=b c"]
    with subprocess.Popen(command, env=plain | given, stdout=subprocess.PIPE, text=True) as process:
        return process.communicate()[0].splitlines(), process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has the setting")
def test_a_program_begins_once_more_as_the_same_process(tmp_path):
    lines, pid = run(tmp_path, {})
    assert lines == ["begins", "begins", f"glibc.malloc.hugetlb=1 ['--a=b c'] 1 {pid}"]


def test_the_users_own_setting_stands(tmp_path):
    lines, pid = run(tmp_path, {"GLIBC_TUNABLES": "glibc.malloc.check=0"})
    assert lines == ["begins", f"glibc.malloc.check=0 ['--a=b c'] 1 {pid}"]
