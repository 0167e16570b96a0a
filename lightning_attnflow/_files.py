"""Atomic writing of files: an interrupted write leaves the old file, or none, never a part of the new one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_attnflow._checks import check_path


@contextmanager
def replaced(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of ``path``, which replaces it after the block, unless the block fails.

    A path that exists and is no regular file, such as ``/dev/stdout``, is yielded itself.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replaced(Path(folder) / "a.txt") as partial:
        ...         _ = partial.write_text("new")
        ...     [path.name for path in Path(folder).iterdir()]
        ['a.txt']
    """
    target = check_path("path", path)
    if target.exists() and not target.is_file():
        yield target
        return
    target = target.resolve()  # a symbolic link stays one
    partial = target.with_name(f".{target.stem}.{os.getpid()}.partial{target.suffix}")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file atomically and return its path."""
    with replaced(path) as partial:
        partial.write_bytes(content)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write a file in UTF-8, without changing line ends, atomically, and return its path."""
    return write_bytes(path, text.encode("utf-8"))
