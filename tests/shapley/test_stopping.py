"""Stopping criteria: permutations, evaluations, time, errors, signs and ranks, alone and combined."""

from __future__ import annotations

from types import SimpleNamespace

import games
import numpy as np
import pytest

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import (
    FunctionGame,
    IntervalBelow,
    MaxEvaluations,
    MaxPermutations,
    MaxSeconds,
    SignDecided,
    StandardErrorBelow,
    TopDecided,
    exact_shapley,
    permutation_shapley,
)


class TestStopping:
    game = games.airport(np.array([1.0, 2.0, 5.0, 5.0, 9.0]))[0]

    @pytest.mark.parametrize("limit", [2, 7, 100])
    def test_max_permutations_is_not_exceeded(self, limit: int) -> None:
        assert permutation_shapley(self.game, stop=MaxPermutations(limit)).n_permutations == limit // 2 * 2
        assert permutation_shapley(self.game, stop=MaxPermutations(limit), antithetic=False).n_permutations == limit

    @pytest.mark.parametrize("limit", [10, 17, 18, 1000])
    def test_max_evaluations_is_used_up_to_one_sample(self, limit: int) -> None:
        assert limit - 8 < permutation_shapley(self.game, stop=MaxEvaluations(limit)).n_evaluations <= limit

    @pytest.mark.parametrize(
        ("stop", "minimum"),
        [
            (MaxPermutations(1), 2),
            (MaxEvaluations(9), 10),
            (MaxEvaluations(9) | MaxSeconds(1), 10),
            (MaxEvaluations(9) & MaxPermutations(1), 10),
        ],
    )
    def test_a_limit_below_one_sample_is_an_error(self, stop, minimum: int) -> None:
        with pytest.raises(InputError, match=f"at least {minimum}"):
            permutation_shapley(self.game, stop=stop)

    def test_or_stops_at_the_first_criterion_and_and_at_the_last(self) -> None:
        few, many = MaxPermutations(10), MaxEvaluations(1000)
        assert permutation_shapley(self.game, stop=few | many).n_permutations == 10
        assert permutation_shapley(self.game, stop=few & many).n_evaluations > 990

    def test_combined_criteria_on_errors_and_counts(self) -> None:
        narrow, bound = IntervalBelow(0.2), MaxPermutations(100)
        alone = permutation_shapley(self.game, stop=narrow).n_permutations
        assert alone > 100
        assert permutation_shapley(self.game, stop=narrow | bound).n_permutations == 100
        both = permutation_shapley(self.game, stop=IntervalBelow(5.0) & bound)
        assert both.n_permutations == 100  # IntervalBelow is met first

    def test_the_error_is_below_its_limit_when_it_stops(self) -> None:
        result = permutation_shapley(self.game, stop=StandardErrorBelow(0.1))
        assert result.stderr.max() < 0.1
        low, high = permutation_shapley(self.game, stop=IntervalBelow(0.3)).interval()
        assert ((high - low) / 2).max() < 0.3

    def test_signs_are_decided_when_it_stops(self) -> None:
        game, values = games.modular(np.array([1.0, -1.0, 2.0]))
        steep = FunctionGame(lambda c: game(c) + 0.5 * (c.sum(axis=1) == 2), 3)
        result = permutation_shapley(steep, stop=SignDecided() | MaxPermutations(10_000))
        low, high = result.interval()
        assert ((low > 0) | (high < 0)).all()
        assert np.sign(result.values).tolist() == np.sign(values).tolist()
        assert result.n_permutations < 10_000

    def test_the_tolerance_decides_the_sign_of_a_null_player(self) -> None:
        game, _ = games.unanimity(3, [0, 1])
        stop = SignDecided(tolerance=0.05) | MaxPermutations(5000)
        assert permutation_shapley(game, stop=stop).n_permutations < 5000
        assert permutation_shapley(game, stop=SignDecided() | MaxPermutations(500)).n_permutations == 500

    def test_the_top_is_decided_when_it_stops(self) -> None:
        game, values = games.voting([9, 8, 2, 2, 1], 12)
        result = permutation_shapley(game, stop=TopDecided(2) | MaxPermutations(10_000))
        assert result.n_permutations < 10_000
        assert set(np.argsort(-result.values)[:2]) == set(np.argsort(-values)[:2]) == {0, 1}
        assert permutation_shapley(game, stop=TopDecided(5)).n_permutations == 20  # met at the first check

    def test_max_seconds_draws_at_least_one_sample(self) -> None:
        assert permutation_shapley(self.game, stop=MaxSeconds(1e-9)).n_permutations == 2

    def test_max_seconds_compares_the_time_with_its_limit(self) -> None:
        stop = MaxSeconds(2.0)
        assert not stop.is_met(SimpleNamespace(n_permutations=4, seconds=1.9))
        assert stop.is_met(SimpleNamespace(n_permutations=4, seconds=2.0))
        assert (
            stop.samples_until_next_check(SimpleNamespace(n_permutations=10, permutations_per_sample=2, seconds=1.0))
            == 2
        )

    @pytest.mark.parametrize(
        "make",
        [
            lambda: MaxPermutations(0),
            lambda: MaxPermutations(2.5),
            lambda: MaxEvaluations(True),
            lambda: MaxSeconds(0),
            lambda: StandardErrorBelow(-1),
            lambda: IntervalBelow(float("nan")),
            lambda: IntervalBelow(0.1, confidence=95),
            lambda: TopDecided(0),
            lambda: SignDecided(tolerance=-1),
        ],
    )
    def test_arguments_are_checked(self, make) -> None:
        with pytest.raises(InputError):
            make()

    def test_other_types_are_an_error(self) -> None:
        with pytest.raises(InputError, match="stop"):
            permutation_shapley(self.game, stop=100)
        with pytest.raises(TypeError):
            MaxPermutations(3) | 100

    def test_interval_below_does_not_stop_on_constant_samples(self) -> None:
        rare = FunctionGame(lambda c: (c[:, :3].all(axis=1) & ~c[:, 3:5].any(axis=1)) * 1.0, 8)
        exact = exact_shapley(rare).values
        covered = []
        for seed in range(60):
            result = permutation_shapley(rare, stop=IntervalBelow(0.1), seed=seed)
            low, high = result.interval()
            covered.append((low <= exact) & (exact <= high))
        assert np.mean(covered) >= 0.93
        assert permutation_shapley(games.modular(np.ones(3))[0], stop=IntervalBelow(0.1)).n_permutations >= 120
