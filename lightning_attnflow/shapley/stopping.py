"""When to stop drawing orders: criteria that are joined with ``&`` (both) and ``|`` (either)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_confidence, is_integer
from lightning_attnflow.errors import InputError

_FIRST_LOOK = 10  # units before a criterion looks at errors: fewer tell nothing about a variance
_GROWTH = 1.1  # from look to look the sample grows by a tenth: every look is one more chance to stop by luck


class Progress(Protocol):
    """What a criterion may look at while orders are drawn."""

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
    """A stopping criterion. Join two with ``a & b`` (both must be met) or ``a | b`` (either).

    A criterion that looks at errors may never be met, as in a game where a null player's sign is asked for. Join it
    with a bound: ``IntervalBelow(0.01) | MaxEvaluations(100_000)``. With ``&`` sampling goes on past the criterion that
    is met first, a limit on orders or evaluations too.
    """

    @abstractmethod
    def is_met(self, progress: Progress) -> bool:
        """Whether to stop now."""

    @abstractmethod
    def room(self, progress: Progress) -> float:
        """How many more units may be drawn before :meth:`is_met` has to be asked again; infinity if it need not."""

    def max_samples(self, progress: Progress) -> float:  # noqa: ARG002
        """How many more units the run takes at most, if none is cut short; infinite if nobody knows."""
        return math.inf

    def minimum_problem(self, progress: Progress) -> InputError | None:  # noqa: ARG002
        """The error to raise if the criterion does not allow a single unit, else None."""
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

    def room(self, progress: Progress) -> float:
        rooms = [stop.room(progress) for stop in (self.left, self.right) if not stop.is_met(progress)]
        return max(rooms, default=0.0)

    def max_samples(self, progress: Progress) -> float:
        return max(self.left.max_samples(progress), self.right.max_samples(progress))

    def minimum_problem(self, progress: Progress) -> InputError | None:
        problems = [self.left.minimum_problem(progress), self.right.minimum_problem(progress)]
        return problems[0] if all(problems) else None


@dataclass(frozen=True)
class _Either(Stop):
    left: Stop
    right: Stop

    def is_met(self, progress: Progress) -> bool:
        return self.left.is_met(progress) or self.right.is_met(progress)

    def room(self, progress: Progress) -> float:
        return min(self.left.room(progress), self.right.room(progress))

    def max_samples(self, progress: Progress) -> float:
        return min(self.left.max_samples(progress), self.right.max_samples(progress))

    def minimum_problem(self, progress: Progress) -> InputError | None:
        return self.left.minimum_problem(progress) or self.right.minimum_problem(progress)


@dataclass(frozen=True)
class MaxPermutations(Stop):
    """At most this many orders; an order and its reverse are two.

    Args:
        limit: number of orders, >= 1 (antithetic sampling needs 2).
    """

    limit: int

    def __post_init__(self) -> None:
        _check_count("MaxPermutations", self.limit)

    def is_met(self, progress: Progress) -> bool:
        return progress.n_permutations + progress.permutations_per_sample > self.limit

    def room(self, progress: Progress) -> float:
        return (self.limit - progress.n_permutations) // progress.permutations_per_sample

    def max_samples(self, progress: Progress) -> float:
        return self.room(progress)

    def minimum_problem(self, progress: Progress) -> InputError | None:
        return _below_minimum("MaxPermutations", self.limit, progress.permutations_per_sample)


@dataclass(frozen=True)
class MaxEvaluations(Stop):
    """At most this many evaluations of the game, v(empty) and v(N) among them.

    Args:
        limit: number of evaluations; at least what one unit costs.
    """

    limit: int

    def __post_init__(self) -> None:
        _check_count("MaxEvaluations", self.limit)

    def is_met(self, progress: Progress) -> bool:
        return progress.n_evaluations + progress.max_evaluations_per_sample > self.limit

    def room(self, progress: Progress) -> float:
        return (self.limit - progress.n_evaluations) // max(1, progress.max_evaluations_per_sample)

    def max_samples(self, progress: Progress) -> float:
        return self.room(progress)

    def minimum_problem(self, progress: Progress) -> InputError | None:
        return _below_minimum(
            "MaxEvaluations", self.limit, progress.n_evaluations + progress.max_evaluations_per_sample
        )


@dataclass(frozen=True)
class MaxSeconds(Stop):
    """Stop once this much time has gone by; the unit under way is finished first, and one unit is always drawn.

    Args:
        limit: seconds, > 0.
    """

    limit: float

    def __post_init__(self) -> None:
        _check_positive("MaxSeconds", self.limit)

    def is_met(self, progress: Progress) -> bool:
        return progress.n_permutations > 0 and progress.seconds >= self.limit

    def room(self, progress: Progress) -> float:
        if progress.n_permutations == 0:
            return 1
        seconds_per_unit = progress.seconds * progress.permutations_per_sample / progress.n_permutations
        # Half of what would fit: the rate is a guess, and coming back early costs nothing.
        return max(1, math.floor((self.limit - progress.seconds) / (2 * max(seconds_per_unit, 1e-9))))


class _LooksAtErrors(Stop):
    """A criterion on errors: not met before ten units.

    `room` has sampling ask again each time the sample has grown by a tenth.
    """

    def is_met(self, progress: Progress) -> bool:
        units = progress.n_permutations // progress.permutations_per_sample
        return units >= _FIRST_LOOK and self._is_met(progress)

    def room(self, progress: Progress) -> float:
        units = progress.n_permutations // progress.permutations_per_sample
        return max(1, max(_FIRST_LOOK, math.ceil(units * _GROWTH)) - units)

    @abstractmethod
    def _is_met(self, progress: Progress) -> bool: ...


@dataclass(frozen=True)
class StandardErrorBelow(_LooksAtErrors):
    """Stop once the standard error of every player is below ``limit``.

    A player whose marginals were all alike so far has standard error 0, also if what matters was not drawn yet;
    ``IntervalBelow`` guards against that. Where no marginal of any player differed, and the game does not bound them,
    sixty units are waited for.

    Args:
        limit: in units of the payoff, > 0.
    """

    limit: float

    def __post_init__(self) -> None:
        _check_positive("StandardErrorBelow", self.limit)

    def _is_met(self, progress: Progress) -> bool:
        return bool((progress.stderr < self.limit).all() and np.isfinite(progress.interval()).all())


@dataclass(frozen=True)
class IntervalBelow(_LooksAtErrors):
    """Stop once half the width of every player's interval is below ``limit``.

    Args:
        limit: in units of the payoff, > 0.
        confidence: of the intervals.
    """

    limit: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _check_positive("IntervalBelow", self.limit)
        check_confidence(self.confidence)

    def _is_met(self, progress: Progress) -> bool:
        low, high = progress.interval(self.confidence)
        return bool(((high - low) / 2 < self.limit).all())


@dataclass(frozen=True)
class SignDecided(_LooksAtErrors):
    """Stop once no player's interval holds 0.

    Args:
        tolerance: an interval inside ``[-tolerance, tolerance]`` counts as decided too: the value is negligible.
            With 0, a null player keeps the criterion from ever being met.
        confidence: of the intervals.
    """

    tolerance: float = 0.0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.tolerance != 0:
            _check_positive("SignDecided", self.tolerance)
        check_confidence(self.confidence)

    def _is_met(self, progress: Progress) -> bool:
        low, high = progress.interval(self.confidence)
        negligible = (low >= -self.tolerance) & (high <= self.tolerance) & (self.tolerance > 0)
        return bool(((low > 0) | (high < 0) | negligible).all())


@dataclass(frozen=True)
class TopDecided(_LooksAtErrors):
    """Stop once the intervals of the ``k`` largest values lie above those of all the others.

    Args:
        k: how many players, >= 1; with k >= n there is nothing to decide.
        confidence: of the intervals.
    """

    k: int
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _check_count("TopDecided", self.k)
        check_confidence(self.confidence)

    def _is_met(self, progress: Progress) -> bool:
        low, high = progress.interval(self.confidence)
        order = np.argsort(-progress.values, kind="stable")
        top, rest = order[: self.k], order[self.k :]
        return len(rest) == 0 or bool(low[top].min() > high[rest].max())


def _check_count(name: str, value: object) -> None:
    if not is_integer(value) or value < 1:
        raise InputError(name, got=repr(value), expected="an integer >= 1", remedy=f"Pass {name}(100).")


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < value < math.inf:
        raise InputError(name, got=repr(value), expected="a number > 0", remedy=f"Pass {name}(0.01).")


def _below_minimum(name: str, limit: int, minimum: int) -> InputError | None:
    if limit >= minimum:
        return None
    return InputError(
        name, got=limit, expected=f"at least {minimum}, what one unit takes", remedy=f"Pass {name}({minimum}) or more."
    )
