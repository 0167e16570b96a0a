"""The estimator for a budget: exact, stratified or antithetic, by their measured crossover."""

from __future__ import annotations

import numpy as np

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.exact import MAX_EXACT_PLAYERS, exact_shapley
from lightning_attnflow.shapley.game import Game
from lightning_attnflow.shapley.layers import minimum_budget
from lightning_attnflow.shapley.permutation import permutation_shapley
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.stopping import MaxEvaluations
from lightning_attnflow.shapley.stratified import stratified_shapley

_STRATIFIED_FROM = 4  # evaluations a player; recipes/benchmarks/estimators.py prints where the two cross


def shapley(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Shapley values for a number of evaluations, by the estimator that does best with it.

    All 2^n coalitions if the budget covers them (up to 20 players), else stratified sampling from four evaluations a
    player on, else antithetic orders. ``method`` of the result says which it was.

    Args:
        game: the game.
        budget: evaluations to spend at most; at least 2 n, what one antithetic pair takes.
        seed: of the draw.

    Returns:
        The values.

    Raises:
        InputError: if the budget is below the minimum, which the message names.
        GameError: if the game raises or returns what is not a payoff.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> root = FunctionGame(lambda coalitions: np.sqrt(coalitions.sum(axis=1)), n_players=16)
        >>> [shapley(root, budget=budget).method for budget in (2**16, 100, 40)]
        ['exact_shapley', 'stratified_shapley', 'permutation_shapley(antithetic)']
    """
    n = game.n_players
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)):
        raise InputError("budget", got=repr(budget), expected="an integer", remedy="Pass a number of evaluations.")
    if n <= MAX_EXACT_PLAYERS and budget >= 2**n:
        return exact_shapley(game)
    if budget >= max(_STRATIFIED_FROM * n, minimum_budget(n)):
        return stratified_shapley(game, budget=int(budget), seed=seed)
    if budget < 2 * n:
        raise InputError(
            "budget", got=budget, expected=f"at least {min(2 * n, 2**n)}", remedy="Raise it, or group the players."
        )
    return permutation_shapley(game, stop=MaxEvaluations(int(budget)), seed=seed)
