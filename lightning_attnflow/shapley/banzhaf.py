"""Banzhaf values by maximum sample reuse (Wang & Jia 2023): every payoff contributes to the value of every player."""

from __future__ import annotations

import numpy as np

from lightning_attnflow._checks import check_integer, check_seed
from lightning_attnflow.shapley.exact import MAX_EXACT_PLAYERS, coalition_table
from lightning_attnflow.shapley.game import BLOCK_BYTES, Game, evaluate, evaluate_empty_and_full, number_of_players
from lightning_attnflow.shapley.intervals import MIN_IDENTICAL_SAMPLES, RULE_OF_THREE, is_rounding
from lightning_attnflow.shapley.result import ShapleyResult

_MIN_SAMPLES = 4


def banzhaf(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Banzhaf values: ``values[i] = mean of v(S) with i - mean of v(S) without i``.

    The means are over coalitions that contain each player with probability 1/2. The result is exact if the budget
    covers all 2^n coalitions. Banzhaf values do not add up to v(N) - v(empty).

    Args:
        game: the game.
        budget: maximum number of evaluations, including v(empty) and v(N), which are part of the result.
        seed: of the coalitions.

    Returns:
        The values. The standard error of a player that is in all or in none of the coalitions is infinite, and so are
        all standard errors while fewer than 60 payoffs, all equal, have been drawn.

    Raises:
        InputError: the budget is below the minimum, which the message states.
        GameError: the game raises or returns an invalid payoff.

    Source: Banzhaf (1965); Wang & Jia (2023), Data Banzhaf: a robust data valuation framework for machine learning.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> majority = FunctionGame(lambda coalitions: coalitions @ np.array([2, 1, 1]) > 2, n_players=3)
        >>> banzhaf(majority, budget=8).values.round(4).tolist()
        [0.75, 0.25, 0.25]
    """
    n = number_of_players(game)
    seed = check_seed(seed)
    budget = check_integer("budget", budget, minimum=min(2**n, 2 + _MIN_SAMPLES))
    if n <= MAX_EXACT_PLAYERS and budget >= 2**n:
        return _exact(game)
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    m, rows = budget - 2, max(1, BLOCK_BYTES // (8 * n))  # the generator returns 8 bytes per player
    counts, sums = np.zeros((2, n)), np.zeros((2, n))  # without and with each player
    shift, total, squares, low, high = 0.0, 0.0, 0.0, np.inf, -np.inf
    for start in range(0, m, rows):
        coalitions = generator.random((min(rows, m - start), n)) < 0.5
        payoffs = evaluate(game, coalitions)
        if start == 0:
            shift = float(payoffs.mean())  # sums of squares of centred payoffs lose fewer digits
        centred = payoffs - shift
        for side, present in enumerate((~coalitions, coalitions)):
            counts[side] += present.sum(axis=0)
            sums[side] += centred @ present
        total, squares = total + float(centred.sum()), squares + float(centred @ centred)
        low, high = min(low, float(payoffs.min())), max(high, float(payoffs.max()))
    v_empty, v_full = evaluate_empty_and_full(game)
    mean = shift + total / m
    largest = max(high - mean, mean - low)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / counts
        residuals = squares - counts[1] * means[1] ** 2 - counts[0] * means[0] ** 2
        # As in `permutation_interval`: three unseen payoffs, by the rule of three, at the largest distance seen.
        residuals = np.maximum(residuals, 0.0) + RULE_OF_THREE * largest**2
        stderr = np.sqrt(residuals / (m - 2) * (1 / counts[1] + 1 / counts[0]))
    if m < MIN_IDENTICAL_SAMPLES and is_rounding(largest, max(abs(low), abs(high))):
        stderr[:] = np.inf
    one_sided = counts.min(axis=0) == 0
    return ShapleyResult(
        values=np.where(one_sided, 0.0, means[1] - means[0]),
        stderr=np.where(one_sided, np.inf, stderr),
        counts=np.full(n, m, dtype=np.int64),
        v_empty=v_empty,
        v_full=v_full,
        method="banzhaf",
        seed=seed,
        n_evaluations=budget,
        degrees=float(m - 2),
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
