"""Banzhaf values by maximum sample reuse: comparison with exact values, errors and intervals."""

from __future__ import annotations

import sys

import games
import numpy as np
import pytest

from lightning_attnflow.shapley import FunctionGame, Game, banzhaf

SEATS = np.array([40, 25, 20, 10, 5, 4, 3, 2])


def voting() -> Game:
    return FunctionGame(lambda c: (c @ SEATS > 50) * 1.0, 8)


@pytest.mark.parametrize("game", [games.guarded(), voting()], ids=["guarded", "voting"])
@pytest.mark.parametrize("budget", [10, 20, 50, 100])
def test_intervals_cover_when_payoffs_are_rare(game: Game, budget: int) -> None:
    exact = banzhaf(game, budget=2**8).values
    covered = []
    for seed in range(100):
        low, high = banzhaf(game, budget=budget, seed=seed).interval()
        covered.append((low <= exact) & (exact <= high))
    assert np.mean(covered) >= 0.93


def test_values_are_differences_of_mean_payoffs() -> None:
    game, n, budget, seed = voting(), 8, 40, 3
    coalitions = np.random.default_rng(np.random.SeedSequence(seed)).random((budget - 2, n)) < 0.5
    payoffs = game(coalitions)
    expected = [payoffs[coalitions[:, i]].mean() - payoffs[~coalitions[:, i]].mean() for i in range(n)]
    np.testing.assert_allclose(banzhaf(game, budget=budget, seed=seed).values, expected, atol=1e-12)


def test_standard_errors_equal_the_standard_deviation_over_seeds() -> None:
    runs = [banzhaf(voting(), budget=100, seed=seed) for seed in range(200)]
    spread = np.std([run.values for run in runs], axis=0)
    stated = np.mean([run.stderr for run in runs], axis=0)
    assert ((0.9 * spread < stated) & (stated < 1.3 * spread)).all()


def test_constant_payoffs_have_infinite_errors_below_sixty_samples() -> None:
    constant = FunctionGame(lambda c: 0.3 + 1e-16 * c[:, 0], 9)
    assert np.isinf(banzhaf(constant, budget=61).stderr).all()
    assert (banzhaf(constant, budget=62).stderr < 1e-15).all()


def test_a_player_in_none_or_all_of_the_coalitions_has_an_infinite_error() -> None:
    seeds = [seed for seed in range(50) if np.isinf(banzhaf(voting(), budget=6, seed=seed).stderr).any()]
    assert seeds
    assert all(np.isfinite(banzhaf(voting(), budget=6, seed=seed).values).all() for seed in seeds)


def test_the_error_is_infinite_on_a_unanimity_game_with_a_small_budget() -> None:
    result = banzhaf(games.unanimity(30, list(range(30)))[0], budget=40)
    assert np.isinf(result.stderr).all()
    assert np.isinf(result.interval()).all()


def test_blocks_of_coalitions_give_the_same_result_as_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = banzhaf(voting(), budget=200, seed=1)
    rows = []
    game = FunctionGame(lambda c: rows.append(len(c)) or voting()(c), 8)
    monkeypatch.setattr(sys.modules[banzhaf.__module__], "BLOCK_BYTES", 8 * 8 * 50)
    blocks = banzhaf(game, budget=200, seed=1)
    assert rows == [50, 50, 50, 48, 2]
    np.testing.assert_allclose(blocks.values, whole.values, rtol=0, atol=1e-12)
    np.testing.assert_allclose(blocks.stderr, whole.stderr, rtol=0, atol=1e-12)
