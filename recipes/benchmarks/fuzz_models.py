"""The tiny models and the tokenizer of fuzz.py."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *("a", "fine", "film", "great", "good", "bad", "not", "very"))
WORDS += ("the", "plot", ",", ".", "!")


@cache
def classifier() -> Any:
    """A tiny BERT with two classes."""
    torch.manual_seed(0)
    size = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    return BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), max_position_embeddings=32, **size))


@cache
def language_model() -> Any:
    """A tiny GPT-2."""
    torch.manual_seed(0)
    config = {"bos_token_id": 2, "eos_token_id": 3, "n_layer": 2, "n_head": 2, "n_embd": 8, "n_positions": 32}
    return GPT2LMHeadModel(GPT2Config(vocab_size=len(WORDS), **config))


@cache
def tokenizer(*, template: bool = False) -> Any:
    """A word tokenizer, with or without a chat template."""
    inner = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    made = PreTrainedTokenizerFast(tokenizer_object=inner, mask_token="[MASK]", model_max_length=32, **special)
    if template:
        made.chat_template = "[CLS]{% for m in messages %} {{ m['content'] }} [SEP]{% endfor %}"
    return made
