"""The positions that a prediction reads: the rule behind ``readout="auto"``, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.transformer import accepts, shaped_inputs

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
_FAILED = "no gradient:"
_ENDS = 8  # tokens at either end of a long sentence that are enough to recognise a readout with a name


def choose_readout(
    model: nn.Module, inputs: Mapping[str, Any], mask: Tensor, *, causal: bool
) -> tuple[Pooling | np.ndarray[Any, np.dtype[np.float64]], str]:
    """Return a readout and the reason for it.

    A causal language model is read at the last token. Otherwise the positions are read whose hidden state after the
    last layer has a gradient of the logits that is not zero: the first token, the last one, all tokens (their mean), or
    others, each with its share of the norm of the gradient.

    Without logits of the whole text, and without gradients (a quantised model), the architecture decides: causal models
    are read at the last token, sequence classification heads at the first one unless the config names another pooling
    (``classifier_pooling``, ``summary_type``), and other models by the mean.

    Args:
        model: the Hugging Face model.
        inputs: its keyword arguments for one sentence, (1, T) each.
        mask: bool (T,), true for real tokens.
        causal: whether no token attends to a later one; see `is_causal`.

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
    ends = torch.cat([columns[:_ENDS], columns[-_ENDS:]]) if len(columns) > 2 * _ENDS else columns
    norms, problem = _gradient_norms(model, inputs, ends)
    if problem.startswith(_FAILED) and len(ends) < len(columns):  # such as a position that the ends do not have
        ends = columns
        norms, problem = _gradient_norms(model, inputs, ends)
    if norms is None:
        readout, reason = _by_architecture(model, causal=causal)
        return readout, f"{reason} ({problem})"
    pooling = _pooling(norms)
    if pooling is not None:
        return pooling, f"the logits of {name} depend on {_WORDS[pooling]}"
    if len(ends) < len(columns):
        norms, _ = _gradient_norms(model, inputs, columns)
        assert norms is not None
    weights = np.zeros(len(mask))
    weights[columns.numpy()] = (norms / norms.sum()).numpy()
    positions = np.flatnonzero(weights)
    shown = ", ".join(map(str, positions[:5])) + (", ..." if len(positions) > 5 else "")
    return weights, f"the logits of {name} depend on the positions {shown}"


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
    if causal:
        return "last", f"{name} is causal: only the last token attends to the whole sentence"
    if name.endswith(_SEQUENCE_HEADS):
        config: Any = model.config
        pooling = getattr(config, "classifier_pooling", None) or getattr(config, "summary_type", None) or "first"
        readout = _POOLING.get(pooling, "first")
        return readout, f"the classification head of {name} reads {_WORDS[readout]}"
    return "mean", f"{name} has no classification head, so mean pooling is assumed; for [CLS] pass readout='first'"


def _pooling(norms: Tensor) -> Pooling | None:
    """Return the name of the readout of the positions whose gradient is not zero, or None."""
    read = norms > 0
    if bool(read.all()):
        return "mean" if len(norms) > 1 else "first"
    if int(read.sum()) > 1:
        return None
    return "first" if bool(read[0]) else "last" if bool(read[-1]) else None


def _gradient_norms(model: Any, inputs: Mapping[str, Any], columns: Tensor) -> tuple[Tensor | None, str]:
    """Return the norm of the gradient of the logits by the last hidden state of each column; or None and the reason."""
    length = inputs["input_ids"].shape[1] if "input_ids" in inputs else inputs["inputs_embeds"].shape[1]
    states: list[Tensor] = []

    def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
        states.extend(part for part in _tensors(output) if part.ndim == 3 and part.shape[:2] == (1, len(columns)))

    def detached(_module: nn.Module, _arguments: Any, output: Tensor) -> Tensor:
        return output.detach().requires_grad_() + 0  # frozen embeddings have no gradient

    try:
        with eval_mode(model), gradients_enabled(model):
            cropped = {
                name: value[:, columns.to(value.device)].clone()  # also of inference tensors
                if isinstance(value, Tensor) and value.ndim >= 2 and value.shape[1] == length
                else value
                for name, value in inputs.items()
                if name != "labels"
            }
            handles = [module.register_forward_hook(keep) for module in model.modules()]
            if (embedding := _embedding(model)) is not None:
                handles.append(embedding.register_forward_hook(detached))
            try:
                options = {"return_dict": True} if accepts(model, "return_dict") else {}
                logits = getattr(model(**shaped_inputs(model, cropped), **options), "logits", None)
            finally:
                for handle in handles:
                    handle.remove()
            if not isinstance(logits, Tensor) or logits.ndim != 2:
                return None, "no logits of the whole text"
            if not logits.requires_grad:
                return None, "its logits have no gradient"
            weights = torch.linspace(1, 2, logits.shape[1], device=logits.device)  # gradients of classes may cancel
            total = (logits.float() * weights).sum()
            for state in reversed(states):
                gradient = _gradient(total, state)
                if gradient is not None:
                    norms = gradient[0].double().norm(dim=-1).cpu()
                    known = bool(norms.isfinite().all()) and bool(norms.any())
                    return (norms, "") if known else (None, "the gradient of its logits is 0 or not finite")
    except Exception as error:  # the reason is reported, and the architecture decides
        return None, f"{_FAILED} {' '.join(str(error).split())[:100]}"
    return None, "its logits have no gradient"


def _gradient(total: Tensor, state: Tensor) -> Tensor | None:
    if not state.requires_grad:
        return None
    return torch.autograd.grad(total, state, retain_graph=True, allow_unused=True)[0]


def _embedding(model: Any) -> nn.Module | None:
    try:
        found = model.get_input_embeddings()
    except (AttributeError, NotImplementedError):
        return None
    return found if isinstance(found, nn.Module) else None


def _tensors(output: Any) -> Iterator[Tensor]:
    parts = (
        output.values() if isinstance(output, Mapping) else output if isinstance(output, (tuple, list)) else [output]
    )
    yield from (part for part in parts if isinstance(part, Tensor))
