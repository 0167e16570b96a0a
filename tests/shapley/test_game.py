"""Games and their wrappers: checked arguments and payoffs, caching."""

from __future__ import annotations

from types import SimpleNamespace

import games
import numpy as np
import pytest

from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.shapley import (
    CachedGame,
    FunctionGame,
    Game,
    GroupedGame,
    MaxEvaluations,
    MaxPermutations,
    Truncation,
    audit_additivity,
    audit_axioms,
    banzhaf,
    exact_shapley,
    is_modular,
    kernel_shap,
    leave_one_out,
    permutation_shapley,
    quadrature_shapley,
    shapley,
    stratified_shapley,
)
from lightning_attnflow.shapley.game import evaluate

METHODS = {
    "exact": exact_shapley,
    "leave one out": leave_one_out,
    "antithetic": lambda game: permutation_shapley(game, stop=MaxPermutations(20)),
    "plain": lambda game: permutation_shapley(game, stop=MaxPermutations(20), antithetic=False),
    "truncated": lambda game: permutation_shapley(game, stop=MaxPermutations(20), truncation=Truncation(0.0)),
    "stratified": lambda game: stratified_shapley(game, budget=16),
    "kernel": lambda game: kernel_shap(game, budget=16),
    "banzhaf": lambda game: banzhaf(game, budget=16),
    "shapley": lambda game: shapley(game, budget=16),
}


def without(player: int, returned: float) -> Game:
    """A game of four players in which the coalition of all but one has the payoff ``returned``."""
    missing = np.arange(4) != player
    return FunctionGame(lambda c: np.where((c == missing).all(axis=1), returned, c.sum(axis=1)), 4)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("payoff", [np.nan, np.inf, -np.inf])
def test_errors_for_payoffs_that_are_not_finite_contain_the_coalition(method, payoff: float) -> None:
    with pytest.raises(GameError, match=r"coalition \(0, 1, 3\)") as caught:
        method(without(2, payoff))
    assert caught.value.coalition == (0, 1, 3)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_errors_for_exceptions_contain_the_coalition(method) -> None:
    def payoff(coalitions: np.ndarray) -> np.ndarray:
        if (coalitions == [True, True, False, True]).all(axis=1).any():
            raise ZeroDivisionError("no data")
        return coalitions.sum(axis=1)

    with pytest.raises(GameError, match="ZeroDivisionError: no data") as caught:
        method(FunctionGame(payoff, 4))
    assert caught.value.coalition == (0, 1, 3)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_errors_of_whole_batches_contain_no_coalition() -> None:
    def payoff(coalitions: np.ndarray) -> np.ndarray:
        if len(coalitions) > 2:
            raise MemoryError("too many")
        return coalitions.sum(axis=1)

    with pytest.raises(GameError, match="batch") as caught:
        exact_shapley(FunctionGame(payoff, 3))
    assert caught.value.coalition is None


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_payoffs_of_wrong_shape_are_an_error(method, shape: tuple[int, ...]) -> None:
    with pytest.raises(GameError, match="shape"):
        method(FunctionGame(lambda coalitions: np.zeros(shape), 4))  # noqa: ARG005


def test_errors_for_shapes_contain_the_coalition() -> None:
    with pytest.raises(GameError) as caught:
        evaluate(FunctionGame(lambda coalitions: coalitions * 1.0, 2), np.array([[False, True]]))
    assert caught.value.coalition == (1,)


def test_errors_for_shapes_of_batches_contain_the_number_and_the_first_coalition() -> None:
    with pytest.raises(GameError, match=r"\(coalition \(0, 2\)\): got shape \(3,\) for 2 coalitions") as caught:
        evaluate(FunctionGame(lambda coalitions: coalitions[0] * 1.0, 3), np.array([[True, False, True], [False] * 3]))
    assert caught.value.coalition == (0, 2)


def test_payoffs_that_are_not_numbers_are_an_error() -> None:
    with pytest.raises(GameError, match="payoffs: got 'list'"):
        exact_shapley(FunctionGame(lambda coalitions: ["high"] * len(coalitions), 2))
    with pytest.raises(GameError, match="payoffs: got 'list'"):
        exact_shapley(FunctionGame(lambda coalitions: [[1.0], [1.0, 2.0]] * (len(coalitions) // 2), 2))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("kind", [np.array, list])
def test_complex_payoffs_are_an_error(method, kind) -> None:
    with pytest.raises(GameError, match=r"payoffs: got .*, complex numbers"):
        method(FunctionGame(lambda coalitions: kind(coalitions.sum(axis=1) * (1 + 1j)), 4))


@pytest.mark.parametrize("count", [-1, 2.0, True, "3", None])
def test_the_number_of_players_is_checked(count: object) -> None:
    with pytest.raises(InputError, match="n_players"):
        FunctionGame(len, count)


def test_functions_that_are_not_callable_are_an_error() -> None:
    with pytest.raises(InputError, match="function"):
        FunctionGame(3.0, 2)


@pytest.mark.parametrize(
    ("groups", "problem"),
    [
        ([[0, 1], [1, 2]], r"two groups: \[1\]"),
        ([[0], [2]], r"no group: \[1\]"),
        ([[0, 1], [2], []], "an empty group"),
        ([[0, 1], [2, 3]], r"do not exist: \[3\]"),
        ([[0, 1], [2, -1]], r"do not exist: \[-1\]"),
        ([0, 1, 2], r"got \[0, 1, 2\]; expected .* one sequence of integers per group"),
        ([[0.2, 1.7], [2]], r"got \[\[0.2, 1.7\], \[2\]\]"),
        ([[False, True], [2]], r"got \[\[False, True\], \[2\]\]"),
    ],
)
def test_groups_that_are_no_partition_are_an_error(groups: list[list[int]], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        GroupedGame(games.modular(np.ones(3))[0], groups)


@pytest.mark.parametrize(
    "groups", [[[0.7, 1.2]], [[True, False]], [np.array([True, False])], [["0", "1"]], ["01"], [[0], 1], None, 2]
)
def test_groups_that_are_not_integers_are_an_error(groups: object) -> None:
    game = games.modular(np.ones(2))[0]
    with pytest.raises(InputError, match="groups"):
        GroupedGame(game, groups)
    if groups is not None:
        with pytest.raises(InputError, match="groups"):
            permutation_shapley(game, stop=MaxPermutations(2), groups=groups)
    assert GroupedGame(game, [np.array([1]), range(1)]).groups == ((1,), (0,))


CHECKED = METHODS | {
    "quadrature": lambda game: quadrature_shapley(game, budget=16),
    "audit": lambda game: audit_axioms(game, np.ones(4)),
    "additivity": lambda game: audit_additivity(exact_shapley, game, game),
    "modular": is_modular,
    "cached": CachedGame,
    "grouped": lambda game: GroupedGame(game, [[0]]),
}


@pytest.mark.parametrize("method", CHECKED.values(), ids=CHECKED)
@pytest.mark.parametrize(
    "game",
    [object(), None, 3, len, SimpleNamespace(n_players=3)],
    ids=["object", "None", "number", "function", "no call"],
)
def test_objects_that_are_not_games_are_an_error(method, game: object) -> None:
    with pytest.raises(InputError, match="game: got"):
        method(game)


def test_a_cached_game_evaluates_each_coalition_once() -> None:
    evaluated = []

    def payoff(coalitions: np.ndarray) -> np.ndarray:
        evaluated.extend(map(tuple, coalitions.tolist()))
        return coalitions.sum(axis=1) ** 2.0

    game = CachedGame(FunctionGame(payoff, 4))
    first = permutation_shapley(game, stop=MaxEvaluations(200))
    assert len(evaluated) == len(set(evaluated)) == game.n_evaluations <= 16
    assert game.n_requests == first.n_evaluations
    np.testing.assert_allclose(exact_shapley(game).values, 4.0)
    assert len(evaluated) == 16
