"""Attention of single heads between words: sums over keys, means over queries, and limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel

from lightning_attnflow import capture_attention
from lightning_attnflow.attention.merged import capture_merged
from lightning_attnflow.attention.players import Players
from lightning_attnflow.callbacks.heads import heads_wanted, word_heads


@pytest.fixture
def encoder() -> BertModel:
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 3, "intermediate_size": 8}
    return BertModel(BertConfig(vocab_size=30, max_position_embeddings=2048, **size)).eval()


def players(*positions: tuple[int, ...]) -> Players:
    names = tuple(f"word{index}" for index in range(len(positions)))
    return Players("words", "players", names, positions, np.zeros(len(names), dtype=bool))


def test_tokens_of_a_word_are_summed_as_keys_and_averaged_as_queries(encoder: BertModel) -> None:
    inputs = {
        "input_ids": torch.tensor([[1, 5, 7, 2], [0, 1, 9, 2]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [0, 1, 1, 1]]),
    }
    of_words = [players((0,), (1, 2), (3,)), players((0,), (1,), (2,))]
    merged = capture_merged(encoder, inputs, inputs["attention_mask"].bool(), by_head=[True, True])
    first, second = (word_heads(encoder, *row) for row in zip(merged, of_words, strict=True))
    captured = np.stack([layer.numpy() for layer in capture_attention(encoder, inputs)], axis=1)  # (B, L, H, T, T)
    np.testing.assert_allclose(second, captured[1][:, :, 1:, 1:], atol=1e-6)
    np.testing.assert_allclose(first[:, :, 0, 1], captured[0][:, :, 0, 1:3].sum(axis=-1), atol=1e-6)
    np.testing.assert_allclose(first[:, :, 1, 2], captured[0][:, :, 1:3, 3].mean(axis=-1), atol=1e-6)
    np.testing.assert_allclose(first.sum(axis=-1), 1.0, atol=1e-6)


def test_a_long_text_has_none_and_says_why(encoder: BertModel) -> None:
    n = 300
    mask = torch.ones((2, n), dtype=torch.long)
    mask[1, 3:] = 0
    inputs = {"input_ids": torch.full((2, n), 4), "attention_mask": mask}
    of_words = [players(*((index,) for index in range(n))), players((0,), (1,), (2,))]
    wanted = heads_wanted(encoder, of_words)
    assert wanted == [False, True]
    merged = capture_merged(encoder, inputs, mask.bool(), by_head=wanted)
    long, short = (word_heads(encoder, *row) for row in zip(merged, of_words, strict=True))
    assert long == "The attention of 3 x 2 heads between 300 words is too large for the record."
    assert short.shape == (3, 2, 3, 3)
