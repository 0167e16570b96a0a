"""How many validation sentences the monitor can afford within a share of the duration of the fit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_attnflow._checks import check_nonnegative


class OverheadBudget:
    """Seconds that may be spent, as a share of the seconds since the fit started.

    Args:
        share: maximum share, >= 0; None for no limit.

    Attributes:
        spent: seconds spent since the fit started.

    Example:
        >>> budget = OverheadBudget(0.02)
        >>> budget.n_affordable(8)  # no fit is running
        8
    """

    def __init__(self, share: float | None) -> None:
        self.share = None if share is None else check_nonnegative("max_overhead", share)
        self.spent = 0.0
        self._started: float | None = None
        self._since: float | None = None
        self._per_sentence: float | None = None

    def start(self) -> None:
        """Start the fit."""
        self._started, self.spent = time.perf_counter(), 0.0

    def stop(self) -> None:
        """End the fit; outside a fit nothing is limited."""
        self._started = None

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Add the seconds of the context to ``spent``."""
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self.spent += time.perf_counter() - self._since
            self._since = None

    def observe(self, seconds: float, n_sentences: int) -> None:
        """Learn the cost of a sentence."""
        self._per_sentence = seconds / n_sentences

    def n_affordable(self, n_wanted: int) -> int:
        """Return the number of sentences, at most ``n_wanted``, whose expected cost keeps the spending in the share.

        One sentence is allowed as long as nothing is known about the cost and the share is not used up.
        """
        if self.share is None or self._started is None:
            return n_wanted
        now = time.perf_counter()
        running = 0.0 if self._since is None else now - self._since
        left = self.share * (now - self._started) - self.spent - running
        if left <= 0:
            return 0
        return min(n_wanted, 1 if self._per_sentence is None else int(left / self._per_sentence))
