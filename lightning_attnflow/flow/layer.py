"""The flow of one layer from its game alone, for any solver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.head_merging import Floats
from lightning_attnflow.flow.game import FlowGame
from lightning_attnflow.shapley import Game, GroupedGame, IntervalBelow, exact_shapley, permutation_shapley

EXACT_PLAYERS = 10
"""With at most this many players, all 2^n coalitions cost less than the permutations for a usual tolerance."""

Groups = Sequence[Sequence[int]]
Bools = NDArray[np.bool_]


class LayerFlow(NamedTuple):
    """Values of the n players of one layer, in units of flow; fields as in `AttentionFlow`."""

    values: Floats
    lower: Floats
    upper: Floats
    stderr: Floats
    low: Floats
    high: Floats
    total: float
    n_permutations: int


class Tolerance(NamedTuple):
    """Half-width of 95% intervals at which sampling stops: a share of the mean value of the players, or absolute."""

    width: float
    absolute: bool

    def of(self, total: float, n_players: int) -> float:
        """Return the half-width in units of flow."""
        return self.width if self.absolute else self.width * total / n_players


def exact_flow(values: Floats, lower: Floats, upper: Floats, total: float) -> LayerFlow:
    """Return a `LayerFlow` without sampling error."""
    return LayerFlow(values, lower, upper, np.zeros_like(values), values, values, total, 0)


def layer_flow(flow_game: FlowGame, members: Bools, method: str, tolerance: Tolerance, seed: int) -> LayerFlow:
    """Return the flow of one layer: Shapley values, or the value of each player alone.

    Args:
        flow_game: the game of the layer.
        members: bool (n, T), the positions of each player.
        method: "shapley" for Shapley values.
        tolerance: half-width of the 95% intervals at which sampling stops.
        seed: of the permutations.
    """
    in_place = np.array_equal(members, np.eye(flow_game.n_players, dtype=bool))
    game: Game = flow_game if in_place else GroupedGame(flow_game, [np.flatnonzero(row).tolist() for row in members])
    n = game.n_players
    alone = np.eye(n, dtype=bool)
    payoffs = game(np.concatenate([alone, ~alone, np.ones((1, n), dtype=bool)]))  # (2n + 1,)
    upper, total = payoffs[:n], float(payoffs[-1])
    lower = total - payoffs[n:-1]
    if method != "shapley":
        return exact_flow(upper, lower, upper, total)
    if total == 0:
        return exact_flow(np.zeros(n), lower, upper, total)
    if n <= EXACT_PLAYERS:
        return exact_flow(exact_shapley(game).values, lower, upper, total)
    if flow_game.is_submodular and np.array_equal(lower, upper):
        return exact_flow(upper, lower, upper, total)
    result = permutation_shapley(game, stop=IntervalBelow(tolerance.of(total, n)), seed=seed)
    low, high = result.interval()
    return LayerFlow(result.values, lower, upper, result.stderr, low, high, total, result.n_permutations)
