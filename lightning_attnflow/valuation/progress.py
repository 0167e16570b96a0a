"""The bar of a run: orders done, the time left, and how many signs are decided so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning_attnflow.errors import MissingDependencyError
from lightning_attnflow.shapley import PermutationEstimate, Stop

_SECONDS_BETWEEN_LOOKS = 1.0  # intervals of thousands of players are not computed for every unit


@contextmanager
def progress_bar(wanted: bool, stop: Stop, estimate: PermutationEstimate) -> Iterator[Callable[[], None]]:
    """A function to call after each unit; it draws a bar with rich if ``wanted``, else it does nothing.

    The bar's end is where the stopping criterion will look next: the end of the run for a number of orders or
    evaluations, the next look for a criterion on errors, which cannot know how many orders it will take.

    Raises:
        MissingDependencyError: if a bar is wanted and rich is not installed.
    """
    if not wanted:
        yield lambda: None
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
    with Progress(*columns) as bar:
        task = bar.add_task("nothing decided yet", total=None)
        looked = 0.0

        def report() -> None:
            nonlocal looked
            room = stop.room(estimate)
            bar.update(
                task, completed=estimate.n_units, total=None if math.isinf(room) else estimate.n_units + max(0, room)
            )
            if time.monotonic() - looked > _SECONDS_BETWEEN_LOOKS and estimate.n_units > 1:
                looked = time.monotonic()
                bar.update(task, description=decided_so_far(estimate))

        yield report


def decided_so_far(estimate: PermutationEstimate) -> str:
    """In words: how many players are surely helpful, surely harmful, or undecided."""
    low, high = estimate.interval()
    helpful, harmful = int((low > 0).sum()), int((high < 0).sum())
    return f"{helpful} helpful, {harmful} harmful, {estimate.n_players - helpful - harmful} undecided"
