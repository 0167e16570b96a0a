"""Values of a token game compared with captum and shapiq."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lightning_attnflow.attribution import TokenGame
from lightning_attnflow.shapley import CachedGame, FunctionGame, MaxPermutations, exact_shapley, permutation_shapley
from lightning_attnflow.shapley.exact import coalition_table, coalitions_of


@pytest.fixture(scope="module")
def game(encoder, tokenizer):
    """Return a token game with cached values, so that all libraries receive identical numbers."""
    cached = CachedGame(TokenGame(encoder, tokenizer, "a greatly fine film"))
    coalition_table(cached)
    return cached


def as_captum_forward(game):
    return lambda present: torch.from_numpy(game(present.numpy() > 0.5))


def test_exact_shapley_values_equal_captum(game):
    """captum adds up in float32; payoffs that are integer multiples of n! avoid rounding."""
    from captum.attr import ShapleyValues

    whole = FunctionGame(lambda c: np.rint(game(c) * 1000) * math.factorial(game.n_players), game.n_players)
    everybody = torch.ones(1, game.n_players, dtype=torch.float64)
    theirs = ShapleyValues(as_captum_forward(whole)).attribute(everybody, baselines=0.0)[0].numpy()
    ours = exact_shapley(whole).values
    assert np.abs(ours).max() > 1000
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=0)


def test_leave_one_out_equals_captum(game):
    from captum.attr import FeatureAblation

    from lightning_attnflow.shapley import leave_one_out

    everybody = torch.ones(1, game.n_players, dtype=torch.float64)
    theirs = FeatureAblation(as_captum_forward(game)).attribute(everybody, baselines=0.0)[0].numpy()
    np.testing.assert_allclose(leave_one_out(game), theirs, atol=1e-9)


def test_exact_shapley_values_equal_shapiq(game):
    import shapiq

    computer = shapiq.ExactComputer(game, game.n_players)
    theirs = computer("SV").get_n_order_values(1)
    np.testing.assert_allclose(exact_shapley(game).values, theirs, atol=1e-9)


def test_sampled_shapley_values_agree_with_captum_within_standard_errors(game):
    from captum.attr import ShapleyValueSampling

    n_permutations = 400
    with torch.random.fork_rng():
        torch.manual_seed(0)
        everybody = torch.ones(1, game.n_players, dtype=torch.float64)
        sampler = ShapleyValueSampling(as_captum_forward(game))
        theirs = sampler.attribute(everybody, baselines=0.0, n_samples=n_permutations)[0].numpy()
    ours = permutation_shapley(game, stop=MaxPermutations(n_permutations), antithetic=False, seed=0)
    joint = np.hypot(ours.stderr, ours.stderr)  # both are means over the same number of permutations
    assert (np.abs(ours.values - theirs) < 4 * joint + 1e-12).all()
    assert (np.abs(ours.values - exact_shapley(game).values) < 4 * ours.stderr + 1e-12).all()


def test_sampled_shapley_values_agree_with_shapiq_within_standard_errors(game):
    import shapiq

    n_permutations = 400
    budget = 2 + n_permutations * (game.n_players - 1)
    theirs = shapiq.PermutationSamplingSV(n=game.n_players, random_state=0).approximate(
        budget, lambda c: game(np.atleast_2d(c))
    )
    ours = permutation_shapley(game, stop=MaxPermutations(n_permutations), antithetic=False, seed=0)
    difference = np.abs(ours.values - theirs.get_n_order_values(1))
    assert (difference < 4 * np.sqrt(2) * ours.stderr + 1e-12).all()


def test_coalition_table_equals_the_values_of_the_game(game):
    table = coalition_table(game)
    rows = coalitions_of(np.arange(2**game.n_players), game.n_players)
    np.testing.assert_allclose(table, game(rows), atol=1e-12)
