"""`readout="auto"`: the same rule in `explain` and in `AttentionFlowMonitor`."""

from __future__ import annotations

import models
import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    XLNetConfig,
    XLNetForSequenceClassification,
)

from lightning_attnflow.attention.readout import choose_readout, is_causal
from lightning_attnflow.attribution import Sentence
from lightning_attnflow.callbacks.measure import FlowSettings, measure

TEXT = "this movie was great !"
SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def llama_classifier():
    return LlamaForSequenceClassification(LlamaConfig(vocab_size=models.VOCABULARY, pad_token_id=0, **SIZE))


def modernbert(pooling: str):
    tokens = {"pad_token_id": 0, "bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3}
    settings = {"vocab_size": models.VOCABULARY, "classifier_pooling": pooling, **SIZE, **tokens}
    return ModernBertForSequenceClassification(ModernBertConfig(**settings))


def monitored_readout(model) -> object:
    inputs = models.tokenizer()(TEXT, return_tensors="pt", return_token_type_ids=False)
    settings = FlowSettings("attention", "rollout", "auto", "mean", 0.5, True, 0)
    return measure(model, [dict(inputs)], None, settings).notes["readout"].split(":")[0]


@pytest.mark.parametrize(
    ("build", "readout"),
    [
        (models.bert_classifier, "first"),
        (lambda: modernbert("cls"), "first"),
        (lambda: modernbert("mean"), "mean"),
        (llama_classifier, "last"),
        (models.gpt2, "last"),
    ],
    ids=["BERT classifier", "ModernBERT cls", "ModernBERT mean", "Llama classifier", "GPT-2"],
)
def test_explain_and_monitor_choose_the_same_readout(build, readout):
    model = build().eval()
    weights = Sentence(model, models.tokenizer(), TEXT).network().readout
    expected = {"first": np.eye(7)[0], "last": np.eye(7)[-1], "mean": np.full(7, 1 / 7)}[readout]
    np.testing.assert_array_equal(weights, expected)
    assert monitored_readout(model) == f"readout {readout!r}"


def test_an_encoder_without_head_is_read_by_the_mean():
    assert monitored_readout(models.bert()) == "readout 'mean'"
    assert "pass readout='first'" in choose_readout(models.bert(), causal=False)[1]


def test_summary_type_of_the_config_is_followed():
    config = XLNetConfig(vocab_size=models.VOCABULARY, d_model=16, n_layer=1, n_head=2, d_inner=24)
    assert choose_readout(XLNetForSequenceClassification(config), causal=False)[0] == "last"


def test_padding_does_not_hide_that_a_model_is_causal():
    attention = torch.full((1, 1, 3, 3), 1 / 3).tril()
    attention[0, 0, 2] = 1 / 3
    attention[0, 0, 0, 2] = 0.5  # a padding query
    mask = torch.tensor([[False, True, True]])
    assert is_causal([attention], mask)
    assert not is_causal([attention])
    assert not is_causal([np.ones((2, 1, 1))])
