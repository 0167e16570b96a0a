"""Confidence intervals of Shapley values that hold for skewed marginals and small samples.

The t interval of the mean of m samples, ``mean +- t * sqrt(s^2 / m)``, is far too narrow if a player's marginal is 0 in
most permutations and large in a few: values that were not drawn yet do not contribute to the variance. Two corrections
are made. By the rule of three, an event that did not occur in m samples has a probability of at most
``-ln(1 - confidence) / m`` at that confidence; therefore ``-ln(1 - confidence)`` samples (three at 95%) are added to
the sum of squares, at the distance from the mean that such an event would have. And because the players of a game are
similar, that distance is the player's own largest deviation or the root mean square of those of all players, whichever
is larger. ``recipes/benchmarks/coverage.py`` measures the coverage of these intervals.
"""

from __future__ import annotations

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lightning_attnflow._checks import check_confidence
from lightning_attnflow.shapley.statistics import SampleStatistics

FloatArray = NDArray[np.float64]
Interval = tuple[FloatArray, FloatArray]
RULE_OF_THREE = -math.log(0.05)
"""An event not seen in m observations has at 95% a probability of at most this / m (Hanley & Lippman-Hand 1983)."""
MIN_IDENTICAL_SAMPLES = 60
"""By the rule of three, after this many identical observations a different one has a probability below 1/20."""
_ROUNDING = 1e-12  # of payoffs, relative to the largest
_MAX_GROWTH = 5  # a small sample gives an uncertain variance, so its size is not extrapolated further


def permutation_interval(
    statistics: SampleStatistics, confidence: float = 0.95, *, bounds: Interval | None = None
) -> Interval:
    """Confidence interval of each value from independent samples.

    Args:
        statistics: of the samples.
        confidence: nominal coverage, between 0 and 1.
        bounds: proven bounds (low (n,), high (n,)) of every marginal; Hoeffding's radius is then used if it is smaller,
            and the interval is clipped to the bounds.

    Returns:
        low (n,) and high (n,); infinite (or the bounds) with fewer than two samples.

    Source: Hanley & Lippman-Hand (1983) for the rule of three; Hoeffding (1963).

    Example:
        >>> seen_once = SampleStatistics.of(np.array([[0.0, 0.0]] * 9 + [[0.0, 1.0]]))
        >>> low, high = permutation_interval(seen_once)
        >>> high.round(2).tolist()  # player 0 was always 0, but may be like player 1
        [0.26, 0.53]
    """
    check_confidence(confidence)
    m, mean = statistics.count, statistics.mean
    if m < 2:
        radius = np.full_like(mean, np.inf)
    else:
        own = np.maximum(statistics.high - mean, mean - statistics.low)
        unseen = np.maximum(own, math.sqrt(own @ own / max(own.size, 1)))
        if bounds is not None:
            unseen = np.minimum(unseen, np.maximum(bounds[1] - mean, mean - bounds[0]))
        squares = statistics.m2 - math.log(1 - confidence) * unseen**2
        radius = student_quantile(confidence, m - 1) * np.sqrt(squares / (m - 1) / m)
    if bounds is None:
        return mean - radius, mean + radius
    low, high = bounds
    if m > 0:
        radius = np.minimum(radius, (high - low) * math.sqrt(math.log(2 / (1 - confidence)) / (2 * m)))
    return np.clip(mean - radius, low, high), np.clip(mean + radius, low, high)


def is_rounding(difference: float, scale: float) -> bool:
    """Whether a difference of payoffs of this scale is due to rounding."""
    return difference <= _ROUNDING * scale


def samples_needed(statistics: SampleStatistics, radius: FloatArray, room: FloatArray, further: FloatArray) -> int:
    """Estimated total number of samples after which every player's radius plus ``further`` is at most ``room``.

    Args:
        statistics: of the present samples, at least two.
        radius: (n,), of the 95% intervals by `permutation_interval` without bounds.
        room: (n,), limit of the radius and what is added to it.
        further: (n,), added to the radius; inversely proportional to the number of samples.

    Returns:
        More than the present number, at most five times as many.

    Example:
        >>> few = SampleStatistics.of(np.array([[0.0], [1.0], [0.0], [1.0]]))
        >>> low, high = permutation_interval(few)
        >>> samples_needed(few, (high - low) / 2, room=np.array([0.5]), further=np.zeros(1))
        10
    """
    widest = int(np.argmax((radius + further) / room))
    count, m2 = statistics.count, float(statistics.m2[widest])
    allowed, added = float(room[widest]), float(further[widest])
    unseen = count * (count - 1) * (float(radius[widest]) / student_quantile(0.95, count - 1)) ** 2 - m2

    def is_enough(more: int) -> bool:
        squares = m2 * (more - 1) / (count - 1) + unseen
        return (
            student_quantile(0.95, more - 1) * math.sqrt(squares / (more - 1) / more) + added * count / more <= allowed
        )

    counts = range(count + 1, _MAX_GROWTH * count)
    return counts.start + bisect_left(counts, True, key=is_enough)


def student_interval(mean: FloatArray, stderr: FloatArray, degrees: float, confidence: float = 0.95) -> Interval:
    """Mean minus and plus the t quantile times the standard error, each (n,)."""
    check_confidence(confidence)
    radius = student_quantile(confidence, degrees) * stderr
    return mean - radius, mean + radius


def student_quantile(confidence: float, degrees: float) -> float:
    """Quantile t with ``P(|T| < t) = confidence`` of Student's t distribution.

    Args:
        confidence: between 0 and 1.
        degrees: degrees of freedom, >= 1; below 200 they are rounded down, which widens the interval.

    Example:
        >>> [round(student_quantile(0.95, degrees), 4) for degrees in (1, 9, 1000)]
        [12.7062, 2.2622, 1.9623]
    """
    whole = degrees if degrees > 200 else math.floor(degrees)
    return float(stdtrit(whole, (1 + confidence) / 2))  # what scipy.stats.t.ppf calls, without its overhead
