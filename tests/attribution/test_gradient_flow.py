"""Attention flow on gradient-weighted capacities, E_h relu(A * dA)."""

from __future__ import annotations

from typing import Any

import models
import numpy as np
import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from lightning_attnflow import explain
from lightning_attnflow.attribution.methods.flow import gradient_network
from lightning_attnflow.attribution.payoffs import log_probability
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.shapley import exact_shapley

TEXT = "this movie was unwatchable"


def deberta() -> Any:
    size = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = DebertaV2Config(vocab_size=len(models.tokenizer()), type_vocab_size=0, **size)
    return DebertaV2ForSequenceClassification(config).eval()


def reference_capacities(model: torch.nn.Module, target: int) -> np.ndarray:
    """Capacities from the attention that the eager implementation returns."""
    model = model.eval()
    model.set_attn_implementation("eager")
    output = model(**models.tokenizer()(TEXT, return_tensors="pt"), output_attentions=True)
    gradients = torch.autograd.grad(log_probability(output.logits.double(), target).sum(), output.attentions)
    products = [(a * g).clamp(min=0)[0].mean(0) for a, g in zip(output.attentions, gradients, strict=True)]
    capacities = torch.stack(products).detach().double().numpy()
    return capacities / capacities.max()


@pytest.mark.parametrize("target", [0, 1])
def test_capacities_are_positive_products_of_attention_and_its_gradient(target: int) -> None:
    game = Sentence(models.bert_classifier(), models.tokenizer(), TEXT).game(target=target)
    network = gradient_network(game, np.eye(len(game.encoded))[0])
    np.testing.assert_allclose(network.capacities, reference_capacities(models.bert_classifier(), target), atol=1e-5)
    assert not network.is_stochastic


def test_values_are_the_shapley_values_of_the_weighted_flow_game() -> None:
    model = models.bert_classifier()
    result = explain(model, models.tokenizer(), TEXT, method="gradient_flow", layer=1, target=1)
    game = Sentence(model, models.tokenizer(), TEXT).game(target=1)
    network = gradient_network(game, np.eye(len(game.encoded))[0])
    np.testing.assert_allclose(result.values, exact_shapley(FlowGame(network, 1)).values, atol=1e-6)
    assert (result.target, result.payoff) == (1, "log_probability")
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.config._attn_implementation == models.bert_classifier().config._attn_implementation


def test_models_without_recorded_attention_and_payoffs_without_gradient_are_refused() -> None:
    with pytest.raises(CaptureError, match="implementation of its own"):
        explain(deberta(), models.tokenizer(), TEXT, method="gradient_flow", readout="first")
    with pytest.raises(InputError, match="a payoff with a gradient"):
        explain(models.bert_classifier(), models.tokenizer(), TEXT, method="gradient_flow", payoff="correctness")


def test_a_payoff_that_does_not_depend_on_attention_is_refused() -> None:
    def constant(logits: torch.Tensor, target: int) -> torch.Tensor:  # noqa: ARG001
        return logits.sum(dim=-1) * 0.0

    with pytest.raises(InputError, match="no positive entry"):
        explain(models.bert_classifier(), models.tokenizer(), TEXT, method="gradient_flow", payoff=constant)
