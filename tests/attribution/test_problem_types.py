"""Classifiers of independent labels and models with one output are explained as they were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import models
import numpy as np
import pytest
import torch
from matplotlib.text import Text
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertForTokenClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
)

from lightning_attnflow import conductance_flow, explain
from lightning_attnflow.attribution import TokenGame
from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer import conductance_log

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


def test_a_prediction_for_every_token_needs_a_position() -> None:
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


@pytest.mark.parametrize(
    ("names", "name", "explained"),
    [
        ({0: "LABEL_0"}, "score", "score"),
        ({0: "toxicity"}, "toxicity", "logit of toxicity"),
    ],
)
def test_the_output_of_models_with_one_has_a_name(
    names: dict[int, str], name: str, explained: str, tmp_path: Path
) -> None:
    model = models.bert_classifier(num_labels=1, id2label=names)
    result = explain(model, models.tokenizer(), TEXT, method="leave_one_out")
    assert result.target_name == name
    assert f", {explained}, masking" in result.caption()
    assert f", {explained}, masking" in str(result).splitlines()[0]
    assert result.plot().get_title() == result.caption()
    flow = conductance_flow(model, models.tokenizer(), TEXT)
    captions = [text.get_text() for text in flow.plot().figure.findobj(Text)]
    assert any(caption.startswith(f"{explained}: blue") for caption in captions)
    log = conductance_log(flow)
    assert log.sentences["sentence"][0]["flows"]["conductance"]["target"] == name
    for one in (result, flow):
        page = one.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
        assert f'"target": "{name}"' in page
        assert "class 0" not in page
    plt.close("all")


def test_scores_of_choices_have_no_names_of_classes() -> None:
    size = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    model = BertForMultipleChoice(BertConfig(vocab_size=models.VOCABULARY, id2label={0: "a", 1: "b"}, **size)).eval()
    assert explain(model, models.tokenizer(), TEXT, method="leave_one_out", masking="so").target_name == "score"


def test_embeddings_that_are_not_of_tokens_are_refused() -> None:
    model = models.bert_classifier()
    model.get_input_embeddings = lambda: torch.nn.Parameter(torch.zeros(3, 4))
    with pytest.raises(InputError, match=r"no get_input_embeddings\(\) of tokens"):
        conductance_flow(model, models.tokenizer(), TEXT)
    assert explain(model, models.tokenizer(), TEXT, method="leave_one_out", masking="so").values.any()


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
