"""Capture of attention: correct probabilities, and restored state of the model and the process."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable

import models
import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from model_state import everything, unusual
from torch import nn
from transformers import (
    BartConfig,
    BartModel,
    BertModel,
)

from lightning_attnflow import capture_attention
from lightning_attnflow.attention.transformer import find_transformer
from lightning_attnflow.errors import CaptureError, InputError

IMPLEMENTATIONS = ["sdpa", "eager"]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", models.SUPPORTED)
def test_state_is_restored(name: str, implementation: str) -> None:
    model = unusual(models.SUPPORTED[name](), implementation)
    before = everything(model)
    attentions = capture_attention(model, models.padded_batch())
    assert everything(model) == before
    assert [tuple(layer.shape) for layer in attentions] == [(2, models.N_HEADS, 7, 7)] * models.N_LAYERS
    assert not any(layer.requires_grad for layer in attentions)


def test_state_is_restored_if_the_forward_pass_raises() -> None:
    model = unusual(models.bert_classifier(), "sdpa")

    def draw_and_fail(*_: object) -> None:
        random.random(), np.random.random(), torch.rand(1)  # noqa: NPY002
        raise ArithmeticError("in the middle of a forward")

    model.bert.encoder.layer[1].register_forward_hook(draw_and_fail)
    before = everything(model)
    with pytest.raises(ArithmeticError, match="in the middle"):
        capture_attention(model, models.padded_batch())
    assert everything(model) == before


def test_random_states_are_restored() -> None:
    model = models.bert()
    model.encoder.register_forward_hook(lambda *_: (random.random(), np.random.random(), torch.rand(3), None)[-1])  # noqa: NPY002
    before = everything(model)
    capture_attention(model, models.padded_batch())
    assert everything(model) == before


def test_training_is_the_same_after_two_captures() -> None:
    model, batch = models.bert_classifier(), models.padded_batch() | {"labels": torch.tensor([0, 1])}
    twin = copy.deepcopy(model)
    for candidate, captures in ((model, 2), (twin, 0)):
        torch.manual_seed(5)
        for _ in range(captures):
            capture_attention(candidate, batch)
        candidate(**batch).loss.backward()  # in train mode, with dropout
    for mine, theirs in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("name", models.SUPPORTED)
def test_probabilities_equal_those_of_the_eager_model_in_eval_mode(name: str) -> None:
    model, batch = models.SUPPORTED[name](), models.padded_batch()
    captured = capture_attention(model, batch)
    eager = models.SUPPORTED[name]().eval()
    eager.set_attn_implementation("eager")
    for mine, reference in zip(captured, eager(**batch, output_attentions=True).attentions, strict=True):
        torch.testing.assert_close(mine, reference.detach())
        assert mine.dtype is torch.float32


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", models.SUPPORTED)
def test_real_tokens_attend_only_to_real_tokens(name: str, left: bool) -> None:
    batch = models.padded_batch(left=left)
    real = batch["attention_mask"].bool()
    for layer in capture_attention(models.SUPPORTED[name](), batch):
        on_real = layer.masked_fill(~real[:, None, None, :], 0.0).sum(-1).transpose(1, 2)[real]
        torch.testing.assert_close(on_real, torch.ones_like(on_real))


def test_half_precision_is_captured_in_float32() -> None:
    attentions = capture_attention(models.bert().to(torch.bfloat16), models.padded_batch())
    assert all(layer.dtype is torch.float32 for layer in attentions)


def test_capture_in_inference_mode() -> None:
    model = models.bert()
    with torch.inference_mode():
        inside = capture_attention(model, models.padded_batch())
    for mine, reference in zip(inside, capture_attention(model, models.padded_batch()), strict=True):
        assert torch.equal(mine, reference)


def test_model_inside_a_module_is_found() -> None:
    class Holder(nn.Module):
        def __init__(self, **parts: nn.Module) -> None:
            super().__init__()
            for name, part in parts.items():
                self.add_module(name, part)

    encoder, batch = models.bert_classifier(), models.padded_batch()
    holder = Holder(encoder=encoder, head=nn.Linear(2, 2))
    assert find_transformer(holder) is encoder
    assert find_transformer(holder, "encoder.bert") is encoder.bert
    assert torch.equal(capture_attention(holder, batch)[0], capture_attention(encoder, batch)[0])

    with pytest.raises(CaptureError, match="no Hugging Face model in it"):
        capture_attention(nn.Linear(2, 2), batch)
    with pytest.raises(
        InputError, match=r"got 2; .*model='student' \(BertModel\) or model='teacher' \(GPT2LMHeadModel\)"
    ):
        find_transformer(Holder(student=models.bert(), teacher=models.gpt2()))
    with pytest.raises(InputError, match=r"model='head'.* got a Linear; .*model='encoder'"):
        find_transformer(holder, "head")
    with pytest.raises(InputError, match="no such attribute"):
        find_transformer(holder, "body")


class LitClassifier(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.head = models.bert(), nn.Linear(2, 2)


class SentenceTransformerModule(nn.Module):  # the first module of a SentenceTransformer
    def __init__(self) -> None:
        super().__init__()
        self.auto_model = models.bert()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda: nn.DataParallel(models.bert()),
        LitClassifier,
        lambda: nn.DataParallel(LitClassifier()),
        lambda: nn.Sequential(SentenceTransformerModule(), nn.Identity()),
    ],
    ids=["DataParallel", "LightningModule", "DataParallel of a LightningModule", "SentenceTransformer"],
)
def test_capture_through_wrappers(wrap: Callable[[], nn.Module]) -> None:
    wrapper = wrap()
    model = find_transformer(wrapper)
    assert isinstance(model, BertModel)
    found = capture_attention(wrapper, models.padded_batch())
    for mine, reference in zip(found, capture_attention(model, models.padded_batch()), strict=True):
        assert torch.equal(mine, reference)


def test_encoder_decoder_models_raise() -> None:
    batch = models.padded_batch() | {"decoder_input_ids": torch.tensor([[1], [1]])}
    expected = r"T5ForConditionalGeneration, an encoder-decoder.*Pass its encoder, the attribute 'encoder'"
    with pytest.raises(CaptureError, match=expected):
        capture_attention(models.t5(), batch)


def test_the_encoder_of_an_encoder_decoder_is_captured_although_they_share_a_config() -> None:
    size = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": models.VOCABULARY}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BartModel(BartConfig(**size, **heads)).eval()
    with pytest.raises(CaptureError, match="the attribute 'encoder'"):
        capture_attention(model, models.padded_batch())
    assert model.encoder.config.is_encoder_decoder
    mine = capture_attention(model.encoder, models.padded_batch())
    model.set_attn_implementation("eager")
    expected = model.encoder(**models.padded_batch(), output_attentions=True).attentions
    for layer, reference in zip(mine, expected, strict=True):
        torch.testing.assert_close(layer, reference.detach())
