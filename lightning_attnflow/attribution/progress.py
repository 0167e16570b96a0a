"""A progress bar for what turns out to take long, and none for what does not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Advance = Callable[[int], object]  # called with the number of steps done since the last call
_shown = False  # one bar at a time: the loop inside a loop with a bar has none
PATIENCE = 2.0  # seconds after which a person wants to see that something moves


@contextmanager
def bar_if_slow(total: int, description: str) -> Iterator[Advance]:
    """From two seconds on show a bar on standard error, if that is a terminal and rich is installed.

    Of nested loops the first to take that long has the bar.

    Args:
        total: steps to do.
        description: what is being done, in front of the bar.

    Yields:
        What to call when steps are done.

    Example:
        >>> with bar_if_slow(10, "counting") as advance:
        ...     advance(10)
    """
    started, done = time.monotonic(), 0
    drawn: Advance | None = None

    def advance(steps: int) -> None:
        nonlocal drawn, done
        done += steps
        if drawn is not None:
            drawn(steps)
        elif time.monotonic() - started > PATIENCE and sys.stderr.isatty() and not _shown:
            drawn = bar.enter_context(_drawn(total, done, description))

    with ExitStack() as bar:
        yield advance


def show_if_slow(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Iterate with a bar as of `bar_if_slow`.

    Args:
        items: what to iterate over.
        description: what is being done, in front of the bar.

    Yields:
        The items.

    Example:
        >>> list(show_if_slow([1, 2], "counting"))
        [1, 2]
    """
    with bar_if_slow(len(items), description) as advance:
        for done, item in enumerate(items):
            advance(min(done, 1))  # before an item, so that no bar is drawn for what is over
            yield item


@contextmanager
def _drawn(total: int, done: int, description: str) -> Iterator[Advance]:
    try:
        from rich.console import Console
        from rich.progress import Progress
    except ImportError:  # the bar is a courtesy, the result does not depend on it
        yield lambda steps: None  # noqa: ARG005
        return
    global _shown
    _shown = True
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(description, total=total, completed=done)
            yield lambda steps: progress.advance(task, steps)
    finally:
        _shown = False
