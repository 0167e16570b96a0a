"""Stratified SVARM: every payoff updates every player, stratum by stratum of coalition size (Kolpaczki et al. 2023)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.shapley.additive_fit import LinearFit, fit_additive
from lightning_attnflow.shapley.coalition_sampling import Layer, differences, draw_layers, hides_its_errors
from lightning_attnflow.shapley.game import Game, evaluate_empty_and_full, number_of_players
from lightning_attnflow.shapley.result import ShapleyResult

FloatArray = NDArray[np.float64]
_BORROWED = 3.0  # pairs' worth of the pooled variance in that of each layer


def stratified_shapley(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Shapley values from coalitions of all sizes, each of which updates the strata of all players.

    With ``phi_i = (1/n) sum_s (mean of v(S) over |S| = s with i) - (mean over |S| = s - 1 without i)``, each payoff is
    a sample for every player. Some things are added to the original: coalitions come with their complements, without
    replacement and with complete layers where the budget allows; sizes are drawn in proportion to
    ``1 / sqrt(s (n - s))``, which minimises the variance if all sizes are equally noisy; and an additive game fitted to
    the sampled layers is subtracted first and its known values added again, so that only what is not additive is noise.
    The draws are evened out (``shapley.coalition_sampling``); the standard errors are those of independent ones,
    which err more. The fit to the draws themselves brings a small bias, which the original has not: up to a third of
    the standard deviation at three evaluations a player, an eighth at five.

    Args:
        game: the game.
        budget: evaluations to spend at most, v(empty) and v(N) among them.
        seed: of the draw.

    Returns:
        The values; they are exact, with standard error 0, if the budget covers all coalitions. The standard errors are
        infinite with less than three evaluations a player, where the fit has hardly anything to be wrong about, and
        where fewer than sixty pairs all say that every player adds the same.

    Raises:
        InputError: if the budget is below the minimum, which the message names.
        GameError: if the game raises or returns what is not a payoff.

    Source: Kolpaczki, Bengs, Muschalik & Hullermeier (2023), Approximating the Shapley value without marginal
    contributions; pairs: Covert & Lee (2021); subtraction of a fit: Witter, Liu & Musco (2025), Regression-adjusted
    Monte Carlo estimators for Shapley values and probabilistic values.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> majority = FunctionGame(lambda coalitions: coalitions @ np.array([2, 1, 1]) > 2, n_players=3)
        >>> stratified_shapley(majority, budget=8).values.round(4).tolist()
        [0.6667, 0.1667, 0.1667]
    """
    n = number_of_players(game)
    generator = np.random.default_rng(np.random.SeedSequence(check_seed(seed)))
    layers = draw_layers(n, budget, generator, lambda size: 1 / math.sqrt(size * (n - size)))
    v_empty, v_full = evaluate_empty_and_full(game)
    total = v_full - v_empty
    found = differences(game, layers)
    fit = _fit_sampled(layers, found, total, n)
    residuals = [
        difference - (2 * layer.coalitions - 1) @ fit.coefficients
        for layer, difference in zip(layers, found, strict=True)
    ]
    inflation, degrees = _inflation(layers, fit)
    pooled = _mean_square([residual for layer, residual in zip(layers, residuals, strict=True) if not layer.complete])
    values, variance = fit.coefficients.copy(), np.zeros(n)
    for layer, residual in zip(layers, residuals, strict=True):
        correction, spread = _stratum_means(layer, residual, pooled)
        values += correction
        variance += inflation * spread
    return ShapleyResult(
        values=values + (total - values.sum()) / max(n, 1),
        stderr=np.full(n, np.inf) if hides_its_errors(layers, found, (v_empty, v_full)) else np.sqrt(variance),
        counts=np.full(n, 2 * sum(len(layer.coalitions) for layer in layers), dtype=np.int64),
        v_empty=v_empty,
        v_full=v_full,
        method="stratified_shapley",
        seed=int(seed),
        degrees=degrees,
        n_evaluations=min(2, n + 1) + 2 * sum(len(layer.coalitions) for layer in layers),
    )


def _fit_sampled(layers: list[Layer], found: list[FloatArray], total: float, n_players: int) -> LinearFit:
    """The additive game closest to the layers that are not complete; those that are need no help."""
    sampled = [(layer, difference) for layer, difference in zip(layers, found, strict=True) if not layer.complete]
    if not sampled:
        return LinearFit(np.full(n_players, total / max(n_players, 1)), 0.0)
    return fit_additive(
        np.concatenate([layer.coalitions for layer, _ in sampled]),
        np.concatenate([difference / 2 for _, difference in sampled]),
        np.concatenate([np.full(len(layer.coalitions), layer.weight / len(layer.coalitions)) for layer, _ in sampled]),
        total,
    )


def _inflation(layers: list[Layer], fit: LinearFit) -> tuple[float, float]:
    """By how much squared residuals fall short of squared errors, and the degrees of freedom they rest on."""
    pairs = sum(len(layer.coalitions) for layer in layers if not layer.complete)
    if pairs == 0:
        return 1.0, math.inf
    degrees = max(pairs - fit.degrees, 1.0)
    # The residuals of a fit are smaller than the errors it makes on other pairs (Golub, Heath & Wahba 1979).
    return (pairs / degrees) ** 2, degrees


def _mean_square(residuals: list[FloatArray]) -> float:
    return float(np.mean(np.concatenate(residuals) ** 2)) if residuals else 0.0


def _stratum_means(layer: Layer, residual: FloatArray, pooled: float) -> tuple[FloatArray, FloatArray]:
    """What a layer adds to each value, and its variance, each (n,).

    A player in S sees the residual in the stratum of size s; one outside sees it, negated, in that of size n - s. A
    stratum of few pairs borrows variance from its layer, a layer of few pairs from all of them, ``pooled``.
    """
    members = layer.coalitions
    pairs, n = members.shape
    unseen = 1 - pairs / layer.n_pairs
    squares = residual**2
    square = (squares.sum() + _BORROWED * pooled) / (pairs + _BORROWED)
    if 2 * layer.size == n:  # both strata are one and the same: either of a pair counts for it
        signed = (residual @ members - residual @ ~members) / pairs
        return signed / n, np.full(n, square * unseen / pairs / n**2)
    correction, variance = np.zeros((2, n))
    for within, sign in ((members, 1), (~members, -1)):
        count = within.sum(axis=0)  # (n,) pairs that count for the stratum
        seen = np.maximum(count, 1)
        correction += sign * np.where(count > 0, residual @ within / seen, residual.mean())
        variance += (squares @ within + _BORROWED * square) / (count + _BORROWED) / seen
    return correction / n, variance * unseen / n**2
