"""Bayesian quadrature: the Shapley values of the likeliest game that pays what was seen (O'Hagan 1991)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.coalition_sampling import are_alike, are_too_few_alike, differences, draw_layers
from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.game import Coalitions, Game, evaluate_empty_and_full, number_of_players
from lightning_attnflow.shapley.gaussian_process import likeliest_kernel
from lightning_attnflow.shapley.result import ShapleyResult

FloatArray = NDArray[np.float64]
MAX_PAIRS = 2048  # of complementary coalitions: the time grows with their cube, to a few seconds
MAX_PLAYERS = 256  # the prior's covariances take a time that grows with the cube of the players
_PAIRS_A_DEGREE = 4.0  # of freedom of the standard errors, to which a few of the pairs contribute most
_FEWEST_DEGREES = 3.0


def quadrature_shapley(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Shapley values by Gaussian process regression of the game.

    Pairs of complementary coalitions are drawn size by size without replacement. A Gaussian prior over games, see
    ``shapley.gaussian_process``, is conditioned on their payoffs, its three parameters being those under which they are
    likeliest, and the Shapley values of the conditional mean have a closed form: interactions that the sample shows
    carry over to coalitions that were not drawn. The values are not unbiased, they lean towards a smooth game.

    The standard errors add two variances: that of the values under the prior, and that of the errors the regression
    makes when it leaves out one pair at a time, each weighed as the pair is in the values. The first is right where the
    prior is, the second also where a few players or sizes are rougher than the others. They are infinite where fewer
    than sixty pairs all say that every player adds the same, and what may be rare was not seen.

    Args:
        game: the game, of at most 256 players.
        budget: evaluations to spend at most, v(empty) and v(N) among them; at most 4098.
        seed: of the draw.

    Returns:
        The values.

    Raises:
        InputError: if the budget or the number of players is out of range, which the message names.
        GameError: if the game raises or returns what is not a payoff.

    Source: O'Hagan (1991), Bayes-Hermite quadrature; Rasmussen & Ghahramani (2003), Bayesian Monte Carlo; pairs: Covert
    & Lee (2021).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> root = FunctionGame(lambda coalitions: np.sqrt(coalitions @ np.arange(1.0, 13.0)), n_players=12)
        >>> quadrature_shapley(root, budget=60).values[:3].round(2).tolist()
        [0.11, 0.29, 0.46]
    """
    n = number_of_players(game)
    if n > MAX_PLAYERS:
        raise InputError(
            "players", got=n, expected=f"at most {MAX_PLAYERS}", remedy="Group the players, or use stratified_shapley."
        )
    if isinstance(budget, (int, np.integer)) and min(budget, 2**n) > 2 + 2 * MAX_PAIRS:
        raise InputError(
            "budget", got=budget, expected=f"at most {2 + 2 * MAX_PAIRS}", remedy="Use stratified_shapley for more."
        )
    seed = check_seed(seed)
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    layers = draw_layers(n, budget, generator, lambda size: 1 / math.sqrt(size * (n - size)))
    if n <= 1:  # there is nothing to draw
        return replace(exact_shapley(game), method="quadrature_shapley", seed=seed)
    pairs = sum(len(layer.coalitions) for layer in layers)
    ends = v_empty, v_full = evaluate_empty_and_full(game)
    total = v_full - v_empty
    members = np.concatenate([layer.coalitions for layer in layers] + [np.ones((1, n), dtype=bool)])
    found = differences(game, layers)
    unseen = np.repeat(
        [1 - len(layer.coalitions) / layer.n_pairs for layer in layers] + [0.0],
        [len(layer.coalitions) for layer in layers] + [1],
    )
    # The regression is about what equal shares leave.
    halves = np.concatenate([*found, [total]]) / 2 - (members.mean(axis=1) - 0.5) * total
    deviations, variance = np.zeros((2, n))
    if are_too_few_alike(layers, found, ends):
        variance = np.full(n, np.inf)
    elif not are_alike(layers, found, ends):
        shuffled = generator.permutation(len(halves))
        deviations, variance = _regress(members[shuffled], halves[shuffled], unseen[shuffled])
    return ShapleyResult(
        values=total / n + deviations - deviations.mean(),
        stderr=np.sqrt(variance),
        counts=np.full(n, 2 * pairs, dtype=np.int64),
        v_empty=v_empty,
        v_full=v_full,
        method="quadrature_shapley",
        seed=seed,
        degrees=max(pairs / _PAIRS_A_DEGREE, _FEWEST_DEGREES),
        n_evaluations=2 + 2 * pairs,
    )


def _regress(members: Coalitions, halves: FloatArray, unseen: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shapley values (n,) of the conditional mean, and their variances (n,).

    Args:
        members: bool (m, n), one coalition of each pair, in random order.
        halves: float (m,), half the difference of the payoffs of the pair.
        unseen: float (m,), share of the pairs of that size that were not drawn.
    """
    n = members.shape[1]
    unit = float(np.abs(halves).max())
    halves = halves / unit
    kernel = likeliest_kernel(members, halves)
    inverse = np.linalg.inv(kernel.smooth(members) + np.diag(kernel.rough(members)))
    by_size, prior = kernel.with_values(n)
    sizes = members.sum(axis=1)
    covariance = np.where(members, by_size[sizes, None], -by_size[n - sizes, None])  # (m, n) with each value
    weights = inverse @ covariance  # (m, n): the values are linear in the payoffs
    solved = inverse @ halves
    left_out = solved / np.diag(inverse)  # (m,) errors of the regression without that pair
    conditional = np.maximum(prior - (covariance * weights).sum(axis=0), 0.0) * (halves @ solved) / len(halves)
    variance = conditional + (left_out**2 * unseen) @ weights**2
    return unit * (covariance.T @ solved), unit**2 * np.maximum(variance, variance.mean())
