"""Running statistics of independent units, one column a player, that can be merged (Chan et al. 1983)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SampleStatistics:
    """Count, mean, squared deviations and range of the unit means of each player.

    A unit is what was drawn independently: an order, or an order with its reverse. Its mean is one observation.

    Args:
        count: number of units.
        mean: float (n,), mean over the units.
        m2: float (n,), sum of squared deviations from the mean.
        low: float (n,), smallest unit mean.
        high: float (n,), largest unit mean.

    Source: Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance.

    Example:
        >>> left, right = SampleStatistics.of(np.array([[1.0], [2.0]])), SampleStatistics.of(np.array([[6.0]]))
        >>> merged = left + right
        >>> merged.count, merged.mean.tolist(), merged.m2.tolist()
        (3, [3.0], [14.0])
    """

    count: int
    mean: FloatArray
    m2: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def empty(cls, n_players: int) -> SampleStatistics:
        """The statistics of no unit at all."""
        zeros = np.zeros(n_players)
        return cls(0, zeros, zeros, np.full(n_players, np.inf), np.full(n_players, -np.inf))

    @classmethod
    def of(cls, units: FloatArray) -> SampleStatistics:
        """The statistics of unit means, float (units, n)."""
        if len(units) == 0:
            return cls.empty(units.shape[1])
        mean = units.sum(axis=0) / len(units)
        return cls(len(units), mean, ((units - mean) ** 2).sum(axis=0), units.min(axis=0), units.max(axis=0))

    def __add__(self, other: SampleStatistics) -> SampleStatistics:
        if self.count == 0 or other.count == 0:
            return self if other.count == 0 else other
        left, right = self.count, other.count
        total = left + right
        shift = other.mean - self.mean
        return SampleStatistics(
            count=total,
            mean=self.mean + shift * (right / total),
            m2=self.m2 + other.m2 + shift**2 * (left * right / total),
            low=np.minimum(self.low, other.low),
            high=np.maximum(self.high, other.high),
        )

    @property
    def variance(self) -> FloatArray:
        """Unbiased variance of a unit mean, (n,); infinite while there are fewer than two units."""
        if self.count < 2:
            return np.full_like(self.mean, np.inf)
        return self.m2 / (self.count - 1)

    @property
    def stderr(self) -> FloatArray:
        """Standard error of the mean, (n,); infinite while there are fewer than two units."""
        return np.sqrt(self.variance / max(self.count, 1))
