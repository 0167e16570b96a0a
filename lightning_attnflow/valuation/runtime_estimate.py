"""What one evaluation of a run costs, and how long the run will take, said before and when that is known."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence

from lightning_attnflow.valuation.walk import Unit

_LONG_RUN_SECONDS = 60.0  # a forecast beyond this is said as a warning


class Forecast:
    """The time a run will take.

    Args:
        n_samples: units the run takes at most; infinite if nobody knows.
        permutations_per_sample: orders that make a unit.
        n_jobs: workers.
    """

    def __init__(self, n_samples: float, permutations_per_sample: int, n_jobs: int) -> None:
        self._n_units, self._workers = n_samples, max(1, n_jobs)
        self._unit = "an order" if permutations_per_sample == 1 else "a pair of orders"
        self._said = False

    def text(self, seconds: float, evaluations: int) -> str:
        """In words, from the seconds of one evaluation and how many a unit takes.

        Example:
            >>> Forecast(500, 2, 1).text(0.0002, 600)
            'One evaluation takes 0.2 ms, a pair of orders 120.0 ms, and all 500 with 1 worker 60.0 s.'
        """
        one = seconds * evaluations
        workers = "1 worker" if self._workers == 1 else f"{self._workers} workers"
        total = "the run has no foreseeable end."
        if math.isfinite(self._n_units):
            total = f"all {self._n_units:.0f} with {workers} {duration(self._n_units * one / self._workers)}."
        return f"One evaluation takes {duration(seconds)}, {self._unit} {duration(one)}, and {total}"

    def warn(self, seconds: float, evaluations: int) -> None:
        """Warn before a long run."""
        if self._n_units * seconds * evaluations / self._workers > _LONG_RUN_SECONDS:
            warnings.warn(f"{self.text(seconds, evaluations)} Truncation will save some of it.", stacklevel=3)

    def listening(
        self, source: Callable[[Sequence[int]], Iterator[Unit]], say: Callable[[str], None]
    ) -> Callable[[Sequence[int]], Iterator[Unit]]:
        """The same source, whose first unit is measured and the forecast said."""

        def listened(indices: Sequence[int]) -> Iterator[Unit]:
            for unit in source(indices):
                if not self._said:
                    self._said = True
                    evaluations = int(unit.evaluations.sum())
                    if evaluations:
                        say(self.text(float(unit.seconds.sum()) / evaluations, evaluations))
                yield unit

        return listened


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them.

    Example:
        >>> [duration(seconds) for seconds in (0.00018, 0.25, 90, 600, 10_000)]
        ['0.2 ms', '250.0 ms', '90.0 s', '10 min', '2.8 h']
    """
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
