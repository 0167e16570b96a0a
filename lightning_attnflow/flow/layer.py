"""The flow values of one layer from its game alone, whatever solver plays it. The native engine replaces only this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.network import Floats
from lightning_attnflow.flow.game import FlowGame
from lightning_attnflow.shapley import Game, GroupedGame, IntervalBelow, exact_shapley, permutation_shapley

EXACT_PLAYERS = 10
"""Up to here all 2^n coalitions are cheaper than the orders that a usual tolerance needs."""

Groups = Sequence[Sequence[int]]
Bools = NDArray[np.bool_]


class LayerFlow(NamedTuple):
    """Values of the n players of one layer, in units of flow."""

    values: Floats
    lower: Floats
    upper: Floats
    stderr: Floats
    low: Floats
    high: Floats
    total: float
    n_permutations: int


def point_values(values: Floats, lower: Floats, upper: Floats, total: float) -> LayerFlow:
    """Return values that are exact: standard error 0, an interval of one point."""
    return LayerFlow(values, lower, upper, np.zeros_like(values), values, values, total, 0)


def layer_flow(flow_game: FlowGame, members: Bools, method: str, tolerance: float, seed: int) -> LayerFlow:
    """Return the Shapley flow of one layer, or else what each player sends alone, with what bounds every maximum flow.

    Args:
        flow_game: the game of the layer.
        members: bool (n, T), the positions of each player.
        method: "shapley" for Shapley values.
        tolerance: half-width of the 95% interval at which sampling stops.
        seed: of the orders.
    """
    in_place = np.array_equal(members, np.eye(flow_game.n_players, dtype=bool))
    game: Game = flow_game if in_place else GroupedGame(flow_game, [np.flatnonzero(row).tolist() for row in members])
    n = game.n_players
    alone = np.eye(n, dtype=bool)
    payoffs = game(np.concatenate([alone, ~alone, np.ones((1, n), dtype=bool)]))  # (2n + 1,)
    upper, total = payoffs[:n], float(payoffs[-1])
    lower = total - payoffs[n:-1]
    if method != "shapley":
        return point_values(upper, lower, upper, total)
    if n <= EXACT_PLAYERS:
        return point_values(exact_shapley(game).values, lower, upper, total)
    if flow_game.is_submodular and np.array_equal(lower, upper):
        return point_values(upper, lower, upper, total)
    result = permutation_shapley(game, stop=IntervalBelow(tolerance), seed=seed)
    low, high = result.interval()
    return LayerFlow(result.values, lower, upper, result.stderr, low, high, total, result.n_permutations)
