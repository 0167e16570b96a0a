"""Compiled kernels on disk, shared by all environments of a user with the same sources, Python and numba.

numba's own cache belongs to one installation and keeps an index for each function, which two processes that compile
different signatures at once can leave pointing at each other's code. Here the name of a file follows from its contents:
sources, signature, processor. Files are written under a temporary name and renamed; a file that cannot be read is
compiled again.

The files lie in ``~/.cache/lightning-attnflow`` (``XDG_CACHE_HOME``, or the folder of ``NUMBA_CACHE_DIR``). They are
pickled, so they are read and written only in a folder of the user, or of root, to which nobody else can write.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile


class KernelCache(FunctionCache):
    """The cache of one kernel.

    Args:
        function: the Python function.
        sources: folder of the sources on which its compiled code depends.
    """

    def __init__(self, function: Callable[..., Any], sources: Path) -> None:
        name = f"{function.__module__.rsplit('.', 1)[-1]}.{function.__qualname__}"
        digest = sources_digest(sources)
        self._name, self._py_func = repr(function), function
        self._impl = object.__new__(CompileResultCacheImpl)  # its constructor looks for a folder of its own
        self._cache_path = str(cache_folder(digest)[0])
        self._cache_file = IndexDataCacheFile(self._cache_path, name, digest)  # type: ignore[no-untyped-call]
        self.enable()  # type: ignore[no-untyped-call]

    def _load_overload(self, sig: Any, target_context: Any) -> Any:
        if untrusted(Path(self._cache_path)):
            return None
        try:
            data = self._cache_file._load_data(self._file_name(sig, target_context.codegen()))  # type: ignore[no-untyped-call]
            return self._impl.rebuild(target_context, data)
        except FileNotFoundError:
            return None
        except Exception:  # whatever is wrong with the file, it is replaced
            return None

    def _save_overload(self, sig: Any, data: Any) -> None:
        if cache_folder(self._cache_file._source_stamp)[1] is None and self._impl.check_cachable(data):
            try:
                self._cache_file._save_data(self._file_name(sig, data.codegen), self._impl.reduce(data))  # type: ignore[no-untyped-call]
            except OSError as error:
                say_once(f"lightning-attnflow: compiled code is not cached: {error}")

    def _file_name(self, sig: Any, codegen: Any) -> str:
        key = hashlib.sha256(repr(self._index_key(sig, codegen)).encode()).hexdigest()  # type: ignore[no-untyped-call]
        return f"{self._cache_file._index_name.removesuffix('.nbi')}-{key[:20]}.nbc"


@cache
def cache_folder(digest: str) -> tuple[Path, str | None]:
    """Return the folder for sources of a hash, and why it cannot be written to, or None."""
    root = os.environ.get("NUMBA_CACHE_DIR")
    if not root:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "lightning-attnflow")
    python = ".".join(map(str, sys.version_info[:3]))
    folder = Path(root) / f"{digest[:16]}-python{python}-numba{numba.__version__}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if problem := untrusted(folder):
            return folder, problem
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        return folder, str(error)
    return folder, None


def untrusted(folder: Path) -> str | None:
    """Return why another user could have written the files of a folder, or None."""
    if os.name != "posix":
        return None
    for path, writers in ((folder, stat.S_IWGRP | stat.S_IWOTH), (folder.parent, stat.S_IWOTH)):
        try:
            found = path.stat()
        except OSError:  # no folder, no files
            return None
        if found.st_uid not in (os.getuid(), 0):
            return f"{path} belongs to another user"
        if found.st_mode & writers and not (path != folder and found.st_mode & stat.S_ISVTX):
            return f"other users can write to {path}"
    return None


@cache
def say_once(text: str) -> None:
    """Print a line to the standard error output, once per process."""
    print(text, file=sys.stderr)


@cache
def sources_digest(folder: Path) -> str:
    """Return a hash of all Python files in and below ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
