"""Fixtures: tiny random models and their tokenizers, an encoder classifier and a causal language model."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

PIECES = [
    "a",
    "fine",
    "film",
    "great",
    "##ly",
    "good",
    "bad",
    "not",
    "very",
    "the",
    "plot",
    ",",
    ".",
    "!",
    "##s",
    "dull",
]


@pytest.fixture(scope="session")
def tokenizer():
    vocabulary = {piece: index for index, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES])}
    inner = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=32,
    )


@pytest.fixture(scope="session")
def encoder(tokenizer):
    torch.manual_seed(2)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=32,
        num_labels=3,
        initializer_range=0.2,
    )
    model = BertForSequenceClassification(config).eval()
    with torch.no_grad():
        model.classifier.weight.normal_()  # weights large enough that tokens change the output
    return model


@pytest.fixture(scope="session")
def causal_tokenizer():
    inner = Tokenizer(models.BPE({letter: index for index, letter in enumerate("Ġabcdefghijklmnopqrstuvwxyz.,!")}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=inner, model_max_length=32)


@pytest.fixture(scope="session")
def causal(causal_tokenizer):
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(causal_tokenizer),
        n_layer=3,
        n_head=2,
        n_embd=16,
        n_positions=32,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=None,
    )
    return GPT2LMHeadModel(config).eval()
