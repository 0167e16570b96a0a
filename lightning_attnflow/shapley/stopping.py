"""Stopping criteria of permutation sampling, combined with ``&`` (both) and ``|`` (either)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_confidence, check_integer, check_nonnegative, check_positive
from lightning_attnflow.errors import InputError

_MIN_SAMPLES = 10  # before errors are checked: fewer give no reliable variance
_GROWTH = 1.1  # of the sample between checks: every check adds to the chance of stopping too early


class Progress(Protocol):
    """State of the sampling as seen by a criterion."""

    n_evaluations: int

    @property
    def n_permutations(self) -> int: ...
    @property
    def permutations_per_sample(self) -> int: ...
    @property
    def max_evaluations_per_sample(self) -> int: ...

    @property
    def seconds(self) -> float: ...

    @property
    def values(self) -> NDArray[np.float64]: ...

    @property
    def stderr(self) -> NDArray[np.float64]: ...

    def interval(self, confidence: float = 0.95) -> tuple[NDArray[np.float64], NDArray[np.float64]]: ...


class Stop(ABC):
    """A stopping criterion. Combine two with ``a & b`` (both must be met) or ``a | b`` (either).

    A criterion on errors may never be met, for example `SignDecided` if a player has value 0. Combine it with a limit:
    ``IntervalBelow(0.01) | MaxEvaluations(100_000)``. With ``&``, sampling continues past the limit that is met first.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow.shapley import FunctionGame, permutation_shapley
        >>> game = FunctionGame(lambda coalitions: coalitions.sum(axis=1) ** 2.0, n_players=20)
        >>> stop = TopDecided(1) | MaxPermutations(50)  # equal players: the first is never met
        >>> permutation_shapley(game, stop=stop).n_permutations
        50
    """

    @abstractmethod
    def is_met(self, progress: Progress) -> bool:
        """Whether to stop now."""

    @abstractmethod
    def samples_until_next_check(self, progress: Progress) -> float:
        """Number of samples to draw before :meth:`is_met` is called again."""

    def max_samples(self, progress: Progress) -> float:  # noqa: ARG002
        """Maximum number of remaining samples without truncation; infinite if unknown."""
        return math.inf

    def error_if_unreachable(self, progress: Progress) -> InputError | None:  # noqa: ARG002
        """The error to raise if the criterion does not allow a single sample, else None."""
        return None

    def __and__(self, other: Stop) -> Stop:
        return _Both(self, other) if isinstance(other, Stop) else NotImplemented

    def __or__(self, other: Stop) -> Stop:
        return _Either(self, other) if isinstance(other, Stop) else NotImplemented


@dataclass(frozen=True)
class _Both(Stop):
    left: Stop
    right: Stop

    def is_met(self, progress: Progress) -> bool:
        return self.left.is_met(progress) and self.right.is_met(progress)

    def samples_until_next_check(self, progress: Progress) -> float:
        unmet = [stop for stop in (self.left, self.right) if not stop.is_met(progress)]
        return max((stop.samples_until_next_check(progress) for stop in unmet), default=0.0)

    def max_samples(self, progress: Progress) -> float:
        return max(self.left.max_samples(progress), self.right.max_samples(progress))

    def error_if_unreachable(self, progress: Progress) -> InputError | None:
        errors = [self.left.error_if_unreachable(progress), self.right.error_if_unreachable(progress)]
        return errors[0] if all(errors) else None


@dataclass(frozen=True)
class _Either(Stop):
    left: Stop
    right: Stop

    def is_met(self, progress: Progress) -> bool:
        return self.left.is_met(progress) or self.right.is_met(progress)

    def samples_until_next_check(self, progress: Progress) -> float:
        return min(self.left.samples_until_next_check(progress), self.right.samples_until_next_check(progress))

    def max_samples(self, progress: Progress) -> float:
        return min(self.left.max_samples(progress), self.right.max_samples(progress))

    def error_if_unreachable(self, progress: Progress) -> InputError | None:
        return self.left.error_if_unreachable(progress) or self.right.error_if_unreachable(progress)


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
