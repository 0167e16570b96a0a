"""Axiom checks and their witnesses, exhaustive and sampled; modularity."""

from __future__ import annotations

import games
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import (
    FunctionGame,
    audit_additivity,
    audit_axioms,
    banzhaf,
    exact_shapley,
    is_modular,
    leave_one_out,
)


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.integers(-3, 3), min_size=2**n, max_size=2**n).map(np.array)))
@settings(max_examples=40, deadline=None)
def test_exact_values_satisfy_all_axioms(table: np.ndarray) -> None:
    game = games.from_table(table * 1.0)
    assert audit_axioms(game, exact_shapley(game).values).holds


def test_each_axiom_can_fail_alone_and_has_a_witness() -> None:
    game, values = games.unanimity(4, [1, 2])  # players 0 and 3 are null, 1 and 2 symmetric
    inefficient = audit_axioms(game, values * 0.9)
    assert [check.holds for check in inefficient.checks] == [False, True, True]
    assert inefficient.efficiency.violation == pytest.approx(0.1)
    generous = audit_axioms(game, values + np.array([0.125, -0.125, -0.125, 0.125]))
    assert [check.holds for check in generous.checks] == [True, False, True]
    assert generous.null_player.witness in [(0,), (3,)]
    assert generous.null_player.violation == 0.125
    unfair = audit_axioms(game, values + np.array([0, 0.2, -0.2, 0]))
    assert [check.holds for check in unfair.checks] == [True, True, False]
    assert unfair.symmetry.witness == (1, 2)
    assert unfair.symmetry.violation == pytest.approx(0.4)
    assert "players 1 and 2 are interchangeable" in str(unfair)


def test_leave_one_out_violates_efficiency() -> None:
    game, _ = games.voting([2, 1, 1], 3)
    report = audit_axioms(game, leave_one_out(game))
    assert report.efficiency.violation == 0.0
    airport, _ = games.airport(np.array([3.0, 2.0, 5.0]))
    assert audit_axioms(airport, leave_one_out(airport)).efficiency.violation == 3.0  # their sum is 2, v(N) is 5


def test_audits_of_more_than_twelve_players_are_marked_as_sampled() -> None:
    game, values = games.unanimity(15, [0, 1, 2])
    report = audit_axioms(game, values)
    assert [check.exhaustive for check in report.checks] == [True, False, False]
    assert "sampled" in str(report)
    assert report.efficiency.holds
    biased = values.copy()
    biased[[7, 0]] += [0.25, -0.25]
    assert audit_axioms(game, biased).null_player.witness == (7,)


def test_a_sampled_audit_of_a_symmetric_game() -> None:
    game = FunctionGame(lambda c: np.sqrt(c.sum(axis=1)), 14)
    values = np.full(14, np.sqrt(14) / 14)
    assert audit_axioms(game, values).holds
    values[[3, 9]] += [0.1, -0.1]
    assert audit_axioms(game, values).symmetry.witness == (3, 9)


@pytest.mark.parametrize("values", [np.ones(3), np.ones((2, 2)), [np.nan] * 4, "four", None])
def test_invalid_values_are_an_error(values: np.ndarray) -> None:
    with pytest.raises(InputError, match="values"):
        audit_axioms(games.unanimity(4, [0])[0], values)


def test_additivity_holds_for_exact_values_and_fails_for_normalised_banzhaf() -> None:
    first, second = games.airport(np.array([1.0, 2.0, 6.0]))[0], games.voting([2, 1, 1], 3)[0]

    def normalised(game: FunctionGame) -> np.ndarray:
        result = banzhaf(game, budget=8)
        return result.values * (result.v_full - result.v_empty) / result.values.sum()

    assert audit_additivity(exact_shapley, first, second).holds
    check = audit_additivity(normalised, first, second)
    assert not check.holds
    assert check.violation > 0.01
    assert len(check.witness) == 1


def test_additivity_of_games_with_different_numbers_of_players_is_an_error() -> None:
    with pytest.raises(InputError, match="3 and 2 players"):
        audit_additivity(exact_shapley, games.modular(np.ones(3))[0], games.modular(np.ones(2))[0])


@pytest.mark.parametrize("n_players", [1, 6, 12, 13, 40])
def test_is_modular_detects_a_single_deviating_size(n_players: int) -> None:
    weights = np.random.default_rng(n_players).normal(size=n_players)
    game = FunctionGame(lambda c: 3.0 + c @ weights, n_players)
    found = is_modular(game)
    assert found
    assert found.exhaustive == (n_players <= 12)
    if n_players > 1:
        bent = FunctionGame(lambda c: game(c) + 0.5 * (c.sum(axis=1) == n_players - 1) * ~c[:, 0], n_players)
        found = is_modular(bent)
        assert not found
        assert found.witness == tuple(range(1, n_players))
        assert found.violation == pytest.approx(0.5)


def test_a_sampled_audit_includes_marginals_to_the_empty_and_the_full_coalition() -> None:
    for game, values in (games.unanimity(14, list(range(14))), games.unanimity(14, [3, 4])):
        assert audit_axioms(game, values).holds
    any_player = FunctionGame(lambda c: np.minimum(c.sum(axis=1), 1.0), 14)  # any one player is enough
    assert audit_axioms(any_player, np.full(14, 1 / 14)).holds
    skewed = np.arange(14.0)
    unlike = FunctionGame(lambda c: (c.sum(axis=1) == 13) * (skewed.sum() - c @ skewed), 14)
    # The players differ only in v(N - i).
    assert audit_axioms(unlike, -skewed).symmetry.witness == ()
    assert audit_axioms(unlike, -skewed).null_player.witness == (0,)


def test_a_sampled_audit_marks_unverified_failures() -> None:
    game, _ = games.unanimity(14, [0, 1])
    report = audit_axioms(game, np.full(14, 1 / 14))
    assert report.efficiency.exhaustive
    assert "FAILS?" in str(report)
    assert "sampled" in report.null_player.explanation


def test_is_modular_always_checks_the_full_coalition() -> None:
    game, _ = games.unanimity(13, list(range(13)))
    assert is_modular(game).witness == tuple(range(13))
    pair = FunctionGame(lambda c: (c.sum(axis=1) == 2) & c[:, 0] & c[:, 7], 13)
    assert is_modular(pair).witness == (0, 7)


@pytest.mark.parametrize(
    "arguments", [{"n_samples": n} for n in (0, -1, 2.5, True)] + [{"tolerance": t} for t in ("a", -1.0, np.nan)]
)
def test_sampling_arguments_are_checked(arguments: dict) -> None:
    game, values = games.modular(np.ones(3))
    with pytest.raises(InputError, match=next(iter(arguments))):
        audit_axioms(game, values, **arguments)
    with pytest.raises(InputError, match=next(iter(arguments))):
        is_modular(game, **arguments)


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (3, "^method: got 3; expected a function"),
        (lambda _: [1.0], "^values: got shape"),
        (lambda game: [np.nan] * game.n_players, "^values: got NaN"),
        (lambda _: "x", "^values: got 'x'"),
    ],
)
def test_additivity_of_what_is_no_method_is_an_error(method: object, message: str) -> None:
    game = games.modular(np.ones(3))[0]
    with pytest.raises(InputError, match=message):
        audit_additivity(method, game, game)
    with pytest.raises(InputError, match="tolerance: got"):
        audit_additivity(exact_shapley, game, game, tolerance=-1)
