"""What truncation costs: the bias measured on audited units, and the interval that holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow.shapley import PermutationEstimate, ShapleyResult, Truncation
from lightning_attnflow.shapley.intervals import permutation_interval
from lightning_attnflow.shapley.statistics import SampleStatistics

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TruncationAudit:
    """The audited units of a run: they were truncated like all others, but also walked to the end.

    Args:
        statistics: of ``full marginals - truncated marginals``, one observation an audited unit.

    Example:
        >>> audit = TruncationAudit(SampleStatistics.of(np.array([[0.0, 0.2], [0.0, 0.4]])))
        >>> audit.n_samples, audit.bias.round(4).tolist(), round(audit.total_bias, 4)
        (2, [0.0, 0.3], 0.3)
    """

    statistics: SampleStatistics

    @property
    def n_samples(self) -> int:
        """Audited units."""
        return self.statistics.count

    @property
    def bias(self) -> FloatArray:
        """What truncation takes from each value on average, (n,)."""
        return self.statistics.mean

    @property
    def stderr(self) -> FloatArray:
        """Standard error of :attr:`bias`, (n,); infinite before the second audited unit."""
        return self.statistics.stderr

    @property
    def total_bias(self) -> float:
        """What truncation takes from all values together."""
        return float(self.bias.sum())

    @property
    def largest_bias(self) -> float:
        """The largest ``|bias|`` of a player."""
        return float(np.abs(self.bias).max(initial=0.0))


@dataclass(frozen=True, eq=False)
class DataShapleyResult(ShapleyResult):
    """A Shapley result whose intervals also hold the bias of truncation.

    Args:
        audit: of the truncation, None if there was none.
        training_variance: mean variance of a payoff due to the training seed; NaN if it was not measured.
    """

    audit: TruncationAudit | None = field(default=None, repr=False)
    training_variance: float = math.nan

    @property
    def training_stderr(self) -> float:
        """The part of a standard error that more training seeds would take away; the rest is due to the orders.

        A marginal is the difference of two payoffs, and a value the mean of ``n_permutations`` marginals.
        """
        return math.sqrt(2 * self.training_variance / max(1, self.n_permutations))

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Two-sided interval of each value, around the value corrected by the measured bias.

        The half-widths of the truncated mean and of the bias add as independent errors do, in squares; the interval
        is widened, where needed, to hold the value itself.
        """
        low, high = super().interval(confidence)
        if self.audit is None:
            return low, high
        bias_low, bias_high = permutation_interval(self.audit.statistics, confidence)
        bias = self.audit.bias
        centre = self.values + bias
        below, above = np.hypot(self.values - low, bias - bias_low), np.hypot(high - self.values, bias_high - bias)
        return np.minimum(centre - below, self.values), np.maximum(centre + above, self.values)

    def _to_parts(self) -> tuple[dict[str, ArrayLike], dict[str, Any]]:
        arrays, metadata = super()._to_parts()
        if self.audit is not None:
            arrays |= {f"audit_{name}": array for name, array in self.audit.statistics.to_arrays().items()}
        return arrays, metadata | {"training_variance": self.training_variance}

    @classmethod
    def _from_parts(cls, arrays: Mapping[str, NDArray[Any]], metadata: Mapping[str, Any]) -> DataShapleyResult:
        statistics = SampleStatistics.from_arrays(arrays, "audit_")
        return replace(
            super()._from_parts(arrays, metadata),
            audit=None if statistics is None else TruncationAudit(statistics),
            training_variance=metadata["training_variance"],
        )

    def __add__(self, other: ShapleyResult) -> ShapleyResult:
        """Merge two independent runs of one configuration."""
        merged = super().__add__(other)
        if not isinstance(merged, DataShapleyResult) or not isinstance(other, DataShapleyResult):
            return merged
        share = self.n_permutations / max(1, merged.n_permutations)
        variance = share * self.training_variance + (1 - share) * other.training_variance
        audit = None
        if self.audit is not None and other.audit is not None:
            audit = TruncationAudit(self.audit.statistics + other.audit.statistics)
        return replace(merged, audit=audit, training_variance=variance)


class AuditedEstimate(PermutationEstimate):
    """A permutation estimate that also takes in what truncation lost in audited units."""

    def __init__(self, *arguments: Any, truncation: Truncation | None, **options: Any) -> None:
        super().__init__(*arguments, truncation=truncation, **options)
        self._lost = None if truncation is None else SampleStatistics.empty(self.n_players)
        self._noise: list[float] = []  # one an order

    def update_noise(self, noise: FloatArray) -> None:
        """Take in the mean variance of the payoffs of each order of a unit due to the training seed, (k,)."""
        self._noise += noise.tolist()

    def update_audit(self, lost: FloatArray) -> None:
        """Take in what truncation lost in one audited unit, float (k, n)."""
        assert self._lost is not None
        self._lost = self._lost + SampleStatistics.of(lost.mean(axis=0, keepdims=True))

    def result(self) -> DataShapleyResult:
        """The estimate so far, with its audit."""
        plain = super().result()
        measured = [variance for variance in self._noise if not math.isnan(variance)]
        return DataShapleyResult(
            **_facts_of(plain),
            audit=None if self._lost is None else TruncationAudit(self._lost),
            training_variance=math.fsum(measured) / len(measured) if measured else math.nan,
        )


def _facts_of(plain: ShapleyResult) -> dict[str, Any]:
    return {name: getattr(plain, name) for name in ShapleyResult.__dataclass_fields__}
