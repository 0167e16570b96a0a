"""KernelSHAP: Shapley values as the weighted least-squares fit of an additive game (Lundberg & Lee 2017)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.shapley.coalition_sampling import Stratum, differences, draw_strata, has_unknown_error
from lightning_attnflow.shapley.game import Game, evaluate_empty_and_full, number_of_players
from lightning_attnflow.shapley.result import ShapleyResult

FloatArray = NDArray[np.float64]
_MIN_FREEDOM = 0.1  # lower bound of 1 - leverage of a pair


def kernel_shap(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Shapley values by weighted least squares over pairs of complementary coalitions.

    The coefficients of the additive game ``b(S) = sum of phi_i over S`` with ``b(N) = v(N) - v(empty)`` that best fits
    the payoffs under the weights ``1 / (C(n, s) s (n - s))`` are the Shapley values. The number of coalitions of a size
    is proportional to its weight, without replacement; if the budget covers all of a size, all are evaluated. The
    sample is balanced (``shapley.coalition_sampling``), but the standard errors assume independent sampling and are
    therefore conservative, in particular for nearly additive games; see ``recipes/benchmarks/coverage.py``.

    Args:
        game: the game.
        budget: maximum number of evaluations, including v(empty) and v(N).
        seed: of the sampled coalitions.

    Returns:
        The values; exact, with standard error 0, if the budget covers all coalitions. The estimate is consistent, not
        unbiased; `stratified_shapley` has a smaller error on most games. The standard errors are infinite with fewer
        than three evaluations per player (too few residual degrees of freedom) and if fewer than 60 pairs imply the
        same value for every player.

    Raises:
        InputError: the budget is below the minimum, which the message states.
        GameError: the game raises or returns an invalid payoff.

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
    strata = draw_strata(n, budget, generator, lambda size: 1 / (size * (n - size)))
    v_empty, v_full = evaluate_empty_and_full(game)
    found = differences(game, strata)
    values, stderr = _solve(strata, found, v_full - v_empty, n)
    if has_unknown_error(strata, found, (v_empty, v_full)):
        stderr = np.full(n, np.inf)
    pairs = sum(len(stratum.coalitions) for stratum in strata)
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


def _solve(
    strata: list[Stratum], found: list[FloatArray], total: float, n_players: int
) -> tuple[FloatArray, FloatArray]:
    """Coefficients (n,) of the constrained fit and their standard errors (n,), jackknifed (MacKinnon & White 1985)."""
    if not strata:
        return np.full(n_players, total), np.zeros(n_players)
    members = np.concatenate([stratum.coalitions for stratum in strata])
    design = members - members.mean(axis=1, keepdims=True)  # rows add up to 0, because the sum of the values is fixed
    weights = np.concatenate(
        [np.full(len(stratum.coalitions), stratum.weight / len(stratum.coalitions)) for stratum in strata]
    )
    target = np.concatenate(found) / 2 - (members.mean(axis=1) - 0.5) * total
    # The pseudo-inverse leaves directions that the pairs do not determine at equal shares.
    inverse = np.linalg.pinv((design * weights[:, None]).T @ design, rcond=1e-10, hermitian=True)
    deviations = inverse @ (design.T @ (weights * target))
    residual = target - design @ deviations
    leverage = ((design @ inverse) * design).sum(axis=1) * weights
    left_out = residual / np.maximum(1 - leverage, _MIN_FREEDOM)  # residuals of the fit without that pair
    unseen = np.concatenate(
        [np.full(len(stratum.coalitions), 1 - len(stratum.coalitions) / stratum.n_pairs) for stratum in strata]
    )
    scores = design * (weights * left_out)[:, None]
    covariance = inverse @ (scores.T @ (scores * unseen[:, None])) @ inverse
    return total / n_players + deviations, np.sqrt(np.maximum(np.diag(covariance), 0.0))
