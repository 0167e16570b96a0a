"""Cooperative games: who plays, what a coalition is paid, and three ways to wrap a game.

A game is any object with ``n_players`` and a call that maps coalitions, bool (m, n), to payoffs, float64 (m,).
Shapley (1953) takes v(empty) = 0; here v(empty) is whatever the game pays and every method subtracts it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import is_integer
from lightning_attnflow.errors import GameError, InputError

Coalitions = NDArray[np.bool_]  # (m, n), True = the player is present
Payoffs = NDArray[np.float64]  # (m,)
Permutations = NDArray[np.intp]  # (m, n), each row a permutation of the players

BLOCK_BYTES = 64 * 2**20  # coalitions handed to a game in one call take at most this much memory


@runtime_checkable
class Game(Protocol):
    """Any object with ``n_players`` and a call from coalitions to payoffs.

    Two optional members are used when present: ``prefix_values(orders (m, n)) -> (m, n + 1)``, the payoffs of all
    prefixes of each order, column 0 being v(empty), when that is cheaper than asking for each coalition; and
    ``marginal_bounds() -> (low (n,), high (n,))``, a range that every marginal of a player is proven to lie in.
    """

    @property
    def n_players(self) -> int: ...

    def __call__(self, coalitions: Coalitions, /) -> Payoffs: ...


class FunctionGame:
    """A function of coalitions as a game.

    Args:
        function: maps bool (m, n_players) to float (m,).
        n_players: number of players, >= 0.

    Raises:
        InputError: if ``function`` is not callable or ``n_players`` is not an integer >= 0.

    Example:
        >>> game = FunctionGame(lambda coalitions: coalitions.sum(axis=1) ** 2.0, n_players=3)
        >>> game(np.array([[True, True, False]])).tolist()
        [4.0]
    """

    def __init__(self, function: Callable[[Coalitions], Payoffs], n_players: int) -> None:
        if not callable(function):
            raise InputError(
                "function",
                got=type(function).__name__,
                expected="a callable from bool (m, n) to float (m,)",
                remedy="Pass the payoff function itself.",
            )
        self._function = function
        self.n_players = player_count(n_players)

    def __call__(self, coalitions: Coalitions) -> Payoffs:
        return self._function(coalitions)


class GroupedGame:
    """The quotient game of a partition: a group is in or out as a whole.

    Args:
        game: the game of the single players.
        groups: sequence of sequences of player indices; every player is in exactly one group.

    Raises:
        InputError: if the groups are empty, overlap, miss a player or name one that does not exist.

    Source: Owen (1977), Values of games with a priori unions (the quotient game).

    Example:
        >>> inner = FunctionGame(lambda coalitions: coalitions @ np.array([1.0, 2.0, 4.0]), n_players=3)
        >>> GroupedGame(inner, [[0, 2], [1]])(np.array([[True, False]])).tolist()
        [5.0]
    """

    def __init__(self, game: Game, groups: Sequence[Sequence[int]]) -> None:
        self.game = game
        self.groups = partition(groups, number_of_players(game))
        self.n_players = len(self.groups)
        self._group_of = np.empty(game.n_players, dtype=np.intp)  # (inner players,)
        for index, group in enumerate(self.groups):
            self._group_of[list(group)] = index

    def __call__(self, coalitions: Coalitions) -> Payoffs:
        return self.game(np.ascontiguousarray(coalitions[:, self._group_of]))

    @property
    def prefix_values(self) -> Callable[[Permutations], NDArray[np.float64]] | None:
        """The inner game's ``prefix_values`` read at the group boundaries, or None if it has none."""
        inner = getattr(self.game, "prefix_values", None)
        if inner is None:
            return None
        sizes = np.array([len(group) for group in self.groups], dtype=np.intp)

        def of_groups(orders: Permutations) -> NDArray[np.float64]:
            players = np.array(
                [[player for group in order for player in self.groups[group]] for order in orders], dtype=np.intp
            ).reshape(len(orders), self.game.n_players)
            ends = np.concatenate([np.zeros((len(orders), 1), np.intp), np.cumsum(sizes[orders], axis=1)], axis=1)
            values: NDArray[np.float64] = np.take_along_axis(np.asarray(inner(players)), ends, axis=1)
            return values

        return of_groups


class CachedGame:
    """A game that asks the game inside at most once for each coalition.

    Args:
        game: the game to remember the payoffs of; it must be deterministic.

    Attributes:
        n_evaluations: distinct coalitions that the game inside has been asked for.
        n_requests: coalitions this game has been asked for.

    Example:
        >>> game = CachedGame(FunctionGame(lambda coalitions: coalitions.sum(axis=1) * 1.0, n_players=2))
        >>> game(np.array([[True, False], [True, False], [True, True]])).tolist()
        [1.0, 1.0, 2.0]
        >>> game.n_evaluations, game.n_requests
        (2, 3)
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self.n_players = number_of_players(game)
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


def evaluate(game: Game, coalitions: Coalitions) -> Payoffs:
    """Ask a game for the payoffs of coalitions, in blocks, and check what it returns.

    Args:
        game: the game.
        coalitions: bool (m, n_players).

    Returns:
        float64 (m,).

    Raises:
        GameError: if the game raises, or returns another shape or a payoff that is not a finite real number; the error
            carries the coalition, or the first one where the shape is wrong.

    Example:
        >>> evaluate(FunctionGame(lambda coalitions: coalitions.sum(axis=1), n_players=2), np.eye(2, dtype=bool))
        array([1., 1.])
    """
    rows = max(1, BLOCK_BYTES // max(1, game.n_players))
    blocks = [_evaluate_block(game, coalitions[start : start + rows]) for start in range(0, len(coalitions), rows)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def evaluate_empty_and_full(game: Game) -> tuple[float, float]:
    """The payoffs v(empty) and v(N); one evaluation if there is no player, else two."""
    players = game.n_players
    ends = evaluate(game, np.array([[False] * players, [True] * players], dtype=bool)[: 1 if players == 0 else 2])
    return float(ends[0]), float(ends[-1])


def number_of_players(game: Game) -> int:
    """The number of players of what has to be a game."""
    if not callable(game) or not hasattr(game, "n_players"):
        raise InputError(
            "game",
            got=type(game).__name__,
            expected="an object with n_players and a call from coalitions to payoffs",
            remedy="Wrap a function in FunctionGame.",
        )
    return player_count(game.n_players)


def player_count(value: object) -> int:
    """``value`` as a number of players, an integer >= 0."""
    if not is_integer(value) or value < 0:
        raise InputError("n_players", got=repr(value), expected="an integer >= 0", remedy="Pass the number of players.")
    return int(value)


def real_numbers(what: str, returned: object) -> NDArray[np.float64]:
    """What a game returned, as float64; not complex numbers, of which NumPy would keep the real part."""
    try:
        numbers = np.asarray(returned)
        if np.iscomplexobj(numbers):
            raise TypeError("complex numbers")
        return np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        got = f"{type(returned).__name__!r}, {error}"
        raise GameError(what, got=got, expected="real numbers", remedy="Return one number a coalition.") from error


def _evaluate_block(game: Game, coalitions: Coalitions) -> Payoffs:
    try:
        returned = game(coalitions)
    except GameError:
        raise
    except Exception as error:
        raise _raised(game, coalitions, error) from error
    payoffs = real_numbers("payoffs", returned)
    if payoffs.shape != (len(coalitions),):
        raise GameError.of_coalition(
            "payoffs",
            np.flatnonzero(coalitions[0]).tolist(),
            got=f"shape {payoffs.shape} for {len(coalitions)} coalitions, of which this is the first",
            expected=f"shape ({len(coalitions)},)",
            remedy="Return one payoff a coalition.",
        )
    if not np.isfinite(payoffs).all():
        row = int(np.flatnonzero(~np.isfinite(payoffs))[0])
        raise GameError.of_coalition(
            "payoff",
            np.flatnonzero(coalitions[row]).tolist(),
            got=payoffs[row],
            expected="a finite number",
            remedy="Make the payoff defined for this coalition.",
        )
    return payoffs


def _raised(game: Game, coalitions: Coalitions, error: Exception) -> GameError:
    """The error for a game that raised, with the coalition found by bisection of the batch."""
    facts = {
        "got": f"{type(error).__name__}: {error}",
        "expected": "a payoff",
        "remedy": "Make the payoff defined for this coalition.",
    }
    while len(coalitions) > 1:
        half = len(coalitions) // 2
        for part in (coalitions[:half], coalitions[half:]):
            try:
                game(part)
            except Exception:
                coalitions = part
                break
        else:  # only the whole batch fails, so no single coalition is to blame
            return GameError("payoff raised on a batch", **facts)
    return GameError.of_coalition("payoff raised", np.flatnonzero(coalitions[0]).tolist(), **facts)


def partition(groups: Sequence[Sequence[int]], n_players: int) -> tuple[tuple[int, ...], ...]:
    """``groups`` as tuples, if every player is in exactly one of them."""
    try:
        integers = all(is_integer(player) for group in groups for player in group)
    except TypeError:  # no sequence of sequences
        integers = False
    if not integers:
        raise InputError(
            "groups",
            got=repr(groups),
            expected=f"a partition of the players 0..{n_players - 1}, a sequence of integers a group",
            remedy="Pass one list of players a group, such as [[0, 1], [2]].",
        )
    parts = tuple(tuple(int(player) for player in group) for group in groups)
    named = [player for part in parts for player in part]
    problems = {
        "an empty group": any(not part for part in parts),
        f"players that do not exist: {sorted(set(named) - set(range(n_players)))}": set(named) - set(range(n_players)),
        f"players in two groups: {sorted({p for p in named if named.count(p) > 1})}": len(set(named)) < len(named),
        f"players in no group: {sorted(set(range(n_players)) - set(named))}": set(range(n_players)) - set(named),
    }
    for problem, found in problems.items():
        if found:
            raise InputError(
                "groups",
                got=problem,
                expected=f"a partition of the players 0..{n_players - 1}",
                remedy="Put every player into exactly one group.",
            )
    return parts
