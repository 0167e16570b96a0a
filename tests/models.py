"""Tiny random Hugging Face models of several architectures, built from their configs without downloads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
)

VOCABULARY = 30
PADDING = 0
N_LAYERS, N_HEADS = 3, 2

_SIZE = {"hidden_size": 16, "num_hidden_layers": N_LAYERS, "num_attention_heads": N_HEADS, "intermediate_size": 24}


def _seeded(build: Callable[[], Any]) -> Any:
    """Build a model from a fixed seed, with weights large enough that attention is not uniform."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 2:
                    parameter.normal_(0.0, 0.5 if "embed" in name else 0.4)
        return model.train()


def bert_classifier(**config: Any) -> Any:
    settings = {"vocab_size": VOCABULARY, "num_labels": 2} | _SIZE | config
    return _seeded(lambda: BertForSequenceClassification(BertConfig(**settings)))


def bert(**config: Any) -> Any:
    return _seeded(lambda: BertModel(BertConfig(vocab_size=VOCABULARY, **_SIZE | config)))


def roberta() -> Any:
    return _seeded(lambda: RobertaModel(RobertaConfig(vocab_size=VOCABULARY, pad_token_id=PADDING, **_SIZE)))


def distilbert() -> Any:
    config = DistilBertConfig(vocab_size=VOCABULARY, dim=16, n_layers=N_LAYERS, n_heads=N_HEADS, hidden_dim=24)
    return _seeded(lambda: DistilBertModel(config))


def gpt2() -> Any:
    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=64,
        n_embd=16,
        n_layer=N_LAYERS,
        n_head=N_HEADS,
        bos_token_id=1,
        eos_token_id=1,
    )
    return _seeded(lambda: GPT2LMHeadModel(config))


def _t5_config() -> T5Config:
    return T5Config(vocab_size=VOCABULARY, d_model=16, d_kv=8, d_ff=24, num_layers=N_LAYERS, num_heads=N_HEADS)


def t5_encoder() -> Any:
    return _seeded(lambda: T5EncoderModel(_t5_config()))


def t5() -> Any:
    return _seeded(lambda: T5ForConditionalGeneration(_t5_config()))


SUPPORTED: dict[str, Callable[[], Any]] = {
    "BERT classifier": bert_classifier,
    "BERT": bert,
    "RoBERTa": roberta,
    "DistilBERT": distilbert,
    "GPT-2": gpt2,
    "T5 encoder": t5_encoder,
}


def padded_batch(*, left: bool = False) -> dict[str, torch.Tensor]:
    """Return two sentences of 7 and 4 tokens, padded to 7 on the right or the left."""
    generator = torch.Generator().manual_seed(7)
    input_ids = torch.randint(5, VOCABULARY, (2, 7), generator=generator)
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, slice(0, 3) if left else slice(4, 7)] = 0
    return {"input_ids": input_ids.masked_fill(attention_mask == 0, PADDING), "attention_mask": attention_mask}


WORD_PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "this",
    "movie",
    "was",
    "great",
    "un",
    "##watch",
    "##able",
    "a",
    "bad",
]
WORD_PIECES += [
    "film",
    "I",
    "saw",
    "it",
    "!",
    ".",
    "so",
    "very",
    "good",
    "sad",
    "story",
    "told",
    "well",
    "by",
    "no",
    "one",
]


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a WordPiece tokenizer like that of BERT, whose ids are in the vocabulary of the models above."""
    pieces = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(WORD_PIECES)}, unk_token="[UNK]"))
    pieces.normalizer = normalizers.BertNormalizer(lowercase=False)
    pieces.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pieces.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=pieces,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=40,
    )
