"""Bayesian quadrature: closed forms against enumeration, exactness, errors, intervals and invalid input."""

from __future__ import annotations

import games
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import (
    FunctionGame,
    exact_shapley,
    quadrature_shapley,
    shapley,
    stratified_shapley,
)
from lightning_attnflow.shapley.coalition_sampling import minimum_budget
from lightning_attnflow.shapley.exact import coalitions_of, shapley_from_table
from lightning_attnflow.shapley.gaussian_process import Kernel, maximum_likelihood_kernel


def _covariances(kernel: Kernel, n_players: int) -> np.ndarray:
    """Of the odd parts of all coalitions, (2^n, 2^n), term by term from the definition."""
    everyone = coalitions_of(np.arange(2**n_players), n_players)
    same = np.eye(2**n_players) - np.eye(2**n_players)[::-1]  # the complement of bit pattern k is 2^n - 1 - k
    return kernel.covariance(everyone) + np.sqrt(np.outer(kernel.noise(everyone), kernel.noise(everyone))) * same


@given(st.integers(1, 6), st.floats(0, 3), st.sampled_from([0.0, 1.0, 2.0]), st.floats(0, 3))
@settings(max_examples=20, deadline=None)
def test_covariances_with_the_values_agree_with_enumeration(
    n_players: int, interactions: float, steepness: float, roughness: float
) -> None:
    kernel = Kernel(interactions, steepness, roughness)
    table = _covariances(kernel, n_players)
    with_values = np.array([shapley_from_table(column) for column in table.T])  # (2^n, n): each d(T) with each value
    by_size, variance = kernel.with_values(n_players)
    everyone = coalitions_of(np.arange(2**n_players), n_players)
    sizes = everyone.sum(axis=1)
    stated = np.where(everyone, by_size[sizes, None], -by_size[n_players - sizes, None])
    np.testing.assert_allclose(stated, with_values, atol=1e-9 * (1 + np.abs(table).max()))
    twice = shapley_from_table(with_values[:, 0])  # the covariances of value 0 with all values
    assert variance == pytest.approx(twice[0], rel=1e-9, abs=1e-12)
    assert np.linalg.eigvalsh(table).min() > -1e-9 * np.abs(table).max()  # a covariance at all


def test_the_maximum_likelihood_kernel_recovers_the_true_kernel() -> None:
    random = np.random.default_rng(0)
    coalitions = random.permutation(coalitions_of(np.arange(2**9), 10))  # no two of them complementary
    smooth, rough = Kernel(0.1, 0.0, 1e-4), Kernel(0.1, 2.0, 1.0)
    for kernel in (smooth, rough):
        covariance = kernel.covariance(coalitions) + np.diag(kernel.noise(coalitions))
        found = maximum_likelihood_kernel(
            coalitions, np.linalg.cholesky(covariance) @ random.normal(size=len(coalitions))
        )
        assert found.steepness == kernel.steepness
        assert 0.2 < found.roughness / kernel.roughness < 5


@pytest.mark.parametrize("n_players", range(2, 9))
def test_a_budget_for_all_coalitions_gives_exact_values(n_players: int) -> None:
    game = games.random_table(n_players, seed=n_players)
    result = quadrature_shapley(game, budget=2**n_players)
    np.testing.assert_allclose(result.values, exact_shapley(game).values, atol=1e-6)
    assert result.stderr.max() < 1e-3
    assert result.n_evaluations == 2**n_players


@pytest.mark.parametrize("n_players", [0, 1])
def test_games_of_zero_and_one_player(n_players: int) -> None:
    result = quadrature_shapley(FunctionGame(lambda c: 1.0 + c.sum(axis=1), n_players), budget=10, seed=3)
    assert result.values.tolist() == [1.0] * n_players
    assert (result.method, result.seed) == ("quadrature_shapley", 3)
    for budget in ("a", 10.5, True, None, 0):
        with pytest.raises(InputError, match="budget"):
            quadrature_shapley(FunctionGame(lambda c: 1.0 + c.sum(axis=1), n_players), budget=budget)


def test_games_with_pairwise_interactions_are_estimated_exactly() -> None:
    random = np.random.default_rng(0)
    alone, together = random.normal(size=30), np.triu(random.normal(size=(30, 30)), 1)
    game = FunctionGame(lambda c: c @ alone + np.einsum("mi,ij,mj->m", c * 1.0, together, c * 1.0), 30)
    values = alone + (together + together.T).sum(axis=1) / 2
    result = quadrature_shapley(game, budget=150)
    np.testing.assert_allclose(result.values, values, atol=1e-4)
    assert (np.abs(result.values - values) < 5 * result.stderr + 1e-9).all()


def test_symmetric_games_have_equal_shares() -> None:
    result = quadrature_shapley(FunctionGame(lambda c: 2.0 * c.sum(axis=1), 12), budget=122)
    np.testing.assert_allclose(result.values, 2.0, atol=1e-12)
    assert result.stderr.tolist() == [0.0] * 12


@pytest.mark.parametrize("name", games.OF_TEN_OR_SO)
def test_estimates_are_efficient_within_their_intervals_and_closer_than_stratified_ones(name: str) -> None:
    game, values = games.OF_TEN_OR_SO[name]
    squares: dict[str, list[float]] = {"quadrature": [], "stratified": []}
    covered = []
    for seed in range(40):
        result = quadrature_shapley(game, budget=60, seed=seed)
        low, high = result.interval()
        covered.append((low <= values) & (values <= high))
        squares["quadrature"].append(np.mean((result.values - values) ** 2))
        squares["stratified"].append(np.mean((stratified_shapley(game, budget=60, seed=seed).values - values) ** 2))
        assert result.n_evaluations <= 60
        assert result.efficiency_gap == pytest.approx(0.0, abs=1e-9)
    assert np.mean(covered) >= 0.93
    assert np.mean(squares["quadrature"]) < np.mean(squares["stratified"])


@pytest.mark.parametrize("unit", [1e-14, 1e9])
def test_values_scale_with_the_payoffs(unit: float) -> None:
    game = games.OF_TEN_OR_SO["voting"][0]
    ours, scaled = (quadrature_shapley(g, budget=60) for g in (game, FunctionGame(lambda c: unit * game(c) + unit, 10)))
    np.testing.assert_allclose(scaled.values / unit, ours.values, rtol=1e-6)
    np.testing.assert_allclose(scaled.stderr / unit, ours.stderr, rtol=1e-5)


def test_the_same_seed_gives_the_same_values() -> None:
    game, _ = games.OF_TEN_OR_SO["coverage"]
    left, again, right = (quadrature_shapley(game, budget=80, seed=seed) for seed in (1, 1, 2))
    assert left.values.tolist() == again.values.tolist() != right.values.tolist()


def test_merging_quadrature_results_is_an_error() -> None:
    game, _ = games.OF_TEN_OR_SO["coverage"]
    with pytest.raises(InputError, match="sum of the budgets"):
        quadrature_shapley(game, budget=80, seed=1) + quadrature_shapley(game, budget=80, seed=2)


def test_shapley_uses_stratified_sampling_for_large_budgets_and_many_players(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lightning_attnflow.shapley.auto.MAX_PAIRS", 50)
    large = FunctionGame(lambda c: c.sum(axis=1) * 1.0, 40)
    middling = shapley(large, budget=7999)
    assert (middling.method, middling.n_evaluations) == ("quadrature_shapley", 102)
    assert shapley(large, budget=8000).method == "stratified_shapley"


def test_budgets_and_players_out_of_range_are_errors() -> None:
    game = games.OF_TEN_OR_SO["airport"][0]
    with pytest.raises(InputError, match="The minimum for 10 players is 22"):
        quadrature_shapley(game, budget=21)
    assert quadrature_shapley(game, budget=minimum_budget(10)).n_evaluations == 22
    large = FunctionGame(lambda c: c.sum(axis=1) * 1.0, 40)
    with pytest.raises(InputError, match="at most 4098"):
        quadrature_shapley(large, budget=4100)
    huge = FunctionGame(lambda c: c.sum(axis=1) * 1.0, 257)
    with pytest.raises(InputError, match="at most 256"):
        quadrature_shapley(huge, budget=600)
    assert shapley(huge, budget=600).method == "stratified_shapley"
    with pytest.raises(TypeError, match="pairing"):
        quadrature_shapley(game, budget=100, pairing=True)
