"""The estimator for a budget: exact, Bayesian quadrature, stratified or antithetic, by what measured best."""

from __future__ import annotations

from lightning_attnflow._checks import check_seed, is_integer
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.coalition_sampling import minimum_budget
from lightning_attnflow.shapley.exact import MAX_EXACT_PLAYERS, exact_shapley
from lightning_attnflow.shapley.game import Game, number_of_players
from lightning_attnflow.shapley.permutation import permutation_shapley
from lightning_attnflow.shapley.quadrature import MAX_PAIRS, MAX_PLAYERS, quadrature_shapley
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.stopping import MaxEvaluations
from lightning_attnflow.shapley.stratified import stratified_shapley

_STRATIFIED_FROM = 8000
"""About where the error of stratified sampling, which falls with the root of the budget, is that of quadrature."""


def shapley(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Shapley values for a number of evaluations, by the estimator that does best with it.

    All 2^n coalitions if the budget covers them (up to 20 players), else Bayesian quadrature of at most 4098
    evaluations, which does better than stratified sampling with up to about twice as many; from 8000 on, or over 256
    players, stratified sampling; with 2 n or 2 n + 1 evaluations, too little for either, antithetic orders. ``method``
    of the result says which it was, ``n_evaluations`` what was spent. ``recipes/benchmarks/estimators.py`` compares
    them with each other and with other libraries, ``recipes/benchmarks/coverage.py`` prints how often intervals hold.

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
        >>> import numpy as np
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> root = FunctionGame(lambda coalitions: np.sqrt(coalitions.sum(axis=1)), n_players=16)
        >>> [shapley(root, budget=budget).method for budget in (2**16, 9000, 100, 32)]
        ['exact_shapley', 'stratified_shapley', 'quadrature_shapley', 'permutation_shapley(antithetic)']
    """
    check_seed(seed)
    n = number_of_players(game)
    if not is_integer(budget):
        raise InputError("budget", got=repr(budget), expected="an integer", remedy="Pass a number of evaluations.")
    if n <= MAX_EXACT_PLAYERS and budget >= 2**n:
        return exact_shapley(game)
    if budget < 2 * n:
        raise InputError(
            "budget", got=budget, expected=f"at least {min(2 * n, 2**n)}", remedy="Raise it, or group the players."
        )
    if budget < minimum_budget(n):
        return permutation_shapley(game, stop=MaxEvaluations(int(budget)), seed=seed)
    if n > MAX_PLAYERS or budget >= _STRATIFIED_FROM:
        return stratified_shapley(game, budget=int(budget), seed=seed)
    return quadrature_shapley(game, budget=min(int(budget), 2 + 2 * MAX_PAIRS), seed=seed)
