"""The flow values of one layer from its game alone, whatever solver plays it. The native engine replaces only this."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lightning_attnflow.attention.network import Floats
from lightning_attnflow.flow.game import FlowGame
from lightning_attnflow.shapley import Game, GroupedGame, IntervalBelow, exact_shapley, permutation_shapley

EXACT_PLAYERS = 10
"""Up to here all 2^n coalitions are cheaper than the orders that a usual tolerance needs."""

Groups = Sequence[Sequence[int]]


class LayerFlow(NamedTuple):
    """Values of the n players of one layer, in units of flow."""

    values: Floats
    lower: Floats
    upper: Floats
    stderr: Floats
    low: Floats
    high: Floats
    total: float
    n_orders: int


def point_values(values: Floats, lower: Floats, upper: Floats, total: float) -> LayerFlow:
    """Return values that are exact: standard error 0, an interval of one point."""
    return LayerFlow(values, lower, upper, np.zeros_like(values), values, values, total, 0)


def layer_flow(flow_game: FlowGame, groups: Groups | None, method: str, tolerance: float, seed: int) -> LayerFlow:
    """Return the pairwise or the Shapley flow of one layer, with what bounds every maximum flow.

    Args:
        flow_game: the game of the layer.
        groups: a partition of the positions, or None for the positions themselves.
        method: "pairwise" or "shapley".
        tolerance: half-width of the 95% interval at which sampling stops.
        seed: of the orders.
    """
    game: Game = flow_game if groups is None else GroupedGame(flow_game, groups)
    n = game.n_players
    alone = np.eye(n, dtype=bool)
    payoffs = game(np.concatenate([alone, ~alone, np.ones((1, n), dtype=bool)]))  # (2n + 1,)
    upper, total = payoffs[:n], float(payoffs[-1])
    lower = total - payoffs[n:-1]
    if method == "pairwise":
        return point_values(upper, lower, upper, total)
    if n <= EXACT_PLAYERS:
        return point_values(exact_shapley(game).values, lower, upper, total)
    if flow_game.is_submodular and np.array_equal(lower, upper):
        return point_values(upper, lower, upper, total)
    result = permutation_shapley(game, stop=IntervalBelow(tolerance), seed=seed)
    low, high = result.interval()
    return LayerFlow(result.values, lower, upper, result.stderr, low, high, total, result.n_permutations)
