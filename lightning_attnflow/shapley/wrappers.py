"""Games made of functions and of other games."""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer, is_integer
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.game import (
    Bounds,
    Coalitions,
    Game,
    Payoffs,
    Permutations,
    checked_bounds,
    evaluate,
    number_of_players,
)


def _of_inner_game(name: str) -> property:
    """An optional method of the inner game; AttributeError if it has none, so that hasattr and getattr work."""
    return property(lambda wrapper: getattr(wrapper.game, name), doc=f"``{name}`` of the inner game.")


class FunctionGame:
    """A game defined by a function of coalitions.

    Args:
        function: maps bool (m, n_players) to float (m,).
        n_players: number of players, >= 0.

    Raises:
        InputError: ``function`` is not callable or ``n_players`` is not an integer >= 0.

    Example:
        >>> game = FunctionGame(lambda coalitions: coalitions.sum(axis=1) ** 2.0, n_players=3)
        >>> game(np.array([[True, True, False]])).tolist()
        [4.0]
    """

    def __init__(self, function: Callable[[Coalitions], Payoffs], n_players: int) -> None:
        if not callable(function):
            got = type(function).__name__
            raise InputError("function", got=got, expected="a callable from bool (m, n) to float (m,)")
        self._function = function
        self.n_players = check_integer("n_players", n_players, minimum=0)

    def __call__(self, coalitions: Coalitions) -> Payoffs:
        return self._function(coalitions)


class GroupedGame:
    """The quotient game of a partition: all players of a group are present, or none.

    It has the optional methods of `Utility` that the inner game has.

    Args:
        game: the game of the single players.
        groups: sequences of player indices; every player is in exactly one group.

    Raises:
        InputError: a group is empty, groups overlap, or they miss a player or contain one that does not exist.

    Source: Owen (1977), Values of games with a priori unions (the quotient game).

    Example:
        >>> inner = FunctionGame(lambda coalitions: coalitions @ np.array([1.0, 2.0, 4.0]), n_players=3)
        >>> GroupedGame(inner, [[0, 2], [1]])(np.array([[True, False]])).tolist()
        [5.0]
    """

    pop_training_variance = _of_inner_game("pop_training_variance")

    def __init__(self, game: Game, groups: Sequence[Sequence[int]]) -> None:
        self.groups = partition(groups, number_of_players(game))
        self.game: Any = game
        self.n_players = len(self.groups)
        self._sizes = np.array([len(group) for group in self.groups], dtype=np.intp)
        self._group_of = np.empty(game.n_players, dtype=np.intp)  # (inner players,)
        for index, group in enumerate(self.groups):
            self._group_of[list(group)] = index
        self._empty: NDArray[np.float64] | None = None  # (1,), payoff of the empty coalition

    def __call__(self, coalitions: Coalitions) -> Payoffs:
        payoffs: Payoffs = self.game(np.ascontiguousarray(coalitions[:, self._group_of]))
        return payoffs

    @property
    def prefix_values(self) -> Callable[[Permutations], NDArray[np.float64]]:
        """The inner game's ``prefix_values`` at the boundaries of the groups."""
        inner = self.game.prefix_values
        if hasattr(self.game, "prefix_chunks"):  # evaluates the boundaries only
            return self._prefix_values_by_chunks

        def of_groups(permutations: Permutations) -> NDArray[np.float64]:
            m = len(permutations)
            players = np.array([self._players(row) for row in permutations], np.intp).reshape(m, self.game.n_players)
            sizes = np.concatenate([np.zeros((m, 1), np.intp), np.cumsum(self._sizes[permutations], axis=1)], axis=1)
            values: NDArray[np.float64] = np.take_along_axis(np.asarray(inner(players)), sizes, axis=1)
            return values

        return of_groups

    @property
    def prefix_chunks(self) -> Callable[[NDArray[np.intp], Sequence[int]], Iterator[NDArray[np.float64]]]:
        """The inner game's ``prefix_chunks`` at the boundaries of the groups."""
        inner = self.game.prefix_chunks

        def of_groups(permutation: NDArray[np.intp], sizes: Sequence[int]) -> Iterator[NDArray[np.float64]]:
            boundaries = np.cumsum(self._sizes[permutation])
            chunks: Iterator[NDArray[np.float64]] = inner(
                np.array(self._players(permutation), dtype=np.intp), [int(boundaries[size - 1]) for size in sizes]
            )
            return chunks

        return of_groups

    def _prefix_values_by_chunks(self, permutations: Permutations) -> NDArray[np.float64]:
        if self._empty is None:
            self._empty = np.asarray(self.game(np.zeros((1, self.game.n_players), dtype=bool)), dtype=np.float64)
        sizes = range(1, self.n_players + 1)
        return np.array([np.concatenate([self._empty, *self.prefix_chunks(row, sizes)]) for row in permutations])

    @property
    def marginal_bounds(self) -> Callable[[], Bounds]:
        """Sums of the inner game's ``marginal_bounds`` over each group."""
        inner = self.game.marginal_bounds

        def of_groups() -> Bounds:
            bounds = checked_bounds(inner(), self.game.n_players)
            low, high = (np.bincount(self._group_of, bound, self.n_players).astype(np.float64) for bound in bounds)
            return low, high

        return of_groups

    @property
    def configuration(self) -> Callable[[], Mapping[str, Any]]:
        """That of the inner game, with the groups."""
        inner = self.game.configuration
        return lambda: {**inner(), "groups": [list(group) for group in self.groups]}

    def _players(self, permutation: NDArray[np.intp]) -> list[int]:
        return [player for group in permutation for player in self.groups[group]]


class CachedGame:
    """A game that evaluates each coalition of a deterministic game at most once.

    It has ``marginal_bounds``, ``pop_training_variance`` and ``configuration`` if the inner game has; prefixes are
    evaluated coalition by coalition.

    Args:
        game: the deterministic game.

    Attributes:
        n_evaluations: distinct coalitions evaluated by the inner game.
        n_requests: coalitions requested from this game.

    Example:
        >>> game = CachedGame(FunctionGame(lambda coalitions: coalitions.sum(axis=1) * 1.0, n_players=2))
        >>> game(np.array([[True, False], [True, False], [True, True]])).tolist()
        [1.0, 1.0, 2.0]
        >>> game.n_evaluations, game.n_requests
        (2, 3)
    """

    marginal_bounds = _of_inner_game("marginal_bounds")
    pop_training_variance = _of_inner_game("pop_training_variance")
    configuration = _of_inner_game("configuration")

    def __init__(self, game: Game) -> None:
        self.n_players = number_of_players(game)
        self.game: Any = game
        self.n_evaluations = 0
        self.n_requests = 0
        self._payoffs: dict[bytes, float] = {}

    def __call__(self, coalitions: Coalitions) -> Payoffs:
        keys = [row.tobytes() for row in np.packbits(coalitions, axis=1)]
        rows_of_new = {key: row for row, key in reversed(list(enumerate(keys))) if key not in self._payoffs}
        if rows_of_new:
            new = np.fromiter(rows_of_new.values(), dtype=np.intp)
            payoffs = evaluate(self.game, coalitions[new])
            self._payoffs.update(zip(rows_of_new, payoffs.tolist(), strict=True))
            self.n_evaluations += len(new)
        self.n_requests += len(keys)
        return np.array([self._payoffs[key] for key in keys], dtype=np.float64)


def partition(groups: Sequence[Sequence[int]], n_players: int) -> tuple[tuple[int, ...], ...]:
    """``groups`` as tuples; raises InputError unless every player is in exactly one of them."""
    expected = f"a partition of the players 0..{n_players - 1}, one sequence of integers per group"
    try:
        integers = all(is_integer(player) for group in groups for player in group)
    except TypeError:  # not a sequence of sequences
        integers = False
    if not integers:
        raise InputError("groups", got=reprlib.repr(groups), expected=expected)
    parts = tuple(tuple(int(player) for player in group) for group in groups)
    named = [player for part in parts for player in part]
    unknown, missing = set(named) - set(range(n_players)), set(range(n_players)) - set(named)
    repeated = sorted(player for player, count in Counter(named).items() if count > 1)
    problems = {
        "an empty group": any(not part for part in parts),
        f"players that do not exist: {sorted(unknown)}": unknown,
        f"players in two groups: {repeated}": repeated,
        f"players in no group: {sorted(missing)}": missing,
    }
    for problem, found in problems.items():
        if found:
            raise InputError("groups", got=problem, expected=expected)
    return parts
