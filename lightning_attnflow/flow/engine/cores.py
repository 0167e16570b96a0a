"""Threads that share the work of many networks, of their layers and of one layer's flows."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from types import TracebackType
from typing import ParamSpec, TypeVar

import numpy as np

from lightning_attnflow.flow.engine.solve import Flags

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
_POLL_SECONDS = 0.2
WIDE = 128
"""Positions from which on parts of one network are worth a thread: below, Python takes longer than the kernels."""


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Cores:
    """A pool of threads, and the flag that ends what they compute.

    Args:
        n_threads: how many; with 0 everything is computed by who asks for the result.

    Attributes:
        stop: uint8 (1,), which the kernels look at between two coalitions; 1 to give up.
    """

    def __init__(self, n_threads: int = 0) -> None:
        self.stop: Flags = np.zeros(1, dtype=np.uint8)
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="attnflow") if n_threads else None

    def later(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Callable[[], Result]:
        """Have a free thread call ``function``, and return what waits for its result.

        If no thread was free by then, the waiting one makes the call itself: no thread ever waits for work that nobody
        does, so that work may ask for more work.
        """
        call = [partial(function, *args, **kwargs)]  # emptied when made, so that its arguments are not kept

        def make() -> Result:
            return call.pop()()

        if self._pool is None:
            return make
        future = self._pool.submit(make)
        return lambda: make() if future.cancel() else future.result()

    def all(self, calls: Iterable[Callable[[], Result]]) -> list[Result]:
        """Have the threads make all calls, and return the results in order."""
        assert self._pool is not None  # who computes everything itself needs no list of calls
        futures = [self._pool.submit(call) for call in calls]
        while wait(futures, timeout=_POLL_SECONDS).not_done:
            pass  # a signal that another thread received is handled between two waits
        return [future.result() for future in futures]

    def __enter__(self) -> Cores:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the threads; after an error, Ctrl-C among them, give up what they compute."""
        self.stop[0] = error is not None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=error is not None)
