"""Banzhaf values: a player's mean marginal over all coalitions alike, by maximum sample reuse (Wang & Jia 2023)."""

from __future__ import annotations

import numpy as np

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.exact import MAX_EXACT_PLAYERS, coalition_table
from lightning_attnflow.shapley.game import Game, evaluate, evaluate_ends
from lightning_attnflow.shapley.orders import check_seed
from lightning_attnflow.shapley.result import ShapleyResult

_FEWEST_SAMPLES = 4


def banzhaf(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Banzhaf values; each payoff counts for every player, as one with or without it.

    ``values[i] = mean of v(S) with i - mean of v(S) without i`` over coalitions in which each player takes part with
    probability 1/2. Exact if the budget covers all 2^n coalitions. The values do not add up to v(N) - v(empty).

    Args:
        game: the game.
        budget: evaluations to spend at most, v(empty) and v(N) among them, which are asked for the record.
        seed: of the draw.

    Raises:
        InputError: if the budget is below the minimum, which the message names.
        GameError: if the game raises or returns what is not a payoff.

    Source: Banzhaf (1965); Wang & Jia (2023), Data Banzhaf: a robust data valuation framework for machine learning.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> majority = FunctionGame(lambda coalitions: coalitions @ np.array([2, 1, 1]) > 2, n_players=3)
        >>> banzhaf(majority, budget=8).values.round(4).tolist()
        [0.75, 0.25, 0.25]
    """
    n = game.n_players
    seed = check_seed(seed)
    minimum = min(2**n, 2 + _FEWEST_SAMPLES)
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)) or budget < minimum:
        raise InputError(
            "budget", got=repr(budget), expected=f"an integer >= {minimum}", remedy=f"Pass budget={minimum} or more."
        )
    if n <= MAX_EXACT_PLAYERS and budget >= 2**n:
        return _exact(game)
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    coalitions = generator.random((budget - 2, n)) < 0.5
    payoffs = evaluate(game, coalitions)
    v_empty, v_full = evaluate_ends(game)
    present = coalitions.sum(axis=0)
    absent = len(coalitions) - present
    values, stderr = np.zeros(n), np.full(n, np.inf)
    centred = payoffs - payoffs.mean()
    for player in range(n):
        with_player, without = centred[coalitions[:, player]], centred[~coalitions[:, player]]
        if min(len(with_player), len(without)) > 0:
            values[player] = with_player.mean() - without.mean()
        if min(len(with_player), len(without)) > 1:
            stderr[player] = np.sqrt(with_player.var(ddof=1) / present[player] + without.var(ddof=1) / absent[player])
    return ShapleyResult(
        values=values,
        stderr=stderr,
        counts=np.full(n, len(coalitions), dtype=np.int64),
        v_empty=v_empty,
        v_full=v_full,
        method="banzhaf",
        seed=seed,
        n_evaluations=int(budget),
    )


def _exact(game: Game) -> ShapleyResult:
    table = coalition_table(game)
    n = game.n_players
    splits = [table.reshape(-1, 2, 2**player) for player in range(n)]  # axis 1: without and with the player
    return ShapleyResult(
        values=np.array([(split[:, 1] - split[:, 0]).mean() for split in splits]).reshape(n),
        stderr=np.zeros(n),
        counts=np.full(n, len(table) // 2, dtype=np.int64),
        v_empty=float(table[0]),
        v_full=float(table[-1]),
        method="banzhaf(exact)",
        n_evaluations=len(table),
    )
