"""Mergeable running statistics of independent samples, one column per player (Chan et al. 1983)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class SampleStatistics:
    """Count, mean, sum of squared deviations and range of the samples of each player.

    A sample is what is drawn independently: the marginals of one permutation, or the mean of those of an antithetic
    pair.

    Args:
        count: number of samples.
        mean: float (n,), mean of the samples.
        m2: float (n,), sum of squared deviations from the mean.
        low: float (n,), smallest sample.
        high: float (n,), largest sample.

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
        """The statistics of no samples."""
        zeros = np.zeros(n_players)
        return cls(0, zeros, zeros, np.full(n_players, np.inf), np.full(n_players, -np.inf))

    @classmethod
    def of(cls, samples: FloatArray) -> SampleStatistics:
        """The statistics of samples, float (samples, n)."""
        if len(samples) == 0:
            return cls.empty(samples.shape[1])
        mean = samples.sum(axis=0) / len(samples)
        return cls(len(samples), mean, ((samples - mean) ** 2).sum(axis=0), samples.min(axis=0), samples.max(axis=0))

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
        """Unbiased variance of a sample, (n,); infinite with fewer than two samples."""
        if self.count < 2:
            return np.full_like(self.mean, np.inf)
        return self.m2 / (self.count - 1)

    @property
    def stderr(self) -> FloatArray:
        """Standard error of the mean, (n,); infinite with fewer than two samples."""
        return np.sqrt(self.variance / max(self.count, 1))

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """The fields as arrays, for saving."""
        return {"count": np.array(self.count), "mean": self.mean, "m2": self.m2, "low": self.low, "high": self.high}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> SampleStatistics | None:
        """The inverse of :meth:`to_arrays` for names with a prefix; None if they are missing."""
        if f"{prefix}count" not in arrays:
            return None
        fields = (arrays[f"{prefix}{name}"] for name in ("mean", "m2", "low", "high"))
        return cls(int(arrays[f"{prefix}count"]), *fields)
