"""Automatic choice of the estimator for a budget."""

from __future__ import annotations

from lightning_attnflow._checks import check_integer, check_seed
from lightning_attnflow.shapley.coalition_sampling import minimum_budget
from lightning_attnflow.shapley.exact import MAX_EXACT_PLAYERS, exact_shapley
from lightning_attnflow.shapley.game import Game, number_of_players
from lightning_attnflow.shapley.permutation import permutation_shapley
from lightning_attnflow.shapley.quadrature import MAX_PAIRS, MAX_PLAYERS, quadrature_shapley
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.stopping_criteria import MaxEvaluations
from lightning_attnflow.shapley.stratified import stratified_shapley

_STRATIFIED_FROM = 8000
"""Budget at which stratified sampling has about the error of quadrature with its maximum of 4098 evaluations."""


def shapley(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Shapley values with an estimator chosen by the budget and the number of players.

    - All 2^n coalitions if the budget covers them (up to 20 players): `exact_shapley`.
    - 2 n or 2 n + 1 evaluations: `permutation_shapley` with antithetic pairs.
    - Up to 256 players and fewer than 8000 evaluations: `quadrature_shapley` with at most 4098 evaluations.
    - Otherwise: `stratified_shapley`.

    The result's ``method`` and ``n_evaluations`` state the choice. It usually has the lowest error, but not always:
    with fewer than four evaluations per player, or fewer than ten from 257 players on, `permutation_shapley` is often
    closer to the values, with wider intervals. ``recipes/benchmarks/estimators.py`` compares the estimators with each
    other and with other libraries, ``recipes/benchmarks/coverage.py`` measures the coverage of the intervals.

    Args:
        game: the game.
        budget: maximum number of evaluations; at least 2 n, for one antithetic pair.
        seed: of the sampled coalitions.

    Returns:
        The values.

    Raises:
        InputError: the budget is below the minimum, which the message states.
        GameError: the game raises or returns an invalid payoff.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> root = FunctionGame(lambda coalitions: np.sqrt(coalitions.sum(axis=1)), n_players=16)
        >>> [shapley(root, budget=budget).method for budget in (2**16, 9000, 100, 32)]
        ['exact_shapley', 'stratified_shapley', 'quadrature_shapley', 'permutation_shapley(antithetic)']
    """
    check_seed(seed)
    n = number_of_players(game)
    budget = check_integer("budget", budget, minimum=min(2 * n, 2**n), remedy="Raise it, or group the players.")
    if n <= MAX_EXACT_PLAYERS and budget >= 2**n:
        return exact_shapley(game)
    if budget < minimum_budget(n):
        return permutation_shapley(game, stop=MaxEvaluations(budget), seed=seed)
    if n > MAX_PLAYERS or budget >= _STRATIFIED_FROM:
        return stratified_shapley(game, budget=budget, seed=seed)
    return quadrature_shapley(game, budget=min(budget, 2 + 2 * MAX_PAIRS), seed=seed)
