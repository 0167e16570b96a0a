"""Numbers of threads."""

from __future__ import annotations

import os
import sys


def n_cores() -> int:
    """Number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_limit() -> int:
    """Current number of torch threads, or the number of cores if torch is not imported."""
    torch = sys.modules.get("torch")
    return n_cores() if torch is None else int(torch.get_num_threads())
