"""Erasure scores of games with closed forms, and bootstrap intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_attnflow.attribution.faithfulness import (
    ERASER_FRACTIONS,
    bootstrap_interval,
    erasure_coalitions,
    faithfulness,
)
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import FunctionGame


def test_scores_of_a_game_with_two_relevant_players_equal_closed_forms():
    game = FunctionGame(lambda c: np.log(0.1 + 0.6 * c[:, 0] + 0.2 * c[:, 1]), n_players=4)
    scores = faithfulness(game, np.array([3.0, 2.0, 1.0, 0.0]), fractions=(0.25, 0.5))
    np.testing.assert_allclose(scores.comprehensiveness, [0.6, 0.8])
    np.testing.assert_allclose(scores.sufficiency, [0.2, 0.0], atol=1e-12)
    np.testing.assert_allclose(scores.log_odds, [np.log(0.3 / 0.9), np.log(0.1 / 0.9)])
    assert scores.aopc_comprehensiveness == pytest.approx(0.7)
    assert scores.aopc_sufficiency == pytest.approx(0.1)
    assert scores.mean_log_odds == pytest.approx((np.log(0.3 / 0.9) + np.log(0.1 / 0.9)) / 2)


def test_true_ranking_scores_better_than_the_reversed_ranking():
    weights = np.array([0.4, 0.3, 0.15, 0.05])
    game = FunctionGame(lambda c: np.log(0.05 + c @ weights), n_players=4)
    right, wrong = faithfulness(game, weights), faithfulness(game, -weights)
    assert right.aopc_comprehensiveness > wrong.aopc_comprehensiveness
    assert right.aopc_sufficiency < wrong.aopc_sufficiency
    assert right.mean_log_odds < wrong.mean_log_odds


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30))
def test_erasure_coalitions_are_complements_of_the_given_sizes(values):
    coalitions = erasure_coalitions(np.array(values))
    without, alone = np.split(coalitions, 2)
    assert np.array_equal(without, ~alone)
    sizes = [int(np.ceil(fraction * len(values))) for fraction in ERASER_FRACTIONS]
    assert alone.sum(axis=1).tolist() == sizes
    for row in alone:
        if not row.all():
            assert min(np.array(values)[row]) >= max(np.array(values)[~row])


def test_bootstrap_interval_of_normal_samples_equals_the_normal_interval():
    samples = np.random.default_rng(1).normal(size=(400, 2))
    low, high = bootstrap_interval(samples, n_resamples=4000)
    half = 1.96 * samples.std(axis=0) / np.sqrt(400)
    np.testing.assert_allclose(low, samples.mean(axis=0) - half, atol=0.012)  # 4000 resamples: quantile error ~ 0.002
    np.testing.assert_allclose(high, samples.mean(axis=0) + half, atol=0.012)


def test_bootstrap_interval_depends_on_the_seed():
    samples = np.random.default_rng(2).normal(size=50)
    assert bootstrap_interval(samples, seed=3) == bootstrap_interval(samples, seed=3)
    assert bootstrap_interval(samples, seed=3) != bootstrap_interval(samples, seed=4)


@pytest.mark.parametrize(
    "call",
    [
        lambda: erasure_coalitions(np.ones(3), fractions=[0.0]),
        lambda: erasure_coalitions(np.ones(3), fractions=[]),
        lambda: erasure_coalitions(np.array([1.0, np.nan])),
        lambda: bootstrap_interval(np.ones(1)),
        lambda: bootstrap_interval(np.array([1.0, np.nan])),
        lambda: bootstrap_interval(np.ones(3), confidence=1.0),
        lambda: faithfulness(FunctionGame(lambda c: c.sum(1), n_players=2), np.ones(3)),
    ],
)
def test_invalid_arguments_raise_input_errors(call):
    with pytest.raises(InputError):
        call()
