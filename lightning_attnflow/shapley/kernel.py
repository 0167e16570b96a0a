"""KernelSHAP: Shapley values as the weighted least-squares fit of an additive game (Lundberg & Lee 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.shapley.coalition_sampling import Layer, differences, draw_layers, hides_its_errors
from lightning_attnflow.shapley.game import Game, evaluate_empty_and_full, number_of_players
from lightning_attnflow.shapley.result import ShapleyResult

FloatArray = NDArray[np.float64]
_LEAST_FREEDOM = 0.1  # of a pair, 1 less its leverage: below, the pair decides its own fit


def kernel_shap(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Shapley values by weighted least squares over pairs of complementary coalitions.

    The additive game ``b(S) = sum of phi_i over S`` with ``b(N) = v(N) - v(empty)`` that fits the payoffs best under
    the weights ``1 / (C(n, s) s (n - s))`` has the Shapley values as its coefficients. Sizes are drawn in proportion to
    their weight, without replacement; a size that the budget covers is taken completely. The draws are evened out
    (``shapley.coalition_sampling``); the standard errors are those of independent ones, which err more, the more so
    the closer the game is to an additive one: ``recipes/benchmarks/coverage.py`` prints by how much.

    Args:
        game: the game.
        budget: evaluations to spend at most, v(empty) and v(N) among them.
        seed: of the draw.

    Returns:
        The values; they are exact, with standard error 0, if the budget covers all coalitions. The estimate is
        consistent, not unbiased; ``stratified_shapley`` is at least as exact on most games. The standard errors are
        infinite with less than three evaluations a player, where the fit has hardly anything to be wrong about, and
        where fewer than sixty pairs all say that every player adds the same.

    Raises:
        InputError: if the budget is below the minimum, which the message names.
        GameError: if the game raises or returns what is not a payoff.

    Source: Lundberg & Lee (2017), A unified approach to interpreting model predictions; Covert & Lee (2021), Improving
    KernelSHAP: practical Shapley value estimation using linear regression.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> majority = FunctionGame(lambda coalitions: coalitions @ np.array([2, 1, 1]) > 2, n_players=3)
        >>> kernel_shap(majority, budget=8).values.round(4).tolist()
        [0.6667, 0.1667, 0.1667]
    """
    n = number_of_players(game)
    generator = np.random.default_rng(np.random.SeedSequence(check_seed(seed)))
    layers = draw_layers(n, budget, generator, lambda size: 1 / (size * (n - size)))
    v_empty, v_full = evaluate_empty_and_full(game)
    found = differences(game, layers)
    values, stderr = _solve(layers, found, v_full - v_empty, n)
    if hides_its_errors(layers, found, (v_empty, v_full)):
        stderr = np.full(n, np.inf)
    pairs = sum(len(layer.coalitions) for layer in layers)
    return ShapleyResult(
        values=values,
        stderr=stderr,
        counts=np.full(n, 2 * pairs, dtype=np.int64),
        v_empty=v_empty,
        v_full=v_full,
        method="kernel_shap",
        seed=int(seed),
        degrees=float(max(pairs - n + 1, 1)),
        n_evaluations=min(2, n + 1) + 2 * pairs,
    )


def _solve(layers: list[Layer], found: list[FloatArray], total: float, n_players: int) -> tuple[FloatArray, FloatArray]:
    """Coefficients (n,) of the constrained fit and their standard errors (n,), jackknifed (MacKinnon & White 1985)."""
    if not layers:
        return np.full(n_players, total), np.zeros(n_players)
    members = np.concatenate([layer.coalitions for layer in layers])
    design = members - members.mean(axis=1, keepdims=True)  # rows add up to 0: the sum of the values is fixed
    weights = np.concatenate([np.full(len(layer.coalitions), layer.weight / len(layer.coalitions)) for layer in layers])
    target = np.concatenate(found) / 2 - (members.mean(axis=1) - 0.5) * total
    # The pseudo-inverse keeps to the directions that the pairs tell apart; the others get equal shares.
    inverse = np.linalg.pinv((design * weights[:, None]).T @ design, rcond=1e-10, hermitian=True)
    deviations = inverse @ (design.T @ (weights * target))
    residual = target - design @ deviations
    leverage = ((design @ inverse) * design).sum(axis=1) * weights
    left_out = residual / np.maximum(1 - leverage, _LEAST_FREEDOM)  # errors of the fit without that pair
    unseen = np.concatenate(
        [np.full(len(layer.coalitions), 1 - len(layer.coalitions) / layer.n_pairs) for layer in layers]
    )
    scores = design * (weights * left_out)[:, None]
    covariance = inverse @ (scores.T @ (scores * unseen[:, None])) @ inverse
    return total / n_players + deviations, np.sqrt(np.maximum(np.diag(covariance), 0.0))
