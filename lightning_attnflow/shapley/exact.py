"""Exact Shapley values from the payoffs of all coalitions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.game import Coalitions, Game, evaluate, number_of_players
from lightning_attnflow.shapley.result import ShapleyResult

MAX_EXACT_PLAYERS = 20  # 2^20 coalitions
_BLOCK = 2**16  # coalitions in one call of the game


def exact_shapley(game: Game) -> ShapleyResult:
    """Shapley values from all 2^n coalitions.

    Args:
        game: a game of at most 20 players.

    Returns:
        The values, with standard error 0.

    Raises:
        InputError: the game has more than 20 players.
        GameError: the game raises or returns an invalid payoff.

    Source: Shapley (1953), A value for n-person games.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> majority = FunctionGame(lambda coalitions: coalitions @ np.array([2, 1, 1]) > 2, n_players=3)
        >>> exact_shapley(majority).values.round(4).tolist()
        [0.6667, 0.1667, 0.1667]
    """
    table = coalition_table(game)
    values = shapley_from_table(table)
    return ShapleyResult(
        values=values,
        stderr=np.zeros_like(values),
        counts=np.full(len(values), len(table) // 2, dtype=np.int64),
        v_empty=float(table[0]),
        v_full=float(table[-1]),
        method="exact_shapley",
        n_evaluations=len(table),
    )


def coalition_table(game: Game) -> NDArray[np.float64]:
    """The payoffs of all coalitions, (2^n,); bit i of an index is set if player i is present."""
    n = number_of_players(game)
    if n > MAX_EXACT_PLAYERS:
        raise InputError(
            "players",
            got=n,
            expected=f"at most {MAX_EXACT_PLAYERS} for all 2^n coalitions",
            remedy="Group the players with GroupedGame, or sample with permutation_shapley.",
        )
    total = 2**n
    table = np.empty(total)
    for start in range(0, total, _BLOCK):
        indices = np.arange(start, min(start + _BLOCK, total))
        table[indices] = evaluate(game, coalitions_of(indices, n))
    return table


def coalitions_of(indices: NDArray[np.intp], n_players: int) -> Coalitions:
    """The coalitions of bit patterns (m,), bool (m, n)."""
    bits: Coalitions = (indices[:, None] >> np.arange(n_players)) & 1 == 1
    return bits


def shapley_from_table(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shapley values (n,) from the payoffs of all coalitions.

    Args:
        table: float (2^n,); bit i of an index is set if player i is present.

    Example:
        >>> shapley_from_table(np.array([0.0, 1.0, 2.0, 5.0])).tolist()
        [2.0, 3.0]
    """
    n = len(table).bit_length() - 1
    sizes = coalition_sizes(max(n - 1, 0))  # (2^(n-1),) of the coalitions of the other players
    weights = np.array([1 / (n * math.comb(n - 1, size)) for size in range(n)])
    values = np.empty(n)
    for player in range(n):
        split = table.reshape(-1, 2, 2**player)  # axis 1: without and with the player
        values[player] = (weights[sizes] * (split[:, 1] - split[:, 0]).ravel()).sum()
    return values


def coalition_sizes(n_players: int) -> NDArray[np.intp]:
    """Number of players in each of the 2^n coalitions, (2^n,)."""
    sizes = np.zeros(1, dtype=np.intp)
    for _ in range(n_players):
        sizes = np.concatenate([sizes, sizes + 1])
    return sizes
