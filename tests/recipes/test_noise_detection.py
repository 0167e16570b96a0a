"""Scores of the noise detection benchmark, compared with their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from benchmarks.noise_detection import lower_cluster, mean_and_interval
from scipy import stats


def test_lower_cluster_is_that_of_the_optimal_two_means_split() -> None:
    values = np.random.default_rng(0).normal(size=9).round(2)
    values[:3] -= 2

    def scatter(inside: np.ndarray) -> float:
        return sum(((part - part.mean()) ** 2).sum() for part in (values[inside], values[~inside]))

    every = [np.array(inside) for inside in itertools.product([False, True], repeat=9)]
    best = min((inside for inside in every if 0 < inside.sum() < 9), key=scatter)
    low = best if values[best].mean() < values[~best].mean() else ~best
    assert (lower_cluster(values) == low).all()


def test_interval_is_the_student_t_interval() -> None:
    numbers = [0.7, 0.8, 0.75, 0.9]
    half = stats.sem(numbers) * stats.t.ppf(0.975, 3)
    mean, _, shown = mean_and_interval(numbers).split()
    assert (float(mean), float(shown)) == pytest.approx((np.mean(numbers), half), abs=6e-4)
