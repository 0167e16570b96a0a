"""Threads that share the work of many networks, of their layers, and of the flows of one layer."""

from __future__ import annotations

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
MIN_SHARED_POSITIONS = 128
"""Shorter networks are not divided among threads: starting a task takes longer than its computation."""


class Threads:
    """A pool of threads with a flag that stops their computations.

    Args:
        n_threads: number of threads; with 0 all calls are made by the thread that waits for the result.

    Attributes:
        stop: uint8 (1,), read by the kernels between two coalitions; 1 to stop.
    """

    def __init__(self, n_threads: int = 0) -> None:
        self.stop: Flags = np.zeros(1, dtype=np.uint8)
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="attnflow") if n_threads else None

    def submit(
        self, function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
    ) -> Callable[[], Result]:
        """Submit a call to the pool and return a function that waits for its result.

        If no thread has started the call by then, the waiting thread makes it. So a call may submit and wait for other
        calls without a deadlock.
        """
        call = [partial(function, *args, **kwargs)]  # emptied by the call, to release its arguments

        def make() -> Result:
            return call.pop()()

        if self._pool is None:
            return make
        future = self._pool.submit(make)
        return lambda: make() if future.cancel() else future.result()

    def run_all(
        self, calls: Iterable[Callable[[], Result]], meanwhile: Callable[[], None] = lambda: None
    ) -> list[Result]:
        """Make all calls in the pool and return their results in order; call ``meanwhile`` a few times a second."""
        assert self._pool is not None
        futures = [self._pool.submit(call) for call in calls]
        while wait(futures, timeout=_POLL_SECONDS).not_done:
            meanwhile()  # signals received by other threads are handled between two waits
        return [future.result() for future in futures]

    def __enter__(self) -> Threads:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the threads; after an error, including Ctrl-C, stop their computations."""
        self.stop[0] = error is not None
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=error is not None)
