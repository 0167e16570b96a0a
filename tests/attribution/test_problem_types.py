"""Classifiers of independent labels and models with one output are explained as they were trained."""

from __future__ import annotations

from typing import Any

import models
import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForTokenClassification, GPT2Config, GPT2ForSequenceClassification

from lightning_attnflow import conductance_flow, explain
from lightning_attnflow.attribution import TokenGame
from lightning_attnflow.errors import InputError

TEXT = "this movie was unwatchable"


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**models.tokenizer()(TEXT, return_tensors="pt")).logits[0].double()


def value(model: Any, payoff: Any, target: int | str | None = None) -> float:
    game = TokenGame(model, models.tokenizer(), TEXT, payoff=payoff, target=target)
    return float(game(np.ones((1, game.n_players), dtype=bool))[0])


def test_a_class_may_be_given_by_its_name() -> None:
    model = models.bert_classifier(num_labels=3, id2label={0: "bad", 1: "good", 2: "good"})
    assert value(model, "logit_margin", "bad") == value(model, "logit_margin", 0)
    flow = conductance_flow(model, models.tokenizer(), TEXT, target="bad", edges=False)
    assert (flow.target, flow.target_name) == (0, "bad")
    with pytest.raises(InputError, match="got 'good', 2 classes; expected the number of a class, or one of the names"):
        value(model, "logit_margin", "good")


def test_a_prediction_for_every_token_is_refused_with_a_remedy() -> None:
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = BertForTokenClassification(BertConfig(vocab_size=models.VOCABULARY, num_labels=3, **size)).eval()
    for method in ("leave_one_out", "conductance"):
        with pytest.raises(InputError, match=r"a prediction for every token; expected one .* method='rollout'"):
            explain(model, models.tokenizer(), TEXT, method=method)
    assert explain(model, models.tokenizer(), TEXT, method="rollout").values.any()


@pytest.mark.parametrize("target", [0, 1, 2])
def test_independent_labels_are_read_through_the_sigmoid(target: int) -> None:
    model = models.bert_classifier(num_labels=3, problem_type="multi_label_classification")
    logit = logits_of(model)[target]
    probability = logit.sigmoid()
    expected = {
        "probability": probability,
        "log_probability": probability.log(),
        "logit_margin": logit,
        "correctness": float(logit > 0),
        "negative_entropy": probability * probability.log() + (1 - probability) * (1 - probability).log(),
    }
    for payoff, number in expected.items():
        assert value(model, payoff, target) == pytest.approx(float(number), abs=1e-5), payoff


def test_values_of_labels_sum_to_the_change_of_the_log_sigmoid() -> None:
    model = models.bert_classifier(num_labels=3, problem_type="multi_label_classification")
    shapley = explain(model, models.tokenizer(), TEXT, method="exact_shapley", target=1)
    flow = conductance_flow(model, models.tokenizer(), TEXT, target=1, tolerance=1e-3)
    gradients = explain(model, models.tokenizer(), TEXT, method="integrated_gradients", target=1)
    assert shapley.v_full == pytest.approx(float(logits_of(model)[1].sigmoid().log()), abs=1e-5)
    assert flow.total == pytest.approx(shapley.v_full - shapley.v_empty, abs=1e-5)
    assert gradients.values.sum() == pytest.approx(flow.total, rel=0.01)


def test_models_with_one_output_are_explained_by_it() -> None:
    model = models.bert_classifier(num_labels=1, problem_type="regression")
    output = float(logits_of(model)[0])
    result = explain(model, models.tokenizer(), TEXT, method="exact_shapley")
    assert (result.payoff, result.target) == ("logit", 0)
    assert result.v_full == pytest.approx(output, abs=1e-5)
    flow = conductance_flow(model, models.tokenizer(), TEXT)
    assert flow.total == pytest.approx(output - flow.v_empty, abs=1e-5)
    with pytest.raises(InputError, match="'correctness' of a model with one output"):
        explain(model, models.tokenizer(), TEXT, method="shapley", payoff="correctness")


@pytest.mark.parametrize("method", ["leave_one_out", "saliency", "conductance"])
def test_classifiers_that_read_another_token_of_the_ids_are_refused(method: str) -> None:
    """A text that ends in the padding token: the model reads the token before it, unless it gets embeddings."""
    tokenizer = models.tokenizer()
    size = {"vocab_size": len(tokenizer), "n_positions": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "num_labels": 2}
    options = {"payoff": "log_probability", "masking": "zero_embedding"} if method == "leave_one_out" else {}
    ends_in = tokenizer(TEXT)["input_ids"][-1]
    torch.manual_seed(0)
    model = GPT2ForSequenceClassification(GPT2Config(**size, pad_token_id=ends_in)).eval()
    with pytest.raises(InputError, match=r"for the embeddings, .* for the tokens"):
        explain(model, tokenizer, TEXT, method=method, **options)
    model.config.pad_token_id = tokenizer.pad_token_id
    assert np.isfinite(explain(model, tokenizer, TEXT, method=method, **options).values).all()
