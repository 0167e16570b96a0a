"""Intervals: the t quantile against SciPy, the rule of three, bounds, and coverage on games with exact values."""

from __future__ import annotations

from collections.abc import Callable

import games
import numpy as np
import pytest
from scipy import stats

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import (
    FunctionGame,
    Game,
    MaxPermutations,
    ShapleyResult,
    exact_shapley,
    kernel_shap,
    permutation_shapley,
    shapley,
    stratified_shapley,
)
from lightning_attnflow.shapley.intervals import permutation_interval, samples_needed, student_quantile
from lightning_attnflow.shapley.statistics import SampleStatistics


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 50, 199, 200, 201, 10_000])
def test_the_t_quantile_equals_scipy(confidence: float, degrees: int) -> None:
    assert student_quantile(confidence, degrees) == pytest.approx(stats.t.ppf((1 + confidence) / 2, degrees), rel=1e-9)


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 95, True, "0.95"])
def test_a_confidence_outside_zero_and_one_is_an_error(confidence: float) -> None:
    result = exact_shapley(games.modular(np.ones(2))[0])
    with pytest.raises(InputError, match="confidence"):
        result.interval(confidence)


def test_intervals_are_infinite_with_one_sample() -> None:
    low, high = permutation_interval(SampleStatistics.of(np.ones((1, 3))))
    assert np.isneginf(low).all()
    assert np.isposinf(high).all()


def test_constant_marginals_have_no_width() -> None:
    low, high = permutation_interval(SampleStatistics.of(np.tile([1.0, -2.0], (5, 1))))
    assert low.tolist() == high.tolist() == [1.0, -2.0]


def test_intervals_of_a_constant_player_use_the_deviations_of_the_others() -> None:
    samples = np.zeros((20, 3))
    samples[3, 1] = samples[5, 1] = samples[9, 2] = 1.0
    low, high = permutation_interval(SampleStatistics.of(samples))
    assert low[0] < 0 < high[0]
    assert high[0] < high[2] < high[1]  # observed deviations still count


def test_bounds_clip_the_interval_and_enable_hoeffdings_radius() -> None:
    samples = np.random.default_rng(0).integers(0, 2, (50, 2)) * 1.0
    bounds = (np.array([0.0, 0.4999]), np.array([1.0, 0.5001]))
    low, high = permutation_interval(SampleStatistics.of(samples), bounds=bounds)
    assert (low >= bounds[0]).all()
    assert (high <= bounds[1]).all()
    _, unbounded = permutation_interval(SampleStatistics.of(samples))
    assert high[0] <= unbounded[0]


def test_equal_bounds_give_an_interval_of_width_0() -> None:
    class Bounded(FunctionGame):
        def marginal_bounds(self) -> tuple[np.ndarray, np.ndarray]:
            return np.array([2.0, 3.0]), np.array([2.0, 3.0])

    game = Bounded(lambda coalitions: coalitions @ np.array([2.0, 3.0]), 2)
    low, high = permutation_shapley(game, stop=MaxPermutations(2)).interval()
    assert low.tolist() == high.tolist() == [2.0, 3.0]


SKEWED = {
    "voting": games.voting([10, 9, 8, 7, 1, 1, 1, 1, 1, 1, 1], 27),
    "airport": games.airport(np.array([1.0, 1, 2, 3, 5, 8, 13, 21, 34, 90])),
    "shoes": games.shoes(3, 8),
}


@pytest.mark.parametrize("name", SKEWED)
@pytest.mark.parametrize("n_permutations", [20, 100])
def test_intervals_cover_on_skewed_games_where_normal_intervals_do_not(name: str, n_permutations: int) -> None:
    game, values = SKEWED[name]
    covered, normal_coverage = _coverage(game, values, n_permutations, runs=150)
    assert covered >= 0.93
    if name == "voting":
        assert normal_coverage < 0.8  # normal intervals do not cover


def _coverage(game: Game, values: np.ndarray, n_permutations: int, runs: int) -> tuple[float, float]:
    ours, normal = [], []
    for seed in range(runs):
        result = permutation_shapley(game, stop=MaxPermutations(n_permutations), seed=seed)
        low, high = result.interval()
        ours.append((low - 1e-12 <= values) & (values <= high + 1e-12))
        normal.append(np.abs(result.values - values) <= 1.96 * result.stderr + 1e-12)
    return float(np.mean(ours)), float(np.mean(normal))


METHODS: dict[str, Callable[[Game, int, int], ShapleyResult]] = {
    "antithetic": lambda game, n_permutations, seed: permutation_shapley(
        game, stop=MaxPermutations(n_permutations), seed=seed
    ),
    "plain": lambda game, n_permutations, seed: permutation_shapley(
        game, stop=MaxPermutations(n_permutations), antithetic=False, seed=seed
    ),
    "chosen": lambda game, n_permutations, seed: shapley(game, budget=2 * n_permutations, seed=seed),
    "kernel": lambda game, n_permutations, seed: kernel_shap(game, budget=2 * n_permutations, seed=seed),
    "stratified": lambda game, n_permutations, seed: stratified_shapley(game, budget=2 * n_permutations, seed=seed),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_permutations", [16, 20, 40])
def test_intervals_cover_when_a_sample_may_be_constant(method: str, n_permutations: int) -> None:
    game = games.guarded()
    values = exact_shapley(game).values
    intervals = [METHODS[method](game, n_permutations, seed).interval() for seed in range(150)]
    assert np.mean([(low <= values) & (values <= high) for low, high in intervals]) >= 0.93


@pytest.mark.parametrize("method", METHODS)
def test_constant_samples_have_infinite_intervals_below_sixty_samples(method: str) -> None:
    game = games.modular(np.full(12, 0.1))[0]  # marginals differ by rounding
    few, many = (METHODS[method](game, n_permutations, 0).interval() for n_permutations in (29, 120))
    assert np.isinf(few).all()
    np.testing.assert_allclose(many, 0.1, atol=1e-12)


@pytest.mark.parametrize("further", [0.0, 0.01])
def test_samples_needed_brings_the_widest_radius_below_its_limit(further: float) -> None:
    samples = np.random.default_rng(0).normal(size=(40, 3)) * [1.0, 2.0, 0.1]
    few, room = SampleStatistics.of(samples[:10]), np.array([0.9, 0.9, 0.9])

    def radius_of(statistics: SampleStatistics) -> np.ndarray:
        low, high = permutation_interval(statistics)
        return (high - low) / 2

    wanted = samples_needed(few, radius_of(few), room, np.full(3, further))

    def of_the_same_spread(count: int) -> SampleStatistics:
        return SampleStatistics(count, few.mean, few.variance * (count - 1), few.low, few.high)

    widest = [(radius_of(of_the_same_spread(count)) + further * 10 / count).max() for count in (wanted - 1, wanted)]
    assert widest[1] <= 0.9 < widest[0]


def test_samples_needed_is_at_most_five_times_the_present_number() -> None:
    few = SampleStatistics.of(np.array([[0.0], [1.0], [0.0], [1.0]]))
    assert samples_needed(few, np.array([1.0]), np.array([1e-9]), np.zeros(1)) == 20
