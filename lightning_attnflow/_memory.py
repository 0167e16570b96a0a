"""Memory that was freed and that the C library keeps for later allocations."""

from __future__ import annotations

import ctypes
import sys


def return_freed_memory() -> None:
    """Return freed memory to the operating system (glibc; elsewhere without effect).

    Without it the peak of a process is that of all steps together, because their large arrays have different sizes.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
