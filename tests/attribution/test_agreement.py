"""Rank correlations against SciPy, and the two groupings of tokens into words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lightning_attnflow.attribution import TokenAttribution, TokenGame
from lightning_attnflow.attribution.agreement import agreement, compare_groupings
from lightning_attnflow.errors import InputError

TEXT = "A greatly fine film, not badly dull!"


def attribution(values, positions=None, special=None):
    n = len(values)
    return TokenAttribution(
        tokens=tuple("abcdefghij"[:n]),
        values=np.array(values),
        method="x",
        positions=tuple((i,) for i in range(n)) if positions is None else positions,
        is_special=special,
    )


@pytest.mark.parametrize("seed", range(3))
def test_rank_correlations_equal_scipy_also_with_ties(seed):
    random = np.random.default_rng(seed)
    one, two = random.integers(0, 5, size=(2, 8)).astype(float)
    result = agreement(attribution(one), attribution(two))
    assert result.kendall == pytest.approx(stats.kendalltau(one, two).statistic, abs=1e-5)
    assert result.spearman == pytest.approx(stats.spearmanr(one, two).statistic, abs=1e-5)


def test_absolute_ranks_magnitudes_and_special_tokens_are_left_out():
    first = attribution([9.0, 1.0, -2.0, 3.0], special=[True, False, False, False])
    second = attribution([0.0, 0.1, 0.2, 0.3], special=[True, False, False, False])
    assert agreement(first, second).n_players == 3
    assert agreement(first, second, absolute=True).spearman == pytest.approx(1.0, abs=1e-5)
    assert agreement(first, second).spearman == pytest.approx(0.5, abs=1e-5)


def test_agreement_is_nan_for_constant_values_and_a_single_player():
    constant = agreement(attribution([1.0, 1.0, 1.0]), attribution([1.0, 2.0, 3.0]))
    single = agreement(attribution([1.0]), attribution([2.0]))
    assert all(math.isnan(score) for score in (constant.kendall, constant.spearman, single.kendall, single.spearman))


def test_agreement_of_different_players_raises_an_input_error():
    with pytest.raises(InputError, match="same players"):
        agreement(attribution([1.0, 2.0]), attribution([1.0, 2.0], positions=((0,), (2,))))


def test_both_groupings_of_an_efficient_method_have_the_same_total(encoder, tokenizer):
    both = compare_groupings(encoder, tokenizer, TEXT, method="exact_shapley")
    assert both.summed.tokens == both.quotient.tokens
    assert both.total_gap == pytest.approx(0, abs=1e-6)
    assert both.largest_gap > 0
    game = TokenGame(encoder, tokenizer, TEXT, players="words")
    everybody_and_nobody = game(np.array([[True] * game.n_players, [False] * game.n_players]))
    assert both.quotient.total == pytest.approx(everybody_and_nobody[0] - everybody_and_nobody[1], abs=1e-6)


def test_groupings_of_pairwise_flow_have_different_totals(encoder, tokenizer):
    both = compare_groupings(encoder, tokenizer, TEXT, method="flow_pairwise", layer=2)
    assert (both.quotient.values <= both.summed.values + 1e-9).all()  # the game is submodular
    assert both.total_gap > 1e-6


def test_compare_groupings_rejects_methods_with_one_grouping(encoder, tokenizer):
    with pytest.raises(InputError, match="one of flow, flow_pairwise, gradient_flow, leave_one_out"):
        compare_groupings(encoder, tokenizer, TEXT, method="saliency")
