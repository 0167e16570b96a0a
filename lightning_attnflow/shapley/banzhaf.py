"""Banzhaf values: a player's mean marginal over all coalitions alike, by maximum sample reuse (Wang & Jia 2023)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed, is_integer
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.exact import MAX_EXACT_PLAYERS, coalition_table
from lightning_attnflow.shapley.game import Game, evaluate, evaluate_empty_and_full, number_of_players
from lightning_attnflow.shapley.intervals import MIN_IDENTICAL_SAMPLES, RULE_OF_THREE, FloatArray, is_rounding
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
    n = number_of_players(game)
    seed = check_seed(seed)
    minimum = min(2**n, 2 + _FEWEST_SAMPLES)
    if not is_integer(budget) or budget < minimum:
        raise InputError(
            "budget", got=repr(budget), expected=f"an integer >= {minimum}", remedy=f"Pass budget={minimum} or more."
        )
    if n <= MAX_EXACT_PLAYERS and budget >= 2**n:
        return _exact(game)
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    coalitions = generator.random((budget - 2, n)) < 0.5
    payoffs = evaluate(game, coalitions)
    v_empty, v_full = evaluate_empty_and_full(game)
    values, stderr = _differences(coalitions, payoffs)
    return ShapleyResult(
        values=values,
        stderr=stderr,
        counts=np.full(n, len(coalitions), dtype=np.int64),
        v_empty=v_empty,
        v_full=v_full,
        method="banzhaf",
        seed=seed,
        n_evaluations=int(budget),
        degrees=float(len(coalitions) - 2),
    )


def _differences(coalitions: NDArray[np.bool_], payoffs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean payoff with each player less that without, (n,), and the standard error, with what was not seen counted in.

    By the rule of three as in `permutation_interval`: three payoffs more as far from the mean as any. Where all
    payoffs are alike nothing is known of the error until there are enough for the rule to make another one rare.
    """
    centred = payoffs - payoffs.mean()
    m, present = len(coalitions), coalitions.sum(axis=0)
    absent = m - present
    with np.errstate(divide="ignore", invalid="ignore"):
        means = np.stack([centred @ ~coalitions / absent, centred @ coalitions / present])  # (2, n): without, with
        squares = centred @ centred - present * means[1] ** 2 - absent * means[0] ** 2
        unseen = RULE_OF_THREE * np.max(np.abs(centred)) ** 2
        stderr = np.sqrt((np.maximum(squares, 0.0) + unseen) / (m - 2) * (1 / present + 1 / absent))
    one_sided = np.minimum(present, absent) == 0
    if m < MIN_IDENTICAL_SAMPLES and is_rounding(float(np.abs(centred).max()), float(np.abs(payoffs).max())):
        stderr[:] = np.inf
    return np.where(one_sided, 0.0, means[1] - means[0]), np.where(one_sided, np.inf, stderr)


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
