"""Data Banzhaf: the mean marginal over all coalitions, each as likely as any other."""

from __future__ import annotations

import numpy as np

from lightning_attnflow._checks import check_seed
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import Game, ShapleyResult
from lightning_attnflow.shapley.game import evaluate, evaluate_empty_and_full
from lightning_attnflow.valuation.checks import positive_integer

_BLOCK = 1024  # coalitions drawn at once
_BANZHAF_STREAM = 2  # spawn key that keeps these draws apart from the orders of a run with the same seed


def data_banzhaf(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Banzhaf values by maximum sample reuse: every sampled coalition tells about every player.

    The estimate of a player is the mean payoff of the coalitions with it minus that of those without.

    Args:
        game: the game.
        budget: coalitions to evaluate; at least 4, so that the difference has a standard error.
        seed: of the coalitions.

    Returns:
        A result of method ``data_banzhaf``; Banzhaf values do not add up to v(N).

    Raises:
        InputError: if the budget is too small.
        GameError: if the game raises or returns what is not a payoff.

    Source: Wang & Jia (2023), Data Banzhaf.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> additive = FunctionGame(lambda coalitions: coalitions @ np.array([1.0, 3.0]), n_players=2)
        >>> result = data_banzhaf(additive, budget=20_000)
        >>> bool((abs(result.values - [1, 3]) < 4 * result.stderr).all())
        True
    """
    if positive_integer("budget", budget) < 4:
        raise InputError("budget", got=budget, expected="at least 4", remedy="Pass budget=10_000.")
    n = game.n_players
    generator = np.random.Generator(
        np.random.PCG64(np.random.SeedSequence(check_seed(seed), spawn_key=(0, _BANZHAF_STREAM)))
    )
    v_empty, v_full = evaluate_empty_and_full(game)
    count, total, squares = np.zeros((2, n)), np.zeros((2, n)), np.zeros((2, n))  # without, with
    for start in range(0, budget, _BLOCK):
        coalitions = generator.random((min(_BLOCK, budget - start), n)) < 0.5
        payoffs = evaluate(game, coalitions) - v_empty  # shifted: squares lose fewer digits
        for side, here in enumerate((~coalitions, coalitions)):
            count[side] += here.sum(axis=0)
            total[side] += payoffs @ here
            squares[side] += payoffs**2 @ here
    if (count < 2).any():
        raise InputError(
            "budget", got=budget, expected="two coalitions with and without each player", remedy="Raise the budget."
        )
    mean = total / count
    variance = (squares / count - mean**2).clip(min=0) * count / (count - 1)
    return ShapleyResult(
        values=mean[1] - mean[0],
        stderr=np.sqrt((variance / count).sum(axis=0)),
        counts=np.full(n, budget, dtype=np.int64),
        v_empty=v_empty,
        v_full=v_full,
        method="data_banzhaf",
        seed=seed,
        n_evaluations=budget + 2,
    )
