"""Leave-one-out values: the decrease of the payoff when one player is removed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley.game import Game, evaluate, number_of_players


def leave_one_out(game: Game) -> NDArray[np.float64]:
    """``v(N) - v(N - i)`` of each player; a Shapley value only if the game is additive.

    Args:
        game: the game; n + 1 coalitions are evaluated.

    Returns:
        float64 (n_players,).

    Raises:
        GameError: the game raises or returns an invalid payoff.

    Source: Ethayarajh & Jurafsky (2021), Proposition 3.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> majority = FunctionGame(lambda coalitions: coalitions @ np.array([2, 1, 1]) > 2, n_players=3)
        >>> leave_one_out(majority).tolist()
        [1.0, 0.0, 0.0]
    """
    n = number_of_players(game)
    if n == 0:
        return np.empty(0)
    payoffs = evaluate(game, np.concatenate([np.ones((1, n), dtype=bool), ~np.eye(n, dtype=bool)]))
    difference: NDArray[np.float64] = payoffs[0] - payoffs[1:]
    return difference
