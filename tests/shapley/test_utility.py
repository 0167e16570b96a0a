"""Optional methods of a utility: when they are called, and how what they return is checked."""

from __future__ import annotations

from collections.abc import Iterator

import games
import numpy as np
import pytest

from lightning_attnflow.errors import GameError
from lightning_attnflow.shapley import (
    CachedGame,
    FunctionGame,
    GroupedGame,
    MaxPermutations,
    Truncation,
    permutation_marginals,
    permutation_shapley,
)


class Recording(FunctionGame):
    """The game of squared sizes, which records the calls of its optional methods."""

    def __init__(self, n_players: int = 5) -> None:
        super().__init__(self.payoffs, n_players)
        self.calls: list[str] = []
        self.n_chunks = 0

    def payoffs(self, coalitions: np.ndarray) -> np.ndarray:
        self.calls.append("call")
        return coalitions.sum(axis=1) ** 2.0

    def marginal_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append("marginal_bounds")
        return np.ones(self.n_players), np.full(self.n_players, 2.0 * self.n_players - 1)

    def pop_training_variance(self) -> tuple[float, int]:
        self.calls.append("pop_training_variance")
        return 0.5, 2

    def configuration(self) -> dict[str, object]:
        self.calls.append("configuration")
        return {"utility": "Recording"}


class WithPrefixValues(Recording):
    def prefix_values(self, permutations: np.ndarray) -> np.ndarray:
        self.calls.append("prefix_values")
        assert sorted(permutations[0].tolist()) == list(range(self.n_players))
        return np.tile(np.arange(self.n_players + 1) ** 2.0, (len(permutations), 1))


class WithPrefixChunks(WithPrefixValues):
    def prefix_chunks(self, permutation: np.ndarray, sizes: list[int]) -> Iterator[np.ndarray]:
        self.calls.append("prefix_chunks")
        assert len(permutation) == self.n_players
        for start in range(0, len(sizes), 2):
            self.n_chunks += 1
            yield np.array(sizes[start : start + 2]) ** 2.0


@pytest.mark.parametrize("truncation", [None, Truncation(0.85, patience=1)])
@pytest.mark.parametrize("game_class", [Recording, WithPrefixValues, WithPrefixChunks])
@pytest.mark.parametrize("groups", [None, [[4, 0], [2], [1, 3]]])
def test_permutation_sampling_uses_the_optional_methods_of_a_game(game_class, truncation, groups) -> None:
    game = game_class()
    players = game if groups is None else GroupedGame(game, groups)
    result = permutation_shapley(players, stop=MaxPermutations(10), truncation=truncation)
    expected = {Recording: {"call"}, WithPrefixValues: {"prefix_values"}, WithPrefixChunks: {"prefix_values"}}
    if truncation is not None or groups is not None:
        expected[WithPrefixChunks] = {"prefix_chunks"}
    assert set(game.calls) == expected[game_class] | {"call", "marginal_bounds"}
    assert game.calls.count("call") <= 2 or game_class is Recording  # v(empty) and v(N); v(empty) of the groups
    plain = FunctionGame(game.payoffs, 5)
    players = plain if groups is None else GroupedGame(plain, groups)
    by_coalition = permutation_shapley(players, stop=MaxPermutations(10), truncation=truncation)
    np.testing.assert_array_equal(result.values, by_coalition.values)
    assert result.n_truncated == by_coalition.n_truncated
    assert (result.n_truncated > 0) == (truncation is not None)


def test_truncation_stops_the_iteration_over_chunks() -> None:
    game = WithPrefixChunks(9)
    found = permutation_marginals(
        game, np.arange(9)[None], v_empty=0.0, v_full=81.0, truncation=Truncation(0.6, patience=1)
    )
    assert found.cuts.tolist() == [6]  # 36 is the first square within 0.6 * 81 of 81
    assert game.n_chunks == 3
    assert found.evaluations.tolist() == [6]


@pytest.mark.parametrize("game_class", [Recording, WithPrefixValues, WithPrefixChunks])
def test_audited_permutations_are_evaluated_to_the_end(game_class) -> None:
    permutations = np.array([[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]])
    values = {"v_empty": 0.0, "v_full": 25.0, "truncation": Truncation(0.5, patience=1)}
    audited = permutation_marginals(game_class(), permutations, **values, audit=True)
    assert audited.evaluations.tolist() == [4, 4]
    plain = permutation_marginals(game_class(), permutations, **values)
    assert plain.lost is None
    np.testing.assert_array_equal(audited.marginals, plain.marginals)
    np.testing.assert_array_equal(audited.cuts, plain.cuts)
    full = permutation_marginals(game_class(), permutations, v_empty=0.0, v_full=25.0).marginals
    np.testing.assert_array_equal(audited.marginals + audited.lost, full)


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        ([[1.0, np.nan]], r"payoff \(coalition \(1, 2\)\): got nan"),
        ([[1.0]], r"prefix_chunks: got 1 payoff; expected 3"),
        ([[1.0, 2.0], [3.0, 4.0]], r"prefix_chunks: got shape \(2,\) after 2 payoffs; expected 3 payoffs in all"),
        ([[[1.0]]], r"prefix_chunks: got shape \(1, 1\)"),
        ([1 + 1j], "complex numbers"),
        (None, r"prefix_chunks: got TypeError: .* for permutation \[2, 1, 3, 0\]"),
    ],
)
def test_prefix_chunks_are_checked(chunks: list[object] | None, problem: str) -> None:
    game = FunctionGame(lambda c: c.sum(axis=1), 4)
    game.prefix_chunks = lambda *_: iter(chunks)
    with pytest.raises(GameError, match=problem):
        permutation_marginals(game, np.array([[2, 1, 3, 0]]), v_empty=0.0, v_full=40.0, truncation=Truncation())


def test_wrappers_have_the_optional_methods_of_the_inner_game() -> None:
    game = WithPrefixChunks()
    grouped, cached = GroupedGame(game, [[4, 0], [2], [1, 3]]), CachedGame(game)
    assert grouped.configuration() == {"utility": "Recording", "groups": [[4, 0], [2], [1, 3]]}
    assert cached.configuration() == {"utility": "Recording"}
    assert grouped.pop_training_variance() == cached.pop_training_variance() == (0.5, 2)
    assert [bound.tolist() for bound in grouped.marginal_bounds()] == [[2.0, 1.0, 2.0], [18.0, 9.0, 18.0]]
    assert cached.marginal_bounds()[1].tolist() == [9.0] * 5
    assert np.concatenate(list(grouped.prefix_chunks(np.array([1, 0, 2]), [1, 2]))).tolist() == [1.0, 9.0]
    plain = FunctionGame(game.payoffs, 5)
    for name in ("prefix_values", "prefix_chunks", "marginal_bounds", "pop_training_variance", "configuration"):
        assert hasattr(grouped, name)
        assert not hasattr(GroupedGame(plain, grouped.groups), name)
        assert not hasattr(CachedGame(plain), name)


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        (lambda permutations: np.zeros((len(permutations), 2)), "shape"),
        (lambda permutations: np.full((len(permutations), 4), np.nan), r"coalition \(\)"),
        (lambda permutations: np.tile([0.0, 1, 2, 99], (len(permutations), 1)), "empty and full value"),
        (
            lambda permutations: np.tile([0.0, 1, 4, 9 + 1j], (len(permutations), 1)),
            "prefix_values: got .*, complex numbers",
        ),
        (
            lambda permutations: 1 / len(permutations[:0]),
            r"prefix_values: got ZeroDivisionError: .* for 2 permutations, the first of",
        ),
    ],
)
def test_prefix_values_are_checked(returned, problem: str) -> None:
    game = WithPrefixValues(3)
    game.prefix_values = returned
    with pytest.raises(GameError, match=problem):
        permutation_shapley(game, stop=MaxPermutations(2))


@pytest.mark.parametrize(("column", "found"), [(0, r"\(7.0, 9.0\)"), (3, r"\(0.0, 7.0\)")])
def test_prefix_values_that_disagree_with_the_empty_or_full_value_are_an_error(column: int, found: str) -> None:
    def wrong_in_the_last(permutations: np.ndarray) -> np.ndarray:
        values = np.tile([0.0, 1, 4, 9], (len(permutations), 1))
        values[-1, column] = 7.0
        return values

    game = WithPrefixValues(3)
    game.prefix_values = wrong_in_the_last
    with pytest.raises(
        GameError, match=rf"empty and full value {found} of permutation \[1, 2, 0\]; expected .* \(0.0, 9.0\)"
    ):
        permutation_marginals(game, np.array([[0, 1, 2], [2, 1, 0], [1, 2, 0]]), v_empty=0.0, v_full=9.0)


@pytest.mark.parametrize(
    "bounds",
    [(np.ones(2), np.zeros(2)), (np.zeros(1), np.ones(1)), (np.zeros(2), np.full(2, np.inf)), None, 3, ("a", "b"), ()],
)
def test_marginal_bounds_are_checked(bounds: tuple[np.ndarray, np.ndarray]) -> None:
    game = games.modular(np.ones(2))[0]
    game.marginal_bounds = lambda: bounds
    with pytest.raises(GameError, match="marginal_bounds"):
        permutation_shapley(game, stop=MaxPermutations(2))
