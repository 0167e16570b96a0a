"""How many validation sentences the monitor can afford within a share of the duration of the fit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lightning_attnflow._checks import check_nonnegative

SENTENCE_SHARE = 0.9
"""Part of the budget that may be planned for validation sentences; the rest covers errors of the estimates."""
_LINEAR_TOKENS = 256  # up to which the cost of a sentence is about proportional to its tokens


class OverheadBudget:
    """Seconds that may be spent, as a share of the seconds since the fit started.

    Probes and logs are always paid for; validation sentences only if the share then still holds. The cost of a sentence
    is estimated by that of the last measured sentences: proportional to its tokens, above 256 tokens to their square.

    Args:
        share: maximum share, >= 0; None for no limit.

    Attributes:
        spent: seconds spent since the fit started.
        spent_on_sentences: those spent on validation sentences.
        spent_before_training: those spent before the first training step.

    Example:
        >>> budget = OverheadBudget(0.02)
        >>> budget.n_affordable([12, 40])  # no fit is running
        2
    """

    def __init__(self, share: float | None) -> None:
        self.share = None if share is None else check_nonnegative("max_overhead", share)
        self.spent = self.spent_on_sentences = self.spent_before_training = 0.0
        self._started: float | None = None
        self._since: float | None = None
        self._observed: tuple[float, float] | None = None  # seconds per token, and tokens per sentence
        self._logging: float | None = None

    def start(self) -> None:
        """Start the fit."""
        self._started = time.perf_counter()
        self.spent = self.spent_on_sentences = self.spent_before_training = 0.0
        self._logging = None

    def stop(self) -> None:
        """End the fit; outside a fit nothing is limited."""
        self._started = None

    @contextmanager
    def timed(self, *, logging: bool = False) -> Iterator[None]:
        """Add the seconds of the context to ``spent``; ``logging`` marks what a validation costs at its end."""
        self._since = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - self._since
            self.spent += seconds
            self._since = None
            if logging:
                self._logging = seconds

    def observe(self, seconds: float, lengths: Sequence[int], *, is_validation: bool = True) -> None:
        """Learn the cost of sentences.

        Args:
            seconds: that the sentences took together.
            lengths: number of tokens of each.
            is_validation: whether they are validation sentences, not probes.
        """
        tokens = max(1, sum(lengths))
        self._observed = seconds / tokens, tokens / max(1, len(lengths))
        if is_validation:
            self.spent_on_sentences += seconds

    def n_affordable(self, lengths: Sequence[int]) -> int:
        """Return how many of the sentences, from the first on, can be measured within the share.

        Until the first validation was logged, half of what is left is kept for its logs.

        Args:
            lengths: number of tokens of each sentence.
        """
        if self.share is None or self._started is None:
            return len(lengths)
        now = time.perf_counter()
        running = 0.0 if self._since is None else now - self._since
        left = SENTENCE_SHARE * self.share * (now - self._started) - self.spent - running
        left = left / 2 if self._logging is None else left - self._logging
        if self._observed is None:
            return int(left > 0 and bool(lengths))
        per_token, typical = self._observed
        n = 0
        for length in lengths:
            left -= per_token * length * max(1.0, length / max(typical, _LINEAR_TOKENS))
            if left < 0:
                break
            n += 1
        return n

    def excess(self) -> str:
        """Return a message that says what the time was spent on, if it is more than the share; otherwise ""."""
        if self.share is None or self._started is None:
            return ""
        elapsed = time.perf_counter() - self._started
        if self.spent <= self.share * elapsed:
            return ""
        rest = self.spent - self.spent_before_training - self.spent_on_sentences
        return (
            f"took {self.spent / elapsed:.1%} of the fit, more than max_overhead={self.share:g} ({self.spent:.1f} of "
            f"{elapsed:.1f} s): {self.spent_before_training:.1f} s before training, {rest:.1f} s for probes and logs, "
            f"{self.spent_on_sentences:.1f} s for validation sentences. Probes are always shown: use fewer or shorter "
            "ones, or every_n_validations=."
        )
