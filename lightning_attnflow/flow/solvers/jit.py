"""Numba, set up once: cached compilation that says so and survives a read-only install, and LLVM's bit scan."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import event
from numba.extending import intrinsic

Function = TypeVar("Function", bound=Callable[..., Any])


class _Notice(event.Listener):
    """Says once a process that kernels of this library are being compiled rather than loaded from the cache."""

    said = False

    def on_start(self, event: event.Event) -> None:
        if not self.said and event.data["dispatcher"].py_func.__module__.startswith("lightning_attnflow."):
            self.said = True
            print("lightning-attnflow: compiling the flow engine, once (10 to 15 s in all) ...", file=sys.stderr)

    def on_end(self, event: event.Event) -> None:
        """Nothing to say."""


event.register("numba:compile", _Notice())  # type: ignore[no-untyped-call]


def compiled(function: Function) -> Function:
    """Compile ``function`` with the GIL released, cached on disk where some cache folder can be written."""
    return _jit(function)


def compiled_inner(function: Function) -> Function:
    """Compile ``function`` for calls from compiled functions alone, which spares the wrapper for Python."""
    return _jit(function, no_cpython_wrapper=True)


def _jit(function: Function, **options: bool) -> Function:
    options |= {"nogil": True, "boundscheck": False, "no_cfunc_wrapper": True}
    try:
        dispatcher: Any = njit(cache=True, error_model="numpy", **options)(function)  # type: ignore[call-overload]
        # Of itself numba compiles anew after a change in the kernel's file only, not in those of the kernels it calls.
        dispatcher._cache._cache_file._source_stamp = sources_digest(Path(__file__).parents[1])
    except RuntimeError:  # numba found no folder it may write to: compile in every process instead
        dispatcher = njit(error_model="numpy", **options)(function)  # type: ignore[call-overload]
    return cast(Function, dispatcher)


@cache
def sources_digest(folder: Path) -> str:
    """Return what changes with any Python file in or below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@intrinsic
def _count_trailing_zeros(_typing: Any, _word: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


lowest_bit = cast(Callable[[np.uint64], int], _count_trailing_zeros)
"""Index of the lowest set bit of a nonzero uint64, inside compiled code."""
