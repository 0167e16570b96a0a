"""Confidence intervals of Shapley values estimated from independent units."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.statistics import UnitStatistics

FloatArray = NDArray[np.float64]


def normal_interval(mean: FloatArray, stderr: FloatArray, confidence: float) -> tuple[FloatArray, FloatArray]:
    """Mean plus and minus the normal quantile times the standard error, each (n,)."""
    radius = NormalDist().inv_cdf((1 + check_confidence(confidence)) / 2) * stderr
    return mean - radius, mean + radius


def permutation_interval(statistics: UnitStatistics, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """Two-sided interval of each player's value from the statistics of independent units, each (n,)."""
    return normal_interval(statistics.mean, statistics.stderr, confidence)


def check_confidence(confidence: float) -> float:
    """``confidence`` if it is strictly between 0 and 1."""
    if not 0 < confidence < 1:
        raise InputError(
            "confidence", got=confidence, expected="a number between 0 and 1", remedy="Pass confidence=0.95."
        )
    return float(confidence)
