"""The result of every Shapley method: values, standard errors and intervals."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_confidence, check_integer
from lightning_attnflow._figures import value_bars
from lightning_attnflow._results import Arrays, SavedResult, to_dataframe
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.intervals import (
    MIN_IDENTICAL_SAMPLES,
    is_rounding,
    permutation_interval,
    student_interval,
)
from lightning_attnflow.shapley.statistics import SampleStatistics
from lightning_attnflow.shapley.truncation import Truncation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class ShapleyResult(SavedResult):
    """Values of the players of one game, with standard errors and the state needed to merge runs.

    Args:
        values: float (n,), the Shapley values (or Banzhaf values, see ``method``).
        stderr: float (n,), standard errors; 0 if exact, infinite if unknown.
        counts: int (n,), number of marginals or payoffs of which each value is the mean.
        v_empty: payoff of the empty coalition.
        v_full: payoff of all players.
        method: name of the method, such as ``permutation_shapley(antithetic)``.
        seed: the seed, or the seeds of a merged result; None if nothing was drawn.
        n_evaluations: number of evaluated coalitions.
        n_permutations: number of sampled permutations, 0 for other methods.
        n_truncated: number of truncated permutations.
        degrees: degrees of freedom of the standard errors; infinite for the normal distribution.
        statistics: of the independent samples of a permutation estimate, else None.
        bounds: proven bounds (low (n,), high (n,)) of every marginal, or None.
        truncation: of the permutations, or None.
        groups: partition of the players whose parts are adjacent in every permutation, or None; if there are as many
            groups as values, the values are those of the groups.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, exact_shapley
        >>> result = exact_shapley(FunctionGame(lambda coalitions: coalitions.sum(axis=1) ** 2.0, n_players=2))
        >>> result.values.tolist(), result.efficiency_gap
        ([2.0, 2.0], 0.0)
    """

    _format_version: ClassVar[int] = 2

    values: FloatArray
    stderr: FloatArray
    counts: NDArray[np.int64]
    v_empty: float
    v_full: float
    method: str
    seed: int | tuple[int, ...] | None = None
    n_evaluations: int = 0
    n_permutations: int = 0
    n_truncated: int = 0
    degrees: float = math.inf
    statistics: SampleStatistics | None = field(default=None, repr=False)
    bounds: tuple[FloatArray, FloatArray] | None = field(default=None, repr=False)
    truncation: Truncation | None = None
    groups: tuple[tuple[int, ...], ...] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        shapes = {np.shape(self.values), np.shape(self.stderr), np.shape(self.counts)}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise InputError("values, stderr and counts", got=f"shapes {sorted(shapes)}", expected="(n,) each")
        for name, kind in (("values", np.float64), ("stderr", np.float64), ("counts", np.int64)):
            array = np.array(getattr(self, name), dtype=kind)
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def n_players(self) -> int:
        """Number of players."""
        return len(self.values)

    @property
    def efficiency_gap(self) -> float:
        """``v(N) - v(empty) - sum(values)``: nonzero after truncation and for Banzhaf values."""
        return self.v_full - self.v_empty - float(self.values.sum())

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all merged runs; empty if nothing was drawn."""
        if self.seed is None:
            return ()
        return (self.seed,) if isinstance(self.seed, int) else self.seed

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Two-sided confidence interval of each value.

        Args:
            confidence: nominal coverage, between 0 and 1.

        Returns:
            low (n,) and high (n,). They are infinite (or the bounds of the marginals) if all of fewer than 60 samples
            are equal, because rare marginals may not have been observed.

        Raises:
            InputError: ``confidence`` is not between 0 and 1.
        """
        if self.statistics is None:
            return student_interval(self.values, self.stderr, self.degrees, confidence)
        if self.n_players > 1 and self.statistics.count < MIN_IDENTICAL_SAMPLES and self._is_constant(self.statistics):
            check_confidence(confidence)
            return self.bounds or (np.full(self.n_players, -np.inf), np.full(self.n_players, np.inf))
        return permutation_interval(self.statistics, confidence, bounds=self.bounds)

    def _is_constant(self, samples: SampleStatistics) -> bool:
        extremes = np.concatenate([samples.low, samples.high, [self.v_empty, self.v_full]])
        return is_rounding(float((samples.high - samples.low).max()), float(np.abs(extremes).max()))

    def __add__(self, other: ShapleyResult) -> ShapleyResult:
        """Merge two independent runs of one game: different seeds, same method, options and payoffs.

        Raises:
            InputError: the results cannot be merged. Quadrature results never can: their errors are not independent.
        """
        if not isinstance(other, ShapleyResult):
            return NotImplemented
        _check_mergeable(self, other)
        statistics: SampleStatistics | None
        if self.statistics is not None and other.statistics is not None:
            statistics = self.statistics + other.statistics
            values, stderr, degrees = statistics.mean, statistics.stderr, math.inf
        else:
            statistics = None
            share = self.n_evaluations / (self.n_evaluations + other.n_evaluations)
            values = share * self.values + (1 - share) * other.values
            stderr = np.hypot(share * self.stderr, (1 - share) * other.stderr)
            degrees = self.degrees + other.degrees
        return replace(
            self,
            values=values,
            stderr=stderr,
            counts=self.counts + other.counts,
            seed=self.seeds + other.seeds,
            n_evaluations=self.n_evaluations + other.n_evaluations,
            n_permutations=self.n_permutations + other.n_permutations,
            n_truncated=self.n_truncated + other.n_truncated,
            degrees=degrees,
            statistics=statistics,
        )

    def _to_parts(self) -> tuple[Arrays, dict[str, Any]]:
        arrays, metadata = super()._to_parts()
        del metadata["statistics"], metadata["bounds"]
        metadata["truncation"] = None if self.truncation is None else asdict(self.truncation)
        if self.statistics is not None:
            arrays |= {f"statistics_{name}": array for name, array in self.statistics.to_arrays().items()}
        if self.bounds is not None:
            arrays["bounds"] = np.stack(self.bounds)
        return arrays, metadata

    @classmethod
    def _from_parts(cls, arrays: Arrays, metadata: dict[str, Any]) -> Self:
        truncation = metadata["truncation"]
        composed = {
            "truncation": None if truncation is None else Truncation(**truncation),
            "statistics": SampleStatistics.from_arrays(arrays, "statistics_"),
            "bounds": tuple(arrays["bounds"]) if "bounds" in arrays else None,
        }
        return super()._from_parts({name: arrays[name] for name in ("values", "stderr", "counts")}, metadata | composed)

    def to_pandas(self, *, confidence: float = 0.95) -> Any:
        """A DataFrame with the columns value, stderr, low, high and count, one row per player.

        Args:
            confidence: of the intervals low to high.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        low, high = self.interval(confidence)
        return to_dataframe(
            {"value": self.values, "stderr": self.stderr, "low": low, "high": high, "count": self.counts}
        )

    def plot(
        self,
        *,
        labels: Sequence[str] | None = None,
        max_players: int = 30,
        confidence: float = 0.95,
        ax: Axes | None = None,
    ) -> Axes:
        """Draw the values as horizontal bars with confidence intervals.

        Args:
            labels: n names; default: the indices of the players.
            max_players: if there are more players, only those with the largest ``|values|`` are drawn.
            confidence: of the intervals.
            ax: axes to draw on; default: those of a new figure.

        Raises:
            InputError: the number of labels is not the number of players.
            MissingDependencyError: matplotlib is not installed.
        """
        n = self.n_players
        names = [str(player) for player in range(n)] if labels is None else [str(label) for label in labels]
        if len(names) != n:
            raise InputError("labels", got=counted(len(names), "label"), expected=f"{n}, one per player")
        check_integer("max_players", max_players)
        low, high = self.interval(confidence)
        shown = np.arange(n) if n <= max_players else np.argsort(-np.abs(self.values), kind="stable")[:max_players]
        return value_bars(
            self.values[shown],
            labels=[names[player] for player in shown],
            low=low[shown],
            high=high[shown],
            title=f"{len(shown)} of {counted(n, 'player')}" if len(shown) < n else "",
            ax=ax,
        )


def _check_mergeable(left: ShapleyResult, right: ShapleyResult) -> None:
    common = set(left.seeds) & set(right.seeds)
    problem: str | None = None
    remedy: str | None = None
    if left.seed is None or right.seed is None:
        problem = "a result without a seed"
    elif common:
        problem = f"the same seed twice: {sorted(common)}"
        remedy = "Run the second with another seed."
    elif left.n_players != right.n_players:
        problem = f"{left.n_players} and {right.n_players} players"
    elif left.method != right.method:
        problem = f"methods {left.method!r} and {right.method!r}"
    elif left.method == "quadrature_shapley":
        problem = "two results of quadrature, whose errors are not independent"
        remedy = "Run it once with the sum of the budgets."
    elif _truncation(left) != _truncation(right):
        problem = f"truncation {_truncation(left)} and {_truncation(right)}"
    elif _parts(left) != _parts(right):
        problem = f"groups {left.groups} and {right.groups}"
    elif not np.allclose((left.v_empty, left.v_full), (right.v_empty, right.v_full), rtol=1e-9, atol=1e-12):
        problem = f"payoffs (empty, all) {left.v_empty, left.v_full} and {right.v_empty, right.v_full}"
    if problem is not None:
        raise InputError(
            "results to merge",
            got=problem,
            expected="independent runs of one method on one game with different seeds",
            remedy=remedy,
        )


def _truncation(result: ShapleyResult) -> object:
    """The truncation; "unknown" if permutations were truncated without a record of how."""
    return result.truncation or ("unknown" if result.n_truncated else None)


def _parts(result: ShapleyResult) -> Collection[frozenset[int]]:
    """The groups, ordered if the values are those of the groups."""
    parts = [frozenset(group) for group in result.groups or ()]
    return parts if len(parts) == result.n_players else set(parts)
