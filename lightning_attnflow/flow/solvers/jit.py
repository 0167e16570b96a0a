"""Numba settings: cached compilation with a notice, and a bit scan."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import event
from numba.extending import intrinsic

from lightning_attnflow.flow.solvers.kernel_cache import KernelCache, cache_folder, say_once, sources_digest

Function = TypeVar("Function", bound=Callable[..., Any])
_SOURCES = Path(__file__).parents[1]


class _Notice(event.Listener):
    """Prints once per process that kernels of this package are compiled rather than loaded from the cache.

    Attributes:
        last: time (`time.monotonic`) at which numba last began or ended to compile a function, 0 at first.
    """

    last = 0.0

    def on_start(self, event: event.Event) -> None:
        self.last = time.monotonic()
        if event.data["dispatcher"].py_func.__module__.startswith("lightning_attnflow."):
            problem = cache_folder(sources_digest(_SOURCES))[1]
            say_once("lightning-attnflow: compiling the flow engine, once (10 to 15 s in all) ...")
            if problem is not None:
                say_once(
                    f"lightning-attnflow: no writable cache folder, so that every process compiles: {problem}. "
                    "Set NUMBA_CACHE_DIR to a writable folder."
                )

    def on_end(self, event: event.Event) -> None:  # noqa: ARG002 - numba passes it
        """Note the time."""
        self.last = time.monotonic()


_NOTICE = _Notice()
event.register("numba:compile", _NOTICE)  # type: ignore[no-untyped-call]


def last_compilation() -> float:
    """Return the time (`time.monotonic`) at which numba last began or ended to compile a function, or 0."""
    return _NOTICE.last


def compiled(function: Function) -> Function:
    """Compile ``function`` with the GIL released; cache it on disk if a cache folder is writeable."""
    return _jit(function)


def compiled_inner(function: Function) -> Function:
    """Compile ``function`` for calls from compiled functions only, without a wrapper for Python."""
    return _jit(function, no_cpython_wrapper=True)


def _jit(function: Function, **options: bool) -> Function:
    options |= {"nogil": True, "boundscheck": False, "no_cfunc_wrapper": True}
    dispatcher: Any = njit(error_model="numpy", **options)(function)  # type: ignore[call-overload]
    # By default numba recompiles after a change of the kernel's own file only, not of the kernels that it calls.
    dispatcher._cache = KernelCache(function, _SOURCES)
    return cast(Function, dispatcher)


@intrinsic
def _count_trailing_zeros(_typing: Any, _word: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


lowest_bit = cast(Callable[[np.uint64], int], _count_trailing_zeros)
"""Index of the lowest set bit of a nonzero uint64, inside compiled code."""
