"""A progress bar for what turns out to take long, and none for what does not."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
_shown = False  # one bar at a time: the loop inside a loop with a bar has none
PATIENCE = 2.0  # seconds after which a person wants to see that something moves


def show_if_slow(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Iterate; from two seconds on show a bar on standard error, if that is a terminal and rich is installed.

    Of nested loops the first to take that long has the bar.

    Args:
        items: what to iterate over.
        description: what is being done, in front of the bar.

    Yields:
        The items.

    Example:
        >>> list(show_if_slow([1, 2], "counting"))
        [1, 2]
    """
    started = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - started > PATIENCE and sys.stderr.isatty() and not _shown:
            yield from _with_bar(items, done, description)
            return
        yield item


def _with_bar(items: Sequence[Item], done: int, description: str) -> Iterator[Item]:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:  # the bar is a courtesy, the result does not depend on it
        yield from items[done:]
        return
    global _shown
    _shown = True
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(description, total=len(items), completed=done)
            for item in items[done:]:
                yield item
                progress.advance(task)
    finally:
        _shown = False
