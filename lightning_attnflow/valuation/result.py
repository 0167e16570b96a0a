"""Result of Data Shapley: values whose confidence intervals include the bias of truncation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._results import Arrays
from lightning_attnflow.shapley import PermutationEstimate, ShapleyResult, Truncation, draw_permutations
from lightning_attnflow.shapley.intervals import permutation_interval
from lightning_attnflow.shapley.statistics import SampleStatistics
from lightning_attnflow.valuation.sampling import PermutationSample

if TYPE_CHECKING:
    from typing_extensions import Self

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class TruncationAudit:
    """Bias of truncation, estimated from the audited samples, which are also evaluated to the end.

    Args:
        statistics: of the marginals without truncation minus those with truncation, one observation for each sample.

    Example:
        >>> audit = TruncationAudit(SampleStatistics.of(np.array([[0.0, 0.2], [0.0, 0.4]])))
        >>> audit.n_samples, audit.bias.round(4).tolist(), round(audit.total_bias, 4)
        (2, [0.0, 0.3], 0.3)
    """

    statistics: SampleStatistics

    @property
    def n_samples(self) -> int:
        """Number of audited samples."""
        return self.statistics.count

    @property
    def bias(self) -> FloatArray:
        """Mean amount by which truncation reduces each value, (n,)."""
        return self.statistics.mean

    @property
    def stderr(self) -> FloatArray:
        """Standard error of :attr:`bias`, (n,); infinite with fewer than two audited samples."""
        return self.statistics.stderr

    @property
    def total_bias(self) -> float:
        """Sum of :attr:`bias`."""
        return float(self.bias.sum())


@dataclass(frozen=True, eq=False, repr=False)
class DataShapleyResult(ShapleyResult):
    """Shapley values of training examples, with intervals that include the bias of truncation.

    The other fields are those of `ShapleyResult`.

    Args:
        audit: audit of the truncation; None without truncation.
        training_variance: mean variance of a payoff due to the training seed; NaN if unknown.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, MaxPermutations, Truncation
        >>> from lightning_attnflow.valuation import DataShapley
        >>> game = FunctionGame(lambda coalitions: coalitions @ np.array([3.0, -1.0]), n_players=2)
        >>> result = DataShapley(game, stop=MaxPermutations(100), truncation=Truncation()).fit().result
        >>> result.values.round(4).tolist(), result.audit.n_samples >= 2
        ([3.0, -1.0], True)
    """

    audit: TruncationAudit | None = field(default=None, repr=False)
    training_variance: float = math.nan

    @property
    def training_stderr(self) -> float:
        """Part of the standard error of a value that more training seeds would reduce.

        A marginal is the difference of two payoffs, and a value is the mean of ``n_permutations`` marginals.
        """
        return math.sqrt(2 * self.training_variance / max(1, self.n_permutations))

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Two-sided confidence interval of each value.

        With truncation, the interval is centred at the value corrected by the estimated bias. The half-widths of the
        value and of the bias are combined as independent errors, by the root of the sum of squares. The interval is
        extended to contain the value itself.

        Args:
            confidence: nominal coverage, between 0 and 1.

        Returns:
            low (n,) and high (n,).
        """
        low, high = super().interval(confidence)
        if self.audit is None:
            return low, high
        bias_low, bias_high = permutation_interval(self.audit.statistics, confidence)
        bias = self.audit.bias
        centre = self.values + bias
        below, above = np.hypot(self.values - low, bias - bias_low), np.hypot(high - self.values, bias_high - bias)
        return np.minimum(centre - below, self.values), np.maximum(centre + above, self.values)

    def _to_parts(self) -> tuple[Arrays, dict[str, Any]]:
        arrays, metadata = super()._to_parts()
        del metadata["audit"]
        if self.audit is not None:
            arrays |= {f"audit_{name}": array for name, array in self.audit.statistics.to_arrays().items()}
        return arrays, metadata

    @classmethod
    def _from_parts(cls, arrays: Arrays, metadata: dict[str, Any]) -> Self:
        audited = SampleStatistics.from_arrays(arrays, "audit_")
        audit = None if audited is None else TruncationAudit(audited)
        return super()._from_parts(arrays, metadata | {"audit": audit})

    def __add__(self, other: ShapleyResult) -> ShapleyResult:
        """Merge the results of two independent runs of one configuration.

        Raises:
            InputError: the runs have the same seed or different configurations.
        """
        merged = super().__add__(other)
        if not isinstance(merged, DataShapleyResult) or not isinstance(other, DataShapleyResult):
            return merged
        share = self.n_permutations / max(1, merged.n_permutations)
        variance = share * self.training_variance + (1 - share) * other.training_variance
        audit = None
        if self.audit is not None and other.audit is not None:
            audit = TruncationAudit(self.audit.statistics + other.audit.statistics)
        return replace(merged, audit=audit, training_variance=variance)


class DataShapleyEstimate(PermutationEstimate):
    """Accumulates the samples of a Data Shapley run."""

    def __init__(self, *arguments: Any, truncation: Truncation | None, **options: Any) -> None:
        super().__init__(*arguments, truncation=truncation, **options)
        self._lost = None if truncation is None else SampleStatistics.empty(self.n_players)
        self._training_variances: list[float] = []  # one for each permutation

    def accumulate(self, sample: PermutationSample) -> None:
        """Add a sample to the estimate."""
        self.update(
            draw_permutations(self.seed or 0, [sample.index], self.n_players, antithetic=self.antithetic),
            sample.marginals[None],
            n_evaluations=int(sample.evaluations.sum()),
            n_truncated=int((sample.cuts < self.n_players).sum()),
        )
        self._training_variances += sample.training_variance.tolist()
        if sample.lost is not None:
            assert self._lost is not None
            self._lost = self._lost + SampleStatistics.of(sample.lost.mean(axis=0, keepdims=True))

    def result(self) -> DataShapleyResult:
        """The estimate so far, with the audit of its truncation."""
        plain = super().result()
        known = [variance for variance in self._training_variances if not math.isnan(variance)]
        return DataShapleyResult(
            **{column.name: getattr(plain, column.name) for column in fields(ShapleyResult)},
            audit=None if self._lost is None else TruncationAudit(self._lost),
            training_variance=math.fsum(known) / len(known) if known else math.nan,
        )
