"""Stopping criteria: limits on permutations, evaluations and time, and on the errors of the values."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from lightning_attnflow._checks import check_confidence, check_integer, check_nonnegative, check_positive
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.stopping import Progress, Stop

_MIN_SAMPLES = 10  # before errors are checked: fewer give no reliable variance
_GROWTH = 1.1  # of the sample between checks: every check adds to the chance of stopping too early


class _CountLimit(Stop):
    """A limit whose distance in samples is known."""

    limit: int

    def __post_init__(self) -> None:
        check_integer(type(self).__name__, self.limit)

    def max_samples(self, progress: Progress) -> float:
        return self.samples_until_next_check(progress)


@dataclass(frozen=True)
class MaxPermutations(_CountLimit):
    """Stop after this many permutations; an antithetic pair counts as two.

    Args:
        limit: number of permutations, >= 1 (antithetic sampling needs 2).

    Raises:
        InputError: a limit that is no integer >= 1; from the sampling, a limit below one sample.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, permutation_shapley
        >>> voting = FunctionGame(lambda coalitions: (coalitions @ [3, 2, 2, 1] >= 5) * 1.0, n_players=4)
        >>> permutation_shapley(voting, stop=MaxPermutations(25)).n_permutations  # in antithetic pairs
        24
    """

    limit: int

    def is_met(self, progress: Progress) -> bool:
        return progress.n_permutations + progress.permutations_per_sample > self.limit

    def samples_until_next_check(self, progress: Progress) -> float:
        return (self.limit - progress.n_permutations) // progress.permutations_per_sample

    def error_if_unreachable(self, progress: Progress) -> InputError | None:
        return _below_minimum("MaxPermutations", self.limit, progress.permutations_per_sample)


@dataclass(frozen=True)
class MaxEvaluations(_CountLimit):
    """Stop before this many evaluations of the game, including v(empty) and v(N), are exceeded.

    Args:
        limit: number of evaluations, at least those of one sample.

    Raises:
        InputError: a limit that is no integer >= 1; from the sampling, a limit below one sample.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, permutation_shapley
        >>> voting = FunctionGame(lambda coalitions: (coalitions @ [3, 2, 2, 1] >= 5) * 1.0, n_players=4)
        >>> result = permutation_shapley(voting, stop=MaxEvaluations(100))
        >>> result.n_evaluations, result.n_permutations
        (98, 32)
    """

    limit: int

    def is_met(self, progress: Progress) -> bool:
        return progress.n_evaluations + progress.max_evaluations_per_sample > self.limit

    def samples_until_next_check(self, progress: Progress) -> float:
        return (self.limit - progress.n_evaluations) // max(1, progress.max_evaluations_per_sample)

    def error_if_unreachable(self, progress: Progress) -> InputError | None:
        return _below_minimum(
            "MaxEvaluations", self.limit, progress.n_evaluations + progress.max_evaluations_per_sample
        )


@dataclass(frozen=True)
class MaxSeconds(Stop):
    """Stop after this time; at least one sample is drawn, and a started sample is completed.

    Args:
        limit: seconds, > 0.

    Raises:
        InputError: a limit that is no number > 0.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, permutation_shapley
        >>> voting = FunctionGame(lambda coalitions: (coalitions @ [3, 2, 2, 1] >= 5) * 1.0, n_players=4)
        >>> result = permutation_shapley(voting, stop=StandardErrorBelow(0.02) | MaxSeconds(60))
        >>> round(float(result.stderr.max()), 4)
        0.0193
    """

    limit: float

    def __post_init__(self) -> None:
        check_positive("MaxSeconds", self.limit)

    def is_met(self, progress: Progress) -> bool:
        return progress.n_permutations > 0 and progress.seconds >= self.limit

    def samples_until_next_check(self, progress: Progress) -> float:
        if progress.n_permutations == 0:
            return 1
        seconds_per_sample = progress.seconds * progress.permutations_per_sample / progress.n_permutations
        # Half of the estimated number, because the rate is uncertain and an additional check is cheap.
        return max(1, math.floor((self.limit - progress.seconds) / (2 * max(seconds_per_sample, 1e-9))))


class _ErrorCriterion(Stop):
    """A criterion on errors, checked from ten samples on and each time the sample has grown by a tenth."""

    def is_met(self, progress: Progress) -> bool:
        n_samples = progress.n_permutations // progress.permutations_per_sample
        return n_samples >= _MIN_SAMPLES and self._is_met(progress)

    def samples_until_next_check(self, progress: Progress) -> float:
        n_samples = progress.n_permutations // progress.permutations_per_sample
        return max(1, max(_MIN_SAMPLES, math.ceil(n_samples * _GROWTH)) - n_samples)

    @abstractmethod
    def _is_met(self, progress: Progress) -> bool: ...


@dataclass(frozen=True)
class StandardErrorBelow(_ErrorCriterion):
    """Stop when the standard error of every player is below ``limit``.

    A player whose sampled marginals are all equal has standard error 0 even if rare marginals were not drawn yet;
    `IntervalBelow` takes this into account. If the marginals of all players are constant and the game does not bound
    them, at least 60 samples are drawn.

    Args:
        limit: in units of the payoff, > 0.

    Raises:
        InputError: a limit that is no number > 0.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, permutation_shapley
        >>> voting = FunctionGame(lambda coalitions: (coalitions @ [3, 2, 2, 1] >= 5) * 1.0, n_players=4)
        >>> result = permutation_shapley(voting, stop=StandardErrorBelow(0.02))
        >>> result.stderr.round(4).tolist(), result.n_permutations
        ([0.0193, 0.0155, 0.0159, 0.0081], 1088)
    """

    limit: float

    def __post_init__(self) -> None:
        check_positive("StandardErrorBelow", self.limit)

    def _is_met(self, progress: Progress) -> bool:
        return bool((progress.stderr < self.limit).all() and np.isfinite(progress.interval()).all())


@dataclass(frozen=True)
class IntervalBelow(_ErrorCriterion):
    """Stop when the half-width of every player's confidence interval is below ``limit``.

    Args:
        limit: in units of the payoff, > 0.
        confidence: of the intervals.

    Raises:
        InputError: a limit that is no number > 0, or a confidence outside (0, 1).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, permutation_shapley
        >>> voting = FunctionGame(lambda coalitions: (coalitions @ [3, 2, 2, 1] >= 5) * 1.0, n_players=4)
        >>> low, high = permutation_shapley(voting, stop=IntervalBelow(0.05)).interval()
        >>> ((high - low) / 2).round(4).tolist()
        [0.0486, 0.0404, 0.0411, 0.0211]
    """

    limit: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_positive("IntervalBelow", self.limit)
        check_confidence(self.confidence)

    def _is_met(self, progress: Progress) -> bool:
        low, high = progress.interval(self.confidence)
        return bool(((high - low) / 2 < self.limit).all())


@dataclass(frozen=True)
class SignDecided(_ErrorCriterion):
    """Stop when no player's confidence interval contains 0.

    Args:
        tolerance: intervals inside ``[-tolerance, tolerance]`` are accepted too. With 0, a null player prevents the
            criterion from being met.
        confidence: of the intervals.

    Raises:
        InputError: a negative tolerance, or a confidence outside (0, 1).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, permutation_shapley
        >>> voting = FunctionGame(lambda coalitions: (coalitions @ [3, 2, 2, 1] >= 5) * 1.0, n_players=4)
        >>> low, high = permutation_shapley(voting, stop=SignDecided()).interval()
        >>> low.round(4).tolist()
        [0.3923, 0.0876, 0.1609, 0.0017]
    """

    tolerance: float = 0.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_nonnegative("SignDecided", self.tolerance)
        check_confidence(self.confidence)

    def _is_met(self, progress: Progress) -> bool:
        low, high = progress.interval(self.confidence)
        negligible = (low >= -self.tolerance) & (high <= self.tolerance) & (self.tolerance > 0)
        return bool(((low > 0) | (high < 0) | negligible).all())


@dataclass(frozen=True)
class TopDecided(_ErrorCriterion):
    """Stop when the confidence intervals of the ``k`` largest values lie above those of all other players.

    Args:
        k: number of players, >= 1.
        confidence: of the intervals.

    Raises:
        InputError: a ``k`` that is no integer >= 1, or a confidence outside (0, 1).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, permutation_shapley
        >>> voting = FunctionGame(lambda coalitions: (coalitions @ [3, 2, 2, 1] >= 5) * 1.0, n_players=4)
        >>> low, high = permutation_shapley(voting, stop=TopDecided(1)).interval()
        >>> low[:1].round(4).tolist(), high[1:].round(4).tolist()
        ([0.4294], [0.2997, 0.3644, 0.1034])
    """

    k: int
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_integer("TopDecided", self.k)
        check_confidence(self.confidence)

    def _is_met(self, progress: Progress) -> bool:
        low, high = progress.interval(self.confidence)
        ranking = np.argsort(-progress.values, kind="stable")
        top, rest = ranking[: self.k], ranking[self.k :]
        return len(rest) == 0 or bool(low[top].min() > high[rest].max())


def _below_minimum(name: str, limit: int, minimum: int) -> InputError | None:
    return None if limit >= minimum else InputError(name, got=limit, expected=f"at least {minimum}, for one sample")
