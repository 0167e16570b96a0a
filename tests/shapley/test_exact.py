"""Exact values: closed forms, both definitions, the axioms as properties, small and invalid games."""

from __future__ import annotations

import games
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import (
    FunctionGame,
    GroupedGame,
    MaxPermutations,
    banzhaf,
    exact_shapley,
    kernel_shap,
    leave_one_out,
    permutation_shapley,
    shapley,
    stratified_shapley,
)
from lightning_attnflow.shapley.exact import coalition_table

CLOSED_FORMS = {
    "modular": games.modular(np.array([1.0, -2.0, 0.5, 0.0])),
    "unanimity": games.unanimity(6, [0, 3, 4]),
    "shoes": games.shoes(3, 5),
    "gloves of one kind": games.shoes(0, 3),
    "airport": games.airport(np.array([4.0, 1.0, 1.0, 9.0, 3.0])),
    "voting": games.voting([4, 3, 2, 1, 1], 6),
    "coverage": games.coverage(8, 30, seed=0),
}
tables = st.integers(1, 6).flatmap(
    lambda n: st.lists(st.floats(-10, 10, width=32), min_size=2**n, max_size=2**n).map(np.array)
)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_exact_values_are_the_closed_form(name: str) -> None:
    game, values = CLOSED_FORMS[name]
    result = exact_shapley(game)
    np.testing.assert_allclose(result.values, values, atol=1e-12)
    assert result.n_evaluations == 2**game.n_players
    assert result.interval()[0].tolist() == result.values.tolist()


@given(tables)
@settings(max_examples=25, deadline=None)
def test_subset_form_and_permutation_form_agree(table: np.ndarray) -> None:
    game = games.from_table(table)
    np.testing.assert_allclose(exact_shapley(game).values, games.reference_permutation_form(game), atol=1e-9)


@given(tables)
@settings(max_examples=50, deadline=None)
def test_values_are_efficient(table: np.ndarray) -> None:
    result = exact_shapley(games.from_table(table))
    assert result.values.sum() == pytest.approx(table[-1] - table[0], abs=1e-9)
    assert result.efficiency_gap == pytest.approx(0.0, abs=1e-9)


@given(tables)
@settings(max_examples=50, deadline=None)
def test_a_null_player_has_value_0_and_changes_no_other_value(table: np.ndarray) -> None:
    with_null = np.concatenate([table, table])  # the last player changes no payoff
    values = exact_shapley(games.from_table(with_null)).values
    assert values[-1] == pytest.approx(0.0, abs=1e-9)
    np.testing.assert_allclose(values[:-1], exact_shapley(games.from_table(table)).values, atol=1e-9)


@given(tables, st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_renaming_the_players_renames_the_values(table: np.ndarray, seed: int) -> None:
    game = games.from_table(table)
    permutation = np.random.default_rng(seed).permutation(game.n_players)
    renamed = FunctionGame(lambda coalitions: game(coalitions[:, np.argsort(permutation)]), game.n_players)
    np.testing.assert_allclose(exact_shapley(renamed).values, exact_shapley(game).values[permutation], atol=1e-9)


@given(st.integers(1, 5).flatmap(lambda n: st.tuples(*[st.lists(st.floats(-5, 5), min_size=2**n, max_size=2**n)] * 2)))
@settings(max_examples=50, deadline=None)
def test_values_are_additive(pair: tuple[list[float], list[float]]) -> None:
    first, second = (np.array(table) for table in pair)
    both = exact_shapley(games.from_table(first + second)).values
    apart = exact_shapley(games.from_table(first)).values + exact_shapley(games.from_table(second)).values
    np.testing.assert_allclose(both, apart, atol=1e-9)


@pytest.mark.parametrize(
    "method",
    [
        exact_shapley,
        lambda game: permutation_shapley(game, stop=MaxPermutations(4)),
        lambda game: stratified_shapley(game, budget=4),
        lambda game: kernel_shap(game, budget=4),
        lambda game: shapley(game, budget=4),
        lambda game: banzhaf(game, budget=4),
    ],
)
@pytest.mark.parametrize("n_players", [0, 1, 2])
def test_games_of_zero_one_and_two_players(method, n_players: int) -> None:
    game = FunctionGame(lambda coalitions: 5 + coalitions @ np.array([3.0, 1.0])[:n_players], n_players)
    result = method(game)
    np.testing.assert_allclose(result.values, [3.0, 1.0][:n_players], atol=1e-12)
    assert (result.v_empty, result.v_full) == (5.0, 5.0 + sum([3.0, 1.0][:n_players]))
    assert result.values.shape == result.interval()[0].shape == (n_players,)


def test_twenty_players_are_evaluated_in_blocks() -> None:
    rows = []

    def payoff(coalitions: np.ndarray) -> np.ndarray:
        rows.append(len(coalitions))
        return coalitions.sum(axis=1) ** 2.0

    result = exact_shapley(FunctionGame(payoff, 20))
    np.testing.assert_allclose(result.values, 20.0)
    assert sum(rows) == 2**20
    assert max(rows) * 20 * 8 < 2**30 / 4  # less than 256 MB as float64


def test_more_than_twenty_players_are_an_error() -> None:
    with pytest.raises(InputError, match=r"got 21; expected at most 20 .* GroupedGame"):
        exact_shapley(FunctionGame(lambda coalitions: coalitions.sum(axis=1), 21))


def test_the_table_is_indexed_by_bits() -> None:
    game, _ = games.modular(np.array([1.0, 10.0, 100.0]))
    assert coalition_table(game).tolist() == [0, 1, 10, 11, 100, 101, 110, 111]


def test_leave_one_out() -> None:
    game, _ = games.airport(np.array([1.0, 3.0]))
    assert leave_one_out(game).tolist() == [0.0, 2.0]
    assert leave_one_out(FunctionGame(lambda coalitions: np.zeros(len(coalitions)), 0)).shape == (0,)


def test_marginals_of_a_submodular_game_lie_between_leave_one_out_and_the_single_payoff() -> None:
    game, values = games.coverage(9, 25, seed=3)
    single = game(np.eye(9, dtype=bool))
    assert (leave_one_out(game) <= values + 1e-12).all()
    assert (values <= single + 1e-12).all()


def test_a_group_of_a_modular_game_has_the_sum_of_its_values() -> None:
    game, _ = games.modular(np.array([1.0, 2.0, 4.0, 8.0]))
    assert exact_shapley(GroupedGame(game, [[3, 0], [1], [2]])).values.tolist() == [9.0, 2.0, 4.0]


def test_banzhaf_of_the_voting_game_counts_swings() -> None:
    game, _ = games.voting([2, 1, 1], 3)
    assert banzhaf(game, budget=8).values.tolist() == [0.75, 0.25, 0.25]


def test_banzhaf_by_sample_reuse_is_within_its_errors() -> None:
    game, _ = games.coverage(10, 30, seed=1)
    exact = banzhaf(game, budget=2**10).values
    covered = []
    for seed in range(40):
        low, high = banzhaf(game, budget=300, seed=seed).interval()
        covered.append((low <= exact) & (exact <= high))
    assert np.mean(covered) > 0.9
