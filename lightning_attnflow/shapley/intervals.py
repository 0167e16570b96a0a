"""Confidence intervals of Shapley values that hold on skewed marginals and few units.

The mean of m units has the t interval ``mean +- t * sqrt(s^2 / m)``. It is far too narrow where a player's marginal is
0 in most orders and large in a few: what was not drawn yet has no variance. Two facts mend this. By the rule of
three, an event that m units did not show has a probability of at most ``-ln(1 - confidence) / m`` at that confidence;
so ``-ln(1 - confidence)`` units (three at 95%) are added to the sum of squares, at the distance from the mean that such
an event would have. And players of one game resemble each other, so that this distance is the player's own largest
deviation or the root mean square over the players of theirs, whichever is larger.
``recipes/benchmarks/coverage.py`` prints how often these intervals hold the true value.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_confidence
from lightning_attnflow.shapley.statistics import SampleStatistics

FloatArray = NDArray[np.float64]
Interval = tuple[FloatArray, FloatArray]
_EXACT_DEGREES = 200  # above, the expansion of the t quantile is right to 10 digits
RULE_OF_THREE = -math.log(0.05)
"""What m observations did not show has, at 95%, a probability of at most this over m (Hanley & Lippman-Hand 1983)."""
MIN_IDENTICAL_SAMPLES = 60
"""So many observations without any difference say, by the rule of three, that another one is rarer than 1 in 20."""
_ROUNDING = 1e-12  # of payoffs, relative to the largest
_GROWTH = 5  # so many times more units at once: what few units say of the spread is itself uncertain


def permutation_interval(
    statistics: SampleStatistics, confidence: float = 0.95, *, bounds: Interval | None = None
) -> Interval:
    """Interval of each player's value from independent units.

    Args:
        statistics: of the unit means.
        confidence: nominal coverage, between 0 and 1.
        bounds: (low (n,), high (n,)) that every marginal is proven to lie in; Hoeffding's radius is then used where
            it is the smaller one, and the interval ends at the bounds.

    Returns:
        low (n,) and high (n,); infinite (or the bounds) with fewer than two units.

    Source: Hanley & Lippman-Hand (1983) for the rule of three; Hoeffding (1963).

    Example:
        >>> seen_once = SampleStatistics.of(np.array([[0.0, 0.0]] * 9 + [[0.0, 1.0]]))
        >>> low, high = permutation_interval(seen_once)
        >>> high.round(2).tolist()  # player 0 has been 0 ten times, yet may be like player 1
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
    """Whether payoffs up to ``scale`` that differ by no more than ``difference`` differ by rounding alone."""
    return difference <= _ROUNDING * scale


def samples_needed(statistics: SampleStatistics, radius: FloatArray, room: FloatArray, further: FloatArray) -> int:
    """How many units in all are likely to bring every player's radius down to ``room``.

    Args:
        statistics: of the units so far, two or more.
        radius: (n,), of their 95% intervals by `permutation_interval`, without bounds.
        room: (n,), for the radius and what is added to it.
        further: (n,), what is added and falls as one over the number of units.

    Returns:
        More than there are, at most five times as many.

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

    counts = range(count + 1, _GROWTH * count)
    return counts.start + bisect_left(counts, True, key=is_enough)


def student_interval(mean: FloatArray, stderr: FloatArray, degrees: float, confidence: float = 0.95) -> Interval:
    """Mean plus and minus the t quantile times the standard error, each (n,); the normal one for infinite degrees."""
    check_confidence(confidence)
    radius = student_quantile(confidence, degrees) * stderr
    return mean - radius, mean + radius


@lru_cache(maxsize=4096)
def student_quantile(confidence: float, degrees: float) -> float:
    """The radius that holds a t variable with this probability.

    Args:
        confidence: two-sided, between 0 and 1.
        degrees: degrees of freedom, >= 1; below 200 rounded down, which errs on the wide side.

    Source: Abramowitz & Stegun (1964), 26.7.3 and 26.7.4 for the distribution, 26.7.5 for the expansion.

    Example:
        >>> [round(student_quantile(0.95, degrees), 4) for degrees in (1, 9, 1000)]
        [12.7062, 2.2622, 1.9623]
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    if degrees > _EXACT_DEGREES:
        terms = (
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
            (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
        )
        return z + math.fsum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))
    degrees = math.floor(degrees)
    low, high = 0.0, math.pi / 2  # of the angle atan(t / sqrt(degrees)), in which the distribution is a finite sum
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_mass(middle, degrees) < confidence else (low, middle)
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _student_mass(angle: float, degrees: int) -> float:
    """P(|t| < sqrt(degrees) tan(angle))."""
    cosine, sine = math.cos(angle), math.sin(angle)
    odd = degrees % 2
    term, total = (cosine, cosine) if odd else (1.0, 1.0)
    for k in range(2 + odd, degrees - 1, 2):
        term *= cosine**2 * (k - 1) / k
        total += term
    if odd:
        return 2 / math.pi * (angle + (sine * total if degrees > 1 else 0.0))
    return sine * total
