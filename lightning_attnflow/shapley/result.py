"""The result of every Shapley method: values, standard errors, intervals and how they came about."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_confidence
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.intervals import (
    MIN_IDENTICAL_SAMPLES,
    is_rounding,
    permutation_interval,
    student_interval,
)
from lightning_attnflow.shapley.statistics import SampleStatistics
from lightning_attnflow.shapley.truncation import Truncation

FloatArray = NDArray[np.float64]
_FORMAT = 1  # of the file; a reader refuses another
_MOMENTS = ("mean", "m2", "low", "high")


@dataclass(frozen=True, eq=False)
class ShapleyResult:
    """Values of the players of one game, with what is needed to judge and to continue the estimate.

    Args:
        values: float (n,), the Shapley values (or Banzhaf values, see ``method``).
        stderr: float (n,), standard errors; 0 where exact, infinite where unknown.
        counts: int (n,), how many marginals or payoffs each value is the mean of.
        v_empty: payoff of the empty coalition.
        v_full: payoff of all players.
        method: the name of the method, as in ``permutation_shapley(antithetic)``.
        seed: the seed or, of a merged result, the seeds; None if nothing was drawn.
        n_evaluations: coalitions the game was asked for.
        n_permutations: orders that were walked, 0 for other methods.
        n_truncated: orders among them that a truncation cut short.
        degrees: of freedom of the standard errors; infinite where they are taken as known.
        statistics: of the independent units of a permutation estimate, else None.
        bounds: (low (n,), high (n,)) that every marginal is proven to lie in, or None.
        truncation: what cut orders short, or None.
        groups: the partition whose parts the orders kept together, or None; where as many as values, they are theirs.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, exact_shapley
        >>> result = exact_shapley(FunctionGame(lambda coalitions: coalitions.sum(axis=1) ** 2.0, n_players=2))
        >>> result.values.tolist(), result.efficiency_gap
        ([2.0, 2.0], 0.0)
    """

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
            raise InputError(
                "values, stderr and counts", got=f"shapes {sorted(shapes)}", expected="(n,) each", remedy="Align them."
            )
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
        """``v(N) - v(empty) - sum(values)``: 0 up to rounding unless orders were cut or the rule is not efficient."""
        return self.v_full - self.v_empty - float(self.values.sum())

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the runs in this result; empty if nothing was drawn."""
        if self.seed is None:
            return ()
        return (self.seed,) if isinstance(self.seed, int) else self.seed

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Two-sided confidence interval of each value.

        Args:
            confidence: nominal coverage, between 0 and 1.

        Returns:
            low (n,) and high (n,); infinite, or the bounds of the marginals, while fewer than sixty units were drawn
            and none differed from another: orders in which something happens may be rare.

        Raises:
            InputError: if ``confidence`` is not between 0 and 1.
        """
        if self.statistics is None:
            return student_interval(self.values, self.stderr, self.degrees, confidence)
        if self.n_players > 1 and self.statistics.count < MIN_IDENTICAL_SAMPLES and self._is_all_alike(self.statistics):
            check_confidence(confidence)
            return self.bounds or (np.full(self.n_players, -np.inf), np.full(self.n_players, np.inf))
        return permutation_interval(self.statistics, confidence, bounds=self.bounds)

    def _is_all_alike(self, units: SampleStatistics) -> bool:
        extremes = np.concatenate([units.low, units.high, [self.v_empty, self.v_full]])
        return is_rounding(float((units.high - units.low).max()), float(np.abs(extremes).max()))

    def __add__(self, other: ShapleyResult) -> ShapleyResult:
        """Merge two independent runs of one game: other seeds, same method and options, same ends.

        Raises:
            InputError: what does not merge, results of quadrature among it: they err alike, towards what they assume.
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

    def save(self, path: str | Path) -> None:
        """Write the result as a NumPy ``.npz`` without pickle.

        Args:
            path: file to write; the suffix ``.npz`` is added if it is missing.
        """
        facts = {name: getattr(self, name) for name in ("v_empty", "v_full", "method", "seed", "degrees", "groups")}
        facts |= {name: int(getattr(self, name)) for name in ("n_evaluations", "n_permutations", "n_truncated")}
        facts |= {"format": _FORMAT, "units": None if self.statistics is None else self.statistics.count}
        facts["truncation"] = None if self.truncation is None else asdict(self.truncation)
        arrays = {"values": self.values, "stderr": self.stderr, "counts": self.counts}
        if self.statistics is not None:
            arrays |= {f"statistics_{name}": getattr(self.statistics, name) for name in _MOMENTS}
        if self.bounds is not None:
            arrays |= {"bounds": np.stack(self.bounds)}
        np.savez(path, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)

    @classmethod
    def load(cls, path: str | Path) -> ShapleyResult:
        """Read what :meth:`save` wrote.

        Args:
            path: the file; as for :meth:`save`, the suffix ``.npz`` may be missing.

        Raises:
            FileNotFoundError: if there is no such file.
            InputError: if the file is not a saved result, or one of a later version.
        """
        arrays: dict[str, NDArray[Any]] = {}
        if not Path(path).exists() and Path(f"{path}.npz").exists():
            path = f"{path}.npz"
        if zipfile.is_zipfile(path) or not Path(path).exists():
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        facts = json.loads(str(arrays["facts"])) if "facts" in arrays else {}
        if facts.pop("format", None) != _FORMAT:
            raise InputError(
                "file",
                got=str(path),
                expected=f"a ShapleyResult of format {_FORMAT}",
                remedy="Save it with this version.",
            )
        units = facts.pop("units")
        statistics = None
        if units is not None:
            statistics = SampleStatistics(units, *(arrays[f"statistics_{name}"] for name in _MOMENTS))
        if isinstance(facts["seed"], list):
            facts["seed"] = tuple(facts["seed"])
        if facts.get("groups") is not None:
            facts["groups"] = tuple(tuple(group) for group in facts["groups"])
        if facts.get("truncation") is not None:
            facts["truncation"] = Truncation(**facts["truncation"])
        bounds = (arrays["bounds"][0], arrays["bounds"][1]) if "bounds" in arrays else None
        return cls(
            values=arrays["values"],
            stderr=arrays["stderr"],
            counts=arrays["counts"],
            statistics=statistics,
            bounds=bounds,
            **facts,
        )


def _check_mergeable(left: ShapleyResult, right: ShapleyResult) -> None:
    common = set(left.seeds) & set(right.seeds)
    problem, remedy = None, "Run the second with another seed."
    if left.seed is None or right.seed is None:
        problem = "a result without a seed, to which another run adds nothing"
    elif common:
        problem = f"the same seed twice: {sorted(common)}"
    elif left.n_players != right.n_players:
        problem = f"{left.n_players} and {right.n_players} players"
    elif left.method != right.method:
        problem = f"methods {left.method!r} and {right.method!r}"
    elif left.method == "quadrature_shapley":
        problem = "two results of quadrature, whose errors are largely one and the same"
        remedy = "Run it once, with the budget of both."
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
            expected="independent runs of one method on one game, each with a seed of its own",
            remedy=remedy,
        )


def _truncation(result: ShapleyResult) -> object:
    """What is known of the truncation: files of older versions tell only whether it cut anything."""
    return result.truncation or ("unknown" if result.n_truncated else None)


def _parts(result: ShapleyResult) -> Collection[frozenset[int]]:
    """The groups, in their order if the values are theirs."""
    parts = [frozenset(group) for group in result.groups or ()]
    return parts if len(parts) == result.n_players else set(parts)
