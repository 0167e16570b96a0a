"""The position that a prediction reads: the rule behind ``readout="auto"``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn

_SEQUENCE_HEADS = ("ForSequenceClassification", "ForMultipleChoice")
Pooling = Literal["first", "last", "mean"]
_POOLING: dict[str, Pooling] = {
    "cls": "first",
    "bos": "first",
    "first": "first",
    "last": "last",
    "mean": "mean",
    "late": "mean",
}
_WORDS = {"first": "the first token", "last": "the last token", "mean": "the mean of the tokens"}


def choose_readout(model: nn.Module, *, causal: bool) -> tuple[Pooling, str]:
    """Return a readout and the reason for it.

    Causal models are read at the last token. A sequence classification head reads the first token unless the config
    names another pooling (``classifier_pooling`` of ModernBERT and EuroBERT, ``summary_type`` of XLNet). Without such a
    head mean pooling is assumed.

    Args:
        model: the Hugging Face model.
        causal: whether no token attends to a later one; see `is_causal`.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> size = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
        >>> classifier = BertForSequenceClassification(BertConfig(vocab_size=11, **size))
        >>> choose_readout(classifier, causal=False)
        ('first', 'the classification head of BertForSequenceClassification reads the first token')
    """
    name = type(model).__name__
    if causal:
        return "last", f"{name} is causal: only the last token attends to the whole sentence"
    if name.endswith(_SEQUENCE_HEADS):
        config: Any = model.config
        pooling = getattr(config, "classifier_pooling", None) or getattr(config, "summary_type", None) or "first"
        readout = _POOLING.get(pooling, "first")
        return readout, f"the classification head of {name} reads {_WORDS[readout]}"
    return "mean", f"{name} has no classification head, so mean pooling is assumed; for [CLS] pass readout='first'"


def is_causal(attentions: Sequence[Any], mask: torch.Tensor | None = None) -> bool:
    """Return whether no real token attends to a later one; False for a single position.

    Args:
        attentions: L tensors or arrays (..., heads, T, T), ``[query, key]``.
        mask: (..., T), True on real tokens; default all.
    """
    layers = [torch.as_tensor(layer) for layer in attentions]
    if layers[0].shape[-1] < 2:
        return False
    heads = (head for layer in layers for head in layer.unbind(-3))  # one by one, to save memory
    if mask is None:
        return not any(bool(head.triu(1).any()) for head in heads)
    queries = mask.to(layers[0].device)[..., None]
    return not any(bool((head * queries).triu(1).any()) for head in heads)
