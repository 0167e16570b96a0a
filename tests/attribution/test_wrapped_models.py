"""Models inside other modules, user-defined methods and payoffs."""

from __future__ import annotations

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from lightning_attnflow import explain
from lightning_attnflow.attribution import METHODS, TokenGame, register_method
from lightning_attnflow.errors import InputError

TEXT = "a fine film"
METHODS_WITH_PAYOFF = [name for name, method in METHODS.items() if "payoff" in method.options]


class Module(pl.LightningModule):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder


class SentenceTransformerLike(torch.nn.Sequential):
    """Modules in the layout of SentenceTransformer: the Hugging Face model in ``auto_model``, then pooling."""

    def __init__(self, encoder):
        transformer = torch.nn.Module()
        transformer.auto_model = encoder
        super().__init__(transformer, torch.nn.Identity())


@pytest.mark.parametrize("wrap", [Module, torch.nn.DataParallel, SentenceTransformerLike])
@pytest.mark.parametrize("method", ["rollout", "leave_one_out", "saliency"])
def test_a_module_around_the_model_gives_the_same_values(encoder, tokenizer, wrap, method):
    expected = explain(encoder, tokenizer, TEXT, method=method).values
    np.testing.assert_array_equal(explain(wrap(encoder), tokenizer, TEXT, method=method).values, expected)


def test_token_game_accepts_a_module_around_the_model(encoder, tokenizer):
    full = np.ones((1, 3), dtype=bool)
    expected = TokenGame(encoder, tokenizer, TEXT)(full)
    np.testing.assert_array_equal(TokenGame(Module(encoder), tokenizer, TEXT)(full), expected)


def test_games_need_a_model_with_logits(encoder, tokenizer):
    with pytest.raises(InputError, match=r"got no logits; .*attention methods need no logits"):
        explain(Module(encoder.bert), tokenizer, TEXT, method="leave_one_out")
    with pytest.warns(UserWarning, match="readout of Module: .*mean pooling is assumed"):
        assert len(explain(Module(encoder.bert), tokenizer, TEXT, method="rollout")) == 5


def test_several_models_are_rejected(encoder, tokenizer):
    with pytest.raises(InputError, match="got 2"):
        explain(torch.nn.ModuleList([encoder, type(encoder)(encoder.config)]), tokenizer, TEXT)


@pytest.mark.parametrize("method", METHODS_WITH_PAYOFF)
def test_payoff_may_be_a_function_in_every_method(encoder, tokenizer, method):
    def my_log_probability(logits, target):
        return logits.log_softmax(dim=-1)[:, target]

    result = explain(encoder, tokenizer, TEXT, method=method, payoff=my_log_probability, target=1)
    expected = explain(encoder, tokenizer, TEXT, method=method, payoff="log_probability", target=1)
    assert result.payoff == "my_log_probability"
    np.testing.assert_array_equal(result.values, expected.values)


def test_registered_methods_take_options(encoder, tokenizer):
    @register_method("positions")
    def positions(sentence, *, offset=0):
        """Index of each position."""
        return sentence.by_position(np.arange(len(sentence.encoded)) + offset, "positions", "present")

    try:
        assert METHODS["positions"].summary == "Index of each position."
        assert explain(encoder, tokenizer, TEXT, method="positions", offset=5).values.tolist() == [6, 7, 8]
        assert explain(encoder, tokenizer, TEXT, method="positions", players=[(0, 1), (2, 11)]).values.tolist() == [
            1,
            5,
        ]
        with pytest.raises(InputError, match="got layer; expected options among offset"):
            explain(encoder, tokenizer, TEXT, method="positions", layer=1)
    finally:
        del METHODS["positions"]
