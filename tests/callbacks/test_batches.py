"""Sentences from batches: rows, padding, copies; padding of probes."""

from __future__ import annotations

import models
import pytest
import torch
from transformers import CLIPConfig, LlavaConfig

from lightning_attnflow.callbacks.batches import first_sentences, model_inputs, padded, real_tokens
from lightning_attnflow.errors import InputError


def test_rows_are_copied_and_trailing_padding_is_dropped() -> None:
    batch = {key: value.flip(0) for key, value in models.padded_batch().items()}  # the short sentence first
    taken = first_sentences(batch, 1)
    assert {key: tuple(value.shape) for key, value in taken.items()} == {"input_ids": (1, 4), "attention_mask": (1, 4)}
    batch["input_ids"].zero_()
    assert (taken["input_ids"] > 0).all()
    assert first_sentences(models.padded_batch(left=True), 2)["input_ids"].shape == (2, 7)


def test_inputs_of_other_shapes_are_not_cropped() -> None:
    batch = models.padded_batch() | {"task": torch.tensor([3, 4]), "scale": 0.5, "bias": torch.ones(2, 7, 7)}
    taken = first_sentences(batch, 1)
    assert taken["task"].tolist() == [3]
    assert taken["scale"] == 0.5
    assert (taken["input_ids"].shape, taken["bias"].shape) == ((1, 7), (1, 7, 7))


def test_only_keys_accepted_by_the_model_are_read() -> None:
    batch = models.padded_batch() | {"labels": torch.zeros(2), "text": ["a", "b"], "token_type_ids": torch.zeros(2, 7)}
    assert set(model_inputs(batch, models.bert(), None)) == {"input_ids", "attention_mask", "token_type_ids"}
    assert set(model_inputs(batch, models.distilbert(), None)) <= {"input_ids", "attention_mask", "position_ids"}


def test_probes_are_padded_on_the_right_with_a_mask() -> None:
    inputs = padded([{"input_ids": [2, 5, 3]}, {"input_ids": [2, 5, 6, 7, 3]}], 9, models.gpt2())
    assert inputs["input_ids"].tolist() == [[2, 5, 3, 9, 9], [2, 5, 6, 7, 3]]
    assert real_tokens(inputs).sum(dim=1).tolist() == [3, 5]


@pytest.mark.parametrize("config", [LlavaConfig(), CLIPConfig()], ids=["LLaVA", "CLIP"])
def test_padding_is_found_through_nested_text_configs(config):
    model, text = models.bert(), config.get_text_config()
    text.pad_token_id, text.eos_token_id = models.PADDING, 3
    model.config = config  # states no pad_token_id or eos_token_id for the whole model
    tokens = models.padded_batch()["input_ids"]
    with pytest.raises(InputError, match="padding but no attention_mask"):
        model_inputs({"input_ids": tokens}, model, None)
    assert model_inputs({"input_ids": tokens[:1]}, model, None)["input_ids"].shape == (1, 7)
