"""Bayesian quadrature: Shapley values of the posterior mean of a Gaussian process over games (O'Hagan 1991)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky
from scipy.linalg.blas import dtrmm
from scipy.linalg.lapack import dtrtri

from lightning_attnflow._checks import check_seed, is_integer
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.coalition_sampling import are_constant, are_too_few_to_differ, differences, draw_strata
from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.game import Coalitions, Game, evaluate_empty_and_full, number_of_players
from lightning_attnflow.shapley.gaussian_process import maximum_likelihood_kernel
from lightning_attnflow.shapley.result import ShapleyResult

FloatArray = NDArray[np.float64]
MAX_PAIRS = 2048  # of complementary coalitions; the time is cubic in them, a few seconds
MAX_PLAYERS = 256  # with more, the sample is balanced over single players only
_PAIRS_PER_DEGREE = 4.0  # of freedom of the standard errors, to which a few pairs contribute most
_MIN_DEGREES = 3.0


def quadrature_shapley(game: Game, *, budget: int, seed: int = 0) -> ShapleyResult:
    """Estimate Shapley values by Gaussian process regression of the game.

    Pairs of complementary coalitions are drawn without replacement, stratified by size. A Gaussian process prior over
    games (``shapley.gaussian_process``) is conditioned on their payoffs; its three hyperparameters are estimated by
    maximum likelihood. The Shapley values of the posterior mean have a closed form; they are biased towards a smooth
    game.

    The squared standard error is the posterior variance of the value plus the weighted sum of squared leave-one-out
    residuals of the pairs. The second term accounts for players or sizes for which the prior is too smooth. The
    standard errors are infinite if fewer than 60 pairs imply the same value for every player.

    Args:
        game: the game, of at most 256 players.
        budget: maximum number of evaluations, including v(empty) and v(N); at most 4098.
        seed: of the sampled coalitions.

    Returns:
        The values.

    Raises:
        InputError: the budget or the number of players is out of range, which the message states.
        GameError: the game raises or returns an invalid payoff.

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
    if is_integer(budget) and min(budget, 2**n) > 2 + 2 * MAX_PAIRS:
        raise InputError(
            "budget", got=budget, expected=f"at most {2 + 2 * MAX_PAIRS}", remedy="Use stratified_shapley for more."
        )
    seed = check_seed(seed)
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    strata = draw_strata(n, budget, generator, lambda size: 1 / math.sqrt(size * (n - size)))
    if n <= 1:
        return replace(exact_shapley(game), method="quadrature_shapley", seed=seed)
    pairs = sum(len(stratum.coalitions) for stratum in strata)
    empty_and_full = v_empty, v_full = evaluate_empty_and_full(game)
    total = v_full - v_empty
    members = np.concatenate([stratum.coalitions for stratum in strata] + [np.ones((1, n), dtype=bool)])
    found = differences(game, strata)
    unseen = np.repeat(
        [1 - len(stratum.coalitions) / stratum.n_pairs for stratum in strata] + [0.0],
        [len(stratum.coalitions) for stratum in strata] + [1],
    )
    # The regression is of the deviations from equal shares.
    halves = np.concatenate([*found, [total]]) / 2 - (members.mean(axis=1) - 0.5) * total
    deviations, variance = np.zeros((2, n))
    if are_too_few_to_differ(strata, found, empty_and_full):
        variance = np.full(n, np.inf)
    elif not are_constant(strata, found, empty_and_full):
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
        degrees=max(pairs / _PAIRS_PER_DEGREE, _MIN_DEGREES),
        n_evaluations=2 + 2 * pairs,
    )


def _regress(members: Coalitions, halves: FloatArray, unseen: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Shapley values (n,) of the posterior mean, and their variances (n,).

    Args:
        members: bool (m, n), one coalition of each pair, in random order.
        halves: float (m,), half the difference of the payoffs of the pair.
        unseen: float (m,), fraction of the pairs of that size that were not drawn.
    """
    n = members.shape[1]
    scale = float(np.abs(halves).max())
    halves = halves / scale
    kernel = maximum_likelihood_kernel(members, halves)
    matrix = kernel.covariance(members)
    matrix[np.diag_indices_from(matrix)] += kernel.noise(members)
    factor = cholesky(matrix.T, lower=True, overwrite_a=True, check_finite=False)  # the transpose is in Fortran order
    inverse, _ = dtrtri(factor, lower=1, overwrite_c=1)
    by_size, prior = kernel.with_values(n)
    sizes = members.sum(axis=1)
    covariance = np.where(members, by_size[sizes, None], -by_size[n - sizes, None])  # (m, n) with the values
    whitened = dtrmm(1.0, inverse, covariance, lower=1)
    solved = inverse.T @ (inverse @ halves)
    weights = dtrmm(1.0, inverse, whitened, lower=1, trans_a=1)  # (m, n) of the payoffs in the values
    left_out = solved / np.einsum("ij,ij->j", inverse, inverse)  # (m,) leave-one-out residuals
    conditional = np.maximum(prior - (whitened**2).sum(axis=0), 0.0) * (halves @ solved) / len(halves)
    variance = conditional + (left_out**2 * unseen) @ weights**2
    return scale * (covariance.T @ solved), scale**2 * np.maximum(variance, variance.mean())
