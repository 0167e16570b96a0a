"""Which position the prediction reads, if the user leaves that to us."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from lightning_attnflow.attention.network import Readout

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def choose_readout(transformer: PreTrainedModel, *, causal: bool) -> tuple[Readout, str]:
    """Return a readout and, in words, why it was taken.

    Args:
        transformer: the Hugging Face model.
        causal: whether no token attends to a later one.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> size = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
        >>> classifier = BertForSequenceClassification(BertConfig(vocab_size=11, **size))
        >>> choose_readout(classifier, causal=False)
        ('first', 'BertForSequenceClassification has its classification head on the first token')
    """
    name = type(transformer).__name__
    if causal:
        return "last", f"{name} is causal: only its last token has seen the whole sentence"
    if name.endswith(("ForSequenceClassification", "ForMultipleChoice")):
        pooling = getattr(transformer.config, "classifier_pooling", "cls")  # ModernBERT can be told to pool by the mean
        if pooling == "mean":
            return "mean", f"{name} has its classification head on the mean of the tokens"
        return "first", f"{name} has its classification head on the first token"
    return "mean", (
        f"{name} has no head that reads one token, so mean pooling is assumed; pass readout='first' if your module "
        "reads [CLS]"
    )


def is_causal(attentions: Sequence[Tensor], real: Tensor) -> bool:
    """Return whether no real token attends to a later one.

    Args:
        attentions: L tensors (B, heads, T, T), `[sentence, head, query, key]`.
        real: (B, T) true on tokens that are no padding.
    """
    queries = real.to(attentions[0].device)[:, None, :, None]
    return not any(bool((layer * queries).triu(1).any()) for layer in attentions)
