"""Memory in large pages."""

import os
import sys

SETTING, LARGE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"


def use_huge_pages() -> None:
    """Start this program anew with Linux's pages of 2 MB for large arrays; nothing where GLIBC_TUNABLES is set.

    XLA allocates the memory of a step when it begins and frees it at its end; in pages of 4 kB, handing them out takes
    a tenth of a training. glibc reads the setting when a program starts, hence before anything else is done.
    """
    if sys.platform == "linux" and SETTING not in os.environ and sys.executable:
        os.environ[SETTING] = LARGE
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
