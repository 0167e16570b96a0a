"""Games and their wrappers: what they refuse, what they ask, and errors that name the coalition."""

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
    permutation_marginals,
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
    "chosen": lambda game: shapley(game, budget=16),
}


def without(player: int, returned: float) -> Game:
    """A game over four players that pays ``returned`` to the coalition of all but one."""
    missing = np.arange(4) != player
    return FunctionGame(lambda c: np.where((c == missing).all(axis=1), returned, c.sum(axis=1)), 4)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("payoff", [np.nan, np.inf, -np.inf])
def test_a_payoff_that_is_not_finite_names_its_coalition(method, payoff: float) -> None:
    with pytest.raises(GameError, match=r"coalition \(0, 1, 3\)") as caught:
        method(without(2, payoff))
    assert caught.value.coalition == (0, 1, 3)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_payoff_that_raises_names_its_coalition(method) -> None:
    def payoff(coalitions: np.ndarray) -> np.ndarray:
        if (coalitions == [True, True, False, True]).all(axis=1).any():
            raise ZeroDivisionError("no data")
        return coalitions.sum(axis=1)

    with pytest.raises(GameError, match="ZeroDivisionError: no data") as caught:
        method(FunctionGame(payoff, 4))
    assert caught.value.coalition == (0, 1, 3)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_failure_of_the_batch_alone_blames_no_coalition() -> None:
    def payoff(coalitions: np.ndarray) -> np.ndarray:
        if len(coalitions) > 2:
            raise MemoryError("too many")
        return coalitions.sum(axis=1)

    with pytest.raises(GameError, match="batch") as caught:
        exact_shapley(FunctionGame(payoff, 3))
    assert caught.value.coalition is None


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("shape", [(), (1,), (2, 2)])
def test_a_wrong_shape_is_refused(method, shape: tuple[int, ...]) -> None:
    with pytest.raises(GameError, match="shape"):
        method(FunctionGame(lambda coalitions: np.zeros(shape), 4))  # noqa: ARG005


def test_a_wrong_shape_for_a_single_coalition_names_it() -> None:
    with pytest.raises(GameError) as caught:
        evaluate(FunctionGame(lambda coalitions: coalitions * 1.0, 2), np.array([[False, True]]))
    assert caught.value.coalition == (1,)


def test_a_wrong_shape_for_many_coalitions_says_how_many_and_names_the_first() -> None:
    with pytest.raises(GameError, match=r"\(coalition \(0, 2\)\): got shape \(3,\) for 2 coalitions") as caught:
        evaluate(FunctionGame(lambda coalitions: coalitions[0] * 1.0, 3), np.array([[True, False, True], [False] * 3]))
    assert caught.value.coalition == (0, 2)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(GameError, match="payoffs: got 'list'"):
        exact_shapley(FunctionGame(lambda coalitions: ["high"] * len(coalitions), 2))
    with pytest.raises(GameError, match="payoffs: got 'list'"):
        exact_shapley(FunctionGame(lambda coalitions: [[1.0], [1.0, 2.0]] * (len(coalitions) // 2), 2))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("kind", [np.array, list])
def test_complex_payoffs_are_refused(method, kind) -> None:
    with pytest.raises(GameError, match=r"payoffs: got .*, complex numbers"):
        method(FunctionGame(lambda coalitions: kind(coalitions.sum(axis=1) * (1 + 1j)), 4))


@pytest.mark.parametrize("count", [-1, 2.0, True, "3", None])
def test_a_number_of_players_is_an_integer(count: object) -> None:
    with pytest.raises(InputError, match="n_players"):
        FunctionGame(len, count)


def test_the_function_of_a_game_is_callable() -> None:
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
        ([0, 1, 2], r"got \[0, 1, 2\]; expected .* a sequence of integers a group"),
        ([[0.2, 1.7], [2]], r"got \[\[0.2, 1.7\], \[2\]\]"),
        ([[False, True], [2]], r"got \[\[False, True\], \[2\]\]"),
    ],
)
def test_groups_are_a_partition(groups: list[list[int]], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        GroupedGame(games.modular(np.ones(3))[0], groups)


@pytest.mark.parametrize(
    "groups", [[[0.7, 1.2]], [[True, False]], [np.array([True, False])], [["0", "1"]], ["01"], [[0], 1], None, 2]
)
def test_groups_are_of_integers(groups: object) -> None:
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
def test_what_is_no_game_is_refused(method, game: object) -> None:
    with pytest.raises(InputError, match="game: got"):
        method(game)


class Walking(FunctionGame):
    """A game that can walk an order itself, and counts how often it is asked to."""

    def __init__(self, n_players: int) -> None:
        super().__init__(lambda coalitions: coalitions.sum(axis=1) ** 2.0, n_players)
        self.walked = 0

    def prefix_values(self, orders: np.ndarray) -> np.ndarray:
        self.walked += len(orders)
        return np.tile(np.arange(self.n_players + 1) ** 2.0, (len(orders), 1))


def test_a_game_that_walks_orders_is_asked_to_and_gives_the_same() -> None:
    game = Walking(5)
    walked = permutation_shapley(game, stop=MaxPermutations(10))
    asked = permutation_shapley(FunctionGame(game, 5), stop=MaxPermutations(10))
    assert game.walked == 10
    np.testing.assert_array_equal(walked.values, asked.values)
    assert walked.n_evaluations == asked.n_evaluations


def test_groups_of_a_game_that_walks_orders_walk_too() -> None:
    game = Walking(5)
    groups = [[4, 0], [2], [1, 3]]
    walked = permutation_shapley(GroupedGame(game, groups), stop=MaxPermutations(10))
    asked = permutation_shapley(GroupedGame(FunctionGame(game, 5), groups), stop=MaxPermutations(10))
    assert game.walked == 10
    np.testing.assert_allclose(walked.values, asked.values, atol=1e-12)


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (lambda orders: np.zeros((len(orders), 2)), "shape"),
        (lambda orders: np.full((len(orders), 4), np.nan), r"coalition \(\)"),
        (lambda orders: np.tile([0.0, 1, 2, 99], (len(orders), 1)), "ends"),
        (lambda orders: np.tile([0.0, 1, 4, 9 + 1j], (len(orders), 1)), "prefix_values: got .*, complex numbers"),
        (lambda orders: 1 / 0, r"prefix_values: got ZeroDivisionError: .* for 2 orders, the first of which is \["),  # noqa: ARG005
    ],
)
def test_what_a_walking_game_returns_is_checked(returned, problem: str) -> None:
    game = Walking(3)
    game.prefix_values = returned
    with pytest.raises(GameError, match=problem):
        permutation_shapley(game, stop=MaxPermutations(2))


@pytest.mark.parametrize(("column", "ends"), [(0, r"\(7.0, 9.0\)"), (3, r"\(0.0, 7.0\)")])
def test_the_order_whose_ends_are_wrong_is_named(column: int, ends: str) -> None:
    def wrong_in_the_last(orders: np.ndarray) -> np.ndarray:
        values = np.tile([0.0, 1, 4, 9], (len(orders), 1))
        values[-1, column] = 7.0
        return values

    game = Walking(3)
    game.prefix_values = wrong_in_the_last
    with pytest.raises(GameError, match=rf"ends {ends} of order \[1, 2, 0\]; expected .* \(0.0, 9.0\)"):
        permutation_marginals(game, np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0]]), v_empty=0.0, v_full=9.0)


@pytest.mark.parametrize(
    "bounds", [(np.ones(2), np.zeros(2)), (np.zeros(1), np.ones(1)), (np.zeros(2), np.full(2, np.inf))]
)
def test_bounds_of_marginals_are_checked(bounds: tuple[np.ndarray, np.ndarray]) -> None:
    game = games.modular(np.ones(2))[0]
    game.marginal_bounds = lambda: bounds
    with pytest.raises(GameError, match="marginal_bounds"):
        permutation_shapley(game, stop=MaxPermutations(2))


def test_a_cached_game_asks_for_each_coalition_once() -> None:
    asked = []

    def payoff(coalitions: np.ndarray) -> np.ndarray:
        asked.extend(map(tuple, coalitions.tolist()))
        return coalitions.sum(axis=1) ** 2.0

    game = CachedGame(FunctionGame(payoff, 4))
    first = permutation_shapley(game, stop=MaxEvaluations(200))
    assert len(asked) == len(set(asked)) == game.n_evaluations <= 16
    assert game.n_requests == first.n_evaluations
    np.testing.assert_allclose(exact_shapley(game).values, 4.0)
    assert len(asked) == 16
