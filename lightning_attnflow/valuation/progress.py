"""The bar of a run: orders done, the time left, and how many signs are decided so far."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lightning_attnflow.errors import MissingDependencyError
from lightning_attnflow.shapley import PermutationEstimate, Stop

if TYPE_CHECKING:
    from rich.progress import Progress

_SECONDS_BETWEEN_LOOKS = 1.0  # intervals of thousands of players are not computed for every unit


class Bar:
    """Draws nothing and says nothing: the bar of those who want none."""

    def update(self) -> None:
        """Note that a unit was taken in."""

    def say(self, text: str) -> None:
        """Print a line above the bar."""


@contextmanager
def progress_bar(wanted: bool, stop: Stop, estimate: PermutationEstimate) -> Iterator[Bar]:
    """A bar drawn with rich if ``wanted``, else one that is silent.

    The bar's end is the last unit the run may take; for a criterion on errors alone, which cannot know how many orders
    it will take, where it looks next.

    Raises:
        MissingDependencyError: if a bar is wanted and rich is not installed.
    """
    if not wanted:
        yield Bar()
        return
    try:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    except ImportError as error:
        raise MissingDependencyError(
            "rich",
            got="no such package",
            expected="it for progress=True",
            remedy="pip install 'lightning-attnflow[valuation]'",
        ) from error
    columns = (
        TextColumn("{task.completed} of {task.total} pairs of orders"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns) as drawn:
        yield _RichBar(drawn, stop, estimate)


class _RichBar(Bar):
    def __init__(self, drawn: Progress, stop: Stop, estimate: PermutationEstimate) -> None:
        self._drawn, self._stop, self._estimate = drawn, stop, estimate
        self._task, self._looked = drawn.add_task("nothing decided yet", total=None), 0.0

    def update(self) -> None:
        done, left = self._estimate.n_samples, self._stop.max_samples(self._estimate)
        if math.isinf(left):
            left = self._stop.room(self._estimate)
        self._drawn.update(self._task, completed=done, total=None if math.isinf(left) else done + max(0, left))
        if time.monotonic() - self._looked > _SECONDS_BETWEEN_LOOKS and done > 1:
            self._looked = time.monotonic()
            self._drawn.update(self._task, description=decided_so_far(self._estimate))

    def say(self, text: str) -> None:
        self._drawn.console.print(text)


def decided_so_far(estimate: PermutationEstimate) -> str:
    """In words: how many players are surely helpful, surely harmful, or undecided."""
    low, high = estimate.interval()
    helpful, harmful = int((low > 0).sum()), int((high < 0).sum())
    return f"{helpful} helpful, {harmful} harmful, {estimate.n_players - helpful - harmful} undecided"
