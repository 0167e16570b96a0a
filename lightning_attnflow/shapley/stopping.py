"""The interface of stopping criteria of permutation sampling, combined with ``&`` (both) and ``|`` (either)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError


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
        >>> from lightning_attnflow.shapley import FunctionGame, MaxPermutations, TopDecided, permutation_shapley
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
