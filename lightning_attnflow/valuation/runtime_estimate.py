"""Runtime estimate and progress of a Data Shapley run."""

from __future__ import annotations

import math
import time
import warnings

import numpy as np

from lightning_attnflow._progress import ProgressBar
from lightning_attnflow._words import counted
from lightning_attnflow.shapley import Game, PermutationEstimate, Stop

_LONG_RUN_SECONDS = 60.0  # longer runs of utilities that train one model at a time are announced by a warning
_LONG_PREFIX_RUN_SECONDS = 600.0  # the same for utilities with prefix_values
_PROBE_SECONDS = 0.5  # spent on the first prefixes of a permutation before a run
_SECONDS_BETWEEN_INTERVALS = 1.0  # intervals of thousands of players are too slow to compute after every sample


class RunProgress:
    """Reports the expected runtime, the completed permutations and the number of players whose sign is decided."""

    def __init__(self, bar: ProgressBar, stop: Stop, estimate: PermutationEstimate, n_jobs: int) -> None:
        self._bar, self._stop, self._estimate = bar, stop, estimate
        self._n_jobs, self._max_samples = n_jobs, stop.max_samples(estimate)
        self._is_printed, self._is_announced, self._last_intervals = False, False, 0.0

    def warn_if_long(self, game: Game, seconds_per_evaluation: float) -> None:
        """Warn before a run that will take long, given the duration of one evaluation."""
        n = self._estimate.max_evaluations_per_sample
        has_prefixes = hasattr(game, "prefix_values")
        limit = _LONG_PREFIX_RUN_SECONDS if has_prefixes else _LONG_RUN_SECONDS
        if self._seconds(seconds_per_evaluation * n) <= limit:  # prefixes cost less than single evaluations
            return
        if has_prefixes:
            per_permutation = permutation_seconds(game)
            if per_permutation is None:
                return  # the first sample tells
            seconds_per_evaluation = per_permutation * self._estimate.permutations_per_sample / n
        if self._seconds(seconds_per_evaluation * n) > limit:
            self._is_announced = True
            remedy = "Fewer permutations shorten the run." if has_prefixes else "Truncation may shorten the run."
            warnings.warn(f"{self._runtime(seconds_per_evaluation, n)} {remedy}", stacklevel=3)

    def update(self, seconds: float, n_evaluations: int) -> None:
        """Report a sample that has been added to the estimate, with its cost."""
        if not self._is_printed and n_evaluations:
            self._is_printed = True
            estimate = self._runtime(seconds / n_evaluations, n_evaluations)
            self._bar.print(estimate)
            if not self._is_announced and _LONG_PREFIX_RUN_SECONDS < self._seconds(seconds) < math.inf:
                warnings.warn(f"{estimate} Fewer permutations shorten the run.", stacklevel=3)
        done = self._estimate.n_samples
        description = None
        if time.monotonic() - self._last_intervals > _SECONDS_BETWEEN_INTERVALS and done > 1:
            self._last_intervals = time.monotonic()
            description = decided_signs(self._estimate)
        total = total_permutations(self._stop, self._estimate)
        self._bar.update(self._estimate.n_permutations, total=total, description=description)

    def _seconds(self, per_sample: float) -> float:
        """Expected duration of the run."""
        return self._max_samples * per_sample / max(1, self._n_jobs)

    def _runtime(self, seconds: float, n_evaluations: int) -> str:
        return runtime_text(
            seconds,
            n_evaluations,
            n_samples=self._max_samples,
            permutations_per_sample=self._estimate.permutations_per_sample,
            n_jobs=self._n_jobs,
        )


def permutation_seconds(game: Game) -> float | None:
    """Expected seconds of one permutation, or None if the game has no ``prefix_chunks`` or they fail.

    The prefixes of a permutation are evaluated for half a second. The seconds of a prefix of k players are extrapolated
    by a power of k, fitted to the times of the last quarters; a power above 2 or below 0 would be noise.
    """
    prefix_chunks = getattr(game, "prefix_chunks", None)
    if prefix_chunks is None:
        return None
    n, done = game.n_players, 0
    start = time.perf_counter()
    sizes, times = [0.0], [0.0]
    try:
        for chunk in prefix_chunks(np.random.default_rng(0).permutation(n), range(1, n + 1)):
            done += len(chunk)
            sizes.append(done)
            times.append(time.perf_counter() - start)
            if times[-1] > _PROBE_SECONDS:
                break
    except Exception:  # the run raises it, with its permutation
        return None
    if done >= n or not done:
        return times[-1]
    quarter, half = np.interp([done / 4, done / 2], sizes, times)
    early, late = (half - quarter) / (done / 4), (times[-1] - half) / (done / 2)  # seconds of a prefix
    power = float(np.clip(np.log2(late / early), 0, 2)) if early > 0 < late else 0.0
    growth = ((n / done) ** (power + 1) - 1) * done * (4 / 3) ** power / (power + 1)  # late: at three quarters of done
    return float(times[-1] + late * growth)


def total_permutations(stop: Stop, estimate: PermutationEstimate) -> float | None:
    """Maximum number of permutations of a run or, if unlimited, the number at which the criterion is evaluated next."""
    remaining = stop.max_samples(estimate)
    if math.isinf(remaining):
        remaining = stop.samples_until_next_check(estimate)
    total = (estimate.n_samples + max(0.0, remaining)) * estimate.permutations_per_sample
    return None if math.isinf(total) else total


def runtime_text(
    seconds: float, n_evaluations: int, *, n_samples: float, permutations_per_sample: int, n_jobs: int
) -> str:
    """Describe the expected runtime.

    Example:
        >>> runtime_text(0.0002, 600, n_samples=500, permutations_per_sample=2, n_jobs=1)
        'One evaluation takes 0.2 ms, one sample (2 permutations) 120.0 ms, at most 500 samples with 1 worker 60.0 s.'
    """
    workers = counted(n_jobs, "worker")
    permutations = counted(permutations_per_sample, "permutation")
    text = f"One evaluation takes {duration(seconds)}, one sample ({permutations}) {duration(seconds * n_evaluations)}"
    if math.isinf(n_samples):
        return f"{text}; the number of samples is not limited."
    total = duration(n_samples * seconds * n_evaluations / max(1, n_jobs))
    return f"{text}, at most {counted(round(n_samples), 'sample')} with {workers} {total}."


def decided_signs(estimate: PermutationEstimate) -> str:
    """Count the players whose 95% interval excludes 0, as text."""
    low, high = estimate.interval()
    helpful, harmful = int((low > 0).sum()), int((high < 0).sum())
    undecided = estimate.n_players - helpful - harmful
    return f"{helpful} helpful, {harmful} harmful, {undecided} undecided"


def duration(seconds: float) -> str:
    """Format a duration.

    Example:
        >>> [duration(seconds) for seconds in (0.00018, 0.25, 90, 600, 10_000)]
        ['0.2 ms', '250.0 ms', '90.0 s', '10 min', '2.8 h']
    """
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
