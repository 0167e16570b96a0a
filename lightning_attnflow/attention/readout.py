"""The positions that a prediction reads: the rule behind ``readout="auto"``, the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lightning_attnflow.attention.module_calls import modules_around
from lightning_attnflow.attention.readout_gradient import FAILED, NO_LOGITS, gradient_norms
from lightning_attnflow.attention.transformer import is_kind

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
ASSUMED = "mean pooling is assumed"
_ENDS = 8  # tokens at either end of a long sentence that are enough to recognise a readout with a name


def choose_readout(
    model: nn.Module, inputs: Mapping[str, Any], mask: Tensor, *, causal: bool, module: nn.Module | None = None
) -> tuple[Pooling | np.ndarray[Any, np.dtype[np.float64]], str]:
    """Return a readout and the reason for it.

    A causal language model is read at the last token. Otherwise the positions are read whose hidden state after the
    last layer has a gradient of the logits that is not zero: the first token, the last one, all tokens (their mean), or
    others, each with its share of the norm of the gradient. The logits are those of the model or, if it has none, what
    the forward of the module around it returns.

    Without logits of the whole text, and without gradients (a quantised model), the architecture decides: causal models
    are read at the last token, sequence classification heads at the first one unless the config names another pooling
    (``classifier_pooling``, ``summary_type``), and other models by the mean.

    Args:
        model: the Hugging Face model.
        inputs: its keyword arguments for one sentence, (1, T) each.
        mask: bool (T,), true for real tokens.
        causal: whether no token attends to a later one; see `is_causal`.
        module: contains the model, such as a LightningModule with a head of its own.

    Returns:
        "first", "last" or "mean" of the real tokens, or weights (T,) that sum to 1; and the reason.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> size = {"hidden_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 8}
        >>> classifier = BertForSequenceClassification(BertConfig(vocab_size=11, **size))
        >>> inputs = {"input_ids": torch.tensor([[1, 5, 7, 2]])}
        >>> choose_readout(classifier, inputs, torch.ones(4, dtype=torch.bool), causal=False)
        ('first', 'the logits of BertForSequenceClassification depend on the first token')
    """
    name = type(model).__name__
    if causal and _generates(model):
        return "last", f"{name} is causal and predicts the next token at the last one"
    columns = mask.nonzero()[:, 0].cpu()
    whole = model
    norms, problem = _norms(whole, model, inputs, columns)
    for whole in modules_around(module, model) if problem == NO_LOGITS and module is not None else ():
        norms, problem = _norms(whole, model, inputs, columns)
        if norms is not None:
            break
    if norms is None:
        readout, reason = _by_architecture(model, causal=causal)
        return readout, f"{reason} ({problem})"
    reason = f"the logits of {type(whole).__name__} depend on"
    pooling = _pooling(norms)
    if pooling is not None:
        return pooling, f"{reason} {_WORDS[pooling]}"
    if len(norms) < len(columns):
        norms, _ = gradient_norms(whole, model, inputs, columns)
        assert norms is not None
    weights = np.zeros(len(mask))
    weights[columns.numpy()] = (norms / norms.sum()).numpy()
    positions = np.flatnonzero(weights)
    shown = ", ".join(map(str, positions[:5])) + (", ..." if len(positions) > 5 else "")
    return weights, f"{reason} the positions {shown}"


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


def _generates(model: Any) -> bool:
    return hasattr(model, "can_generate") and bool(model.can_generate())


def _by_architecture(model: nn.Module, *, causal: bool) -> tuple[Pooling, str]:
    name = type(model).__name__
    if is_kind(model, "ForTokenClassification"):
        return "mean", f"{name} predicts a class for every token; for one of them pass its position as readout"
    if causal:
        return "last", f"{name} is causal: only the last token attends to the whole sentence"
    if is_kind(model, *_SEQUENCE_HEADS):
        config: Any = model.config
        pooling = getattr(config, "classifier_pooling", None) or getattr(config, "summary_type", None) or "first"
        readout = _POOLING.get(pooling, "first")
        return readout, f"the classification head of {name} reads {_WORDS[readout]}"
    return "mean", f"{name} has no classification head, so {ASSUMED}; for [CLS] pass readout='first'"


def _norms(whole: nn.Module, model: nn.Module, inputs: Mapping[str, Any], columns: Tensor) -> tuple[Tensor | None, str]:
    """Return the norms of `gradient_norms`, of the ends of a long sentence if they are enough."""
    ends = torch.cat([columns[:_ENDS], columns[-_ENDS:]]) if len(columns) > 2 * _ENDS else columns
    norms, problem = gradient_norms(whole, model, inputs, ends)
    if problem.startswith(FAILED) and len(ends) < len(columns):  # such as a position that the ends do not have
        return gradient_norms(whole, model, inputs, columns)
    return norms, problem


def _pooling(norms: Tensor) -> Pooling | None:
    """Return the name of the readout of the positions whose gradient is not zero, or None."""
    read = norms > 0
    if bool(read.all()):
        return "mean" if len(norms) > 1 else "first"
    if int(read.sum()) > 1:
        return None
    return "first" if bool(read[0]) else "last" if bool(read[-1]) else None
