"""Progress bar for long computations."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from lightning_attnflow._optional import require
from lightning_attnflow.errors import MissingDependencyError

Item = TypeVar("Item")
DELAY = 2.0  # seconds before a bar appears
_WIDE = 100  # columns of a terminal that has room for a bar and the elapsed time beside a long description
_SPEED_SECONDS = 600  # of which the mean speed gives the remaining time; some steps take longer than rich's 30 s
_active = False  # nested bars are not drawn


class ProgressBar:
    """A progress bar on standard error, drawn after a delay; see ``progress_bar``."""

    def __init__(self, stack: ExitStack, total: float | None, description: str, unit: str, always: bool) -> None:
        self._stack, self._total, self._description, self._unit = stack, total, description, unit
        self._started, self._completed = time.monotonic(), 0.0
        self._always = always
        self._drawn: Any = None
        self._task: Any = None
        if always:
            self._draw()

    def advance(self, steps: float) -> None:
        """Add completed steps."""
        self.update(self._completed + steps)

    def update(self, completed: float, *, total: float | None = None, description: str | None = None) -> None:
        """Set the number of completed steps and, if given, their total and the description."""
        self._completed = completed
        self._total = self._total if total is None else total
        self._description = self._description if description is None else description
        late = time.monotonic() - self._started > DELAY
        if self._drawn is None and late and sys.stderr.isatty() and not _active:
            try:
                self._draw()
            except MissingDependencyError:  # an optional bar is not drawn without rich
                self._started = float("inf")
        if self._drawn is not None:
            self._drawn.update(self._task, **self._state())

    def print(self, text: str) -> None:
        """Print a line above the bar if it is drawn."""
        if self._drawn is not None:
            self._drawn.console.print(text)

    def _draw(self) -> None:
        global _active
        rich = require("rich.progress", extra="valuation", purpose="the progress bar")
        table_column = require("rich.table", extra="valuation", purpose="the progress bar").Column
        console = require("rich.console", extra="valuation", purpose="the progress bar").Console(stderr=True)
        is_wide = console.width >= _WIDE
        # only the description, or in a wide terminal the bar, gives way: numbers and the remaining time stay whole
        flexible = table_column(ratio=None if is_wide else 1, no_wrap=True, overflow="ellipsis")
        columns = [
            rich.TextColumn("{task.description}", table_column=flexible, markup=False),
            *([rich.BarColumn(bar_width=None, table_column=table_column(ratio=1))] if is_wide else []),
            rich.TextColumn("{task.fields[count]}"),
            *([rich.TimeElapsedColumn()] if is_wide else []),
            rich.TimeRemainingColumn(),
            rich.TextColumn("left"),
        ]
        self._drawn = self._stack.enter_context(
            rich.Progress(
                *columns,
                console=console,
                transient=not self._always,
                expand=True,
                speed_estimate_period=_SPEED_SECONDS,
            )
        )
        self._task = self._drawn.add_task(**self._state())
        _active = True
        self._stack.callback(_deactivate)

    def _state(self) -> dict[str, Any]:
        """Arguments of a rich task."""
        of_total = "" if self._total is None else f" of {self._total:.0f}"
        count = f"{self._completed:.0f}{of_total} {self._unit}".rstrip()
        return {"completed": self._completed, "total": self._total, "description": self._description, "count": count}


@contextmanager
def progress_bar(
    total: float | None, description: str, *, unit: str = "", always: bool = False
) -> Iterator[ProgressBar]:
    """Yield a progress bar that appears after two seconds if standard error is a terminal and rich is installed.

    Args:
        total: number of steps; None if unknown.
        description: text in front of the bar.
        unit: name of the steps, shown after their number.
        always: draw immediately and on any kind of output; requires rich.

    Example:
        >>> with progress_bar(10, "counting") as bar:
        ...     bar.advance(10)
    """
    with ExitStack() as stack:
        yield ProgressBar(stack, total, description, unit, always)


def track(items: Sequence[Item], description: str) -> Iterator[Item]:
    """Iterate over items with a progress bar.

    Example:
        >>> list(track([1, 2], "counting"))
        [1, 2]
    """
    with progress_bar(len(items), description) as bar:
        for index, item in enumerate(items):
            bar.advance(min(index, 1))  # before the item, so that no bar appears after the last one
            yield item


def _deactivate() -> None:
    global _active
    _active = False
