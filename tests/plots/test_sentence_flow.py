"""The flow of a sentence for the heat map is what `explain` and the monitor say of it, layer by layer."""

from __future__ import annotations

import models
import numpy as np
import pytest

from lightning_attnflow.attention.rollout import attention_rollout
from lightning_attnflow.attribution import Sentence, explain
from lightning_attnflow.callbacks.measure import FlowSettings, measure
from lightning_attnflow.plots import flow_heatmap, flow_table, sentence_flow, top_words_table

TEXT = "this movie was unwatchable!"


@pytest.fixture(scope="module")
def model():
    return models.bert_classifier().eval()


@pytest.mark.filterwarnings("ignore::lightning_attnflow.attribution.SaturatedFlowWarning")
@pytest.mark.parametrize("players", ["tokens", "words"])
@pytest.mark.parametrize("special_tokens", [None, "present"])
def test_each_row_is_the_flow_of_one_layer(model, players, special_tokens):
    sentence = Sentence(model, models.tokenizer(), TEXT, players, special_tokens)
    flow = sentence_flow(sentence)
    assert flow.special.tolist() == [True] + [False] * (len(flow.labels) - 2) + [True]
    for layer in range(models.N_LAYERS + 1):
        row = explain(model, models.tokenizer(), TEXT, layer=layer, players=players, special_tokens="players")
        assert flow.labels == row.tokens
        np.testing.assert_allclose(flow.values[layer], row.values, atol=1e-9)
        np.testing.assert_allclose(flow.upper[layer], row.high, atol=1e-9)
    np.testing.assert_allclose(flow.rollout.sum(axis=1), attention_rollout(sentence.network()).sum(axis=1))


def test_it_is_what_the_monitor_measures(model):
    tokenizer = models.tokenizer()
    settings = FlowSettings(method="shapley", readout="auto", heads="mean", residual=0.5, words=True, seed=0)
    batch = tokenizer(TEXT, return_tensors="pt")
    texts = {tuple(batch["input_ids"][0].tolist()): TEXT}
    (measured,) = measure(model, [batch], tokenizer, settings, texts).flows
    flow = sentence_flow(Sentence(model, tokenizer, TEXT, "words"))
    assert flow.labels == measured.labels
    np.testing.assert_allclose(flow.values, measured.values, atol=1e-6)
    np.testing.assert_allclose(flow.rollout, measured.rollout, atol=1e-6)


def test_picture_and_tables_take_it(model):
    flow = sentence_flow(Sentence(model, models.tokenizer(), TEXT, "words"))
    (axes,) = flow_heatmap(flow).axes
    assert [text.get_text() for text in axes.texts if text.get_gid() == "word"] == list(flow.labels)
    assert "unwatchable" in flow_table(flow)
    assert "unwatchable" in top_words_table(flow)
