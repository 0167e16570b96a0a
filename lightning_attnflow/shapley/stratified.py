"""Stratified SVARM: every payoff updates every player, stratum by stratum of coalition size (Kolpaczki et al. 2023)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley.game import Game, evaluate_ends
from lightning_attnflow.shapley.layers import Layer, differences, draw_layers, hides_its_errors
from lightning_attnflow.shapley.orders import check_seed
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.surrogate import LinearFit, fit_additive

FloatArray = NDArray[np.float64]
_BORROWED = 3.0  # pairs' worth of the pooled variance in that of each layer


def stratified_shapley(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Shapley values from coalitions of all sizes, each of which updates the strata of all players.

    With ``phi_i = (1/n) sum_s (mean of v(S) over |S| = s with i) - (mean over |S| = s - 1 without i)``, each payoff is
    a sample for every player. Three things are added to the original: coalitions come with their complements, without
    replacement and with complete layers where the budget allows; sizes are drawn in proportion to
    ``1 / sqrt(s (n - s))``, which minimises the variance if all sizes are equally noisy; and an additive game fitted to
    the sampled layers is subtracted first and its known values added again, so that only what is not additive is noise.

    Args:
        game: the game.
        budget: evaluations to spend at most, v(empty) and v(N) among them.
        seed: of the draw.

    Returns:
        The values; they are exact, with standard error 0, if the budget covers all coalitions. The standard errors are
        infinite with less than three evaluations a player, where the fit has hardly anything to be wrong about.

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
    n = game.n_players
    generator = np.random.default_rng(np.random.SeedSequence(check_seed(seed)))
    layers = draw_layers(n, budget, generator, lambda size: 1 / math.sqrt(size * (n - size)))
    v_empty, v_full = evaluate_ends(game)
    total = v_full - v_empty
    found = differences(game, layers)
    fit = _fit_sampled(layers, found, total, n)
    residuals = [
        difference - (2 * layer.coalitions - 1) @ fit.coefficients
        for layer, difference in zip(layers, found, strict=True)
    ]
    squares, degrees = _layer_squares(layers, residuals, fit)
    values, variance = fit.coefficients.copy(), np.zeros(n)
    for layer, residual, square in zip(layers, residuals, squares, strict=True):
        correction, spread = _stratum_means(layer, residual, square)
        values += correction
        variance += spread
    return ShapleyResult(
        values=values + (total - values.sum()) / max(n, 1),
        stderr=np.full(n, np.inf) if hides_its_errors(layers) else np.sqrt(variance),
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


def _layer_squares(layers: list[Layer], residuals: list[FloatArray], fit: LinearFit) -> tuple[list[float], float]:
    """Mean squared residual of each layer, and the degrees of freedom they rest on.

    One variance a layer, not one a stratum: strata of one or two pairs have none. A layer of few pairs borrows from all
    sampled layers.
    """
    sampled = [residual for layer, residual in zip(layers, residuals, strict=True) if not layer.complete]
    if not sampled:
        return [0.0] * len(layers), math.inf
    together = np.concatenate(sampled)
    degrees = max(len(together) - fit.degrees, 1.0)
    # The residuals of a fit are smaller than the errors it makes on other pairs (Golub, Heath & Wahba 1979).
    inflation = (len(together) / degrees) ** 2
    pooled = float(together @ together) / len(together)
    squares = [
        inflation * (float(residual @ residual) + _BORROWED * pooled) / (len(residual) + _BORROWED)
        for residual in residuals
    ]
    return squares, degrees


def _stratum_means(layer: Layer, residual: FloatArray, square: float) -> tuple[FloatArray, FloatArray]:
    """What a layer adds to each value, and its variance, each (n,).

    A player in S sees the residual in the stratum of size s; one outside sees it, negated, in that of size n - s.
    """
    members = layer.coalitions
    pairs, n = members.shape
    unseen = 1 - pairs / layer.n_pairs
    if 2 * layer.size == n:  # both strata are one and the same: either of a pair counts for it
        signed = (residual @ members - residual @ ~members) / pairs
        return signed / n, np.full(n, square * unseen / pairs / n**2)
    inside = members.sum(axis=0)  # (n,) pairs that count for the stratum of size s
    outside = pairs - inside
    mean = residual.mean()
    mean_inside = np.where(inside > 0, residual @ members / np.maximum(inside, 1), mean)
    mean_outside = np.where(outside > 0, residual @ ~members / np.maximum(outside, 1), mean)
    variance = square * unseen * (1 / np.maximum(inside, 1) + 1 / np.maximum(outside, 1))
    return (mean_inside - mean_outside) / n, variance / n**2
