"""Recording of queries, keys, values, weights and contexts of every attention layer, with gradients.

transformers looks the attention function of a layer up by the name in the config. For the time of a recording the model
uses a function of this module, which computes softmax attention like the eager implementation and stores its tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lightning_attnflow._state import configs_of
from lightning_attnflow._words import counted
from lightning_attnflow.errors import CaptureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WITHOUT_EDGES = "Pass edges=False: the values of the positions do not need the attention."

_NAME = "attnflow_recording"
_records: ContextVar[list[AttentionRecord] | None] = ContextVar("attention_records", default=None)


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """Tensors of one attention layer for a batch; keys and values are repeated for grouped queries.

    Args:
        query: (B, heads, T, d), after rotary embeddings.
        key: (B, heads, T, d), after rotary embeddings.
        value: (B, heads, T, d).
        weights: (B, heads, T, T) attention probabilities, [query, key].
        context: (B, heads, T, d), ``weights @ value``.
        mask: (B or 1, heads or 1, T, T), added to the scores, or None.
        scaling: of ``query @ key``.
        softcap: of the scaled scores, or None.
        product: (B, heads, T, T), ``query @ key``.
        position_scores: maps keys (heads, T, d) to the scores (heads, T, T) of keys and relative positions, which are
            linear in the keys, as in DeBERTa; or None. The mask contains them.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor
    context: Tensor
    mask: Tensor | None
    scaling: float
    softcap: float | None
    product: Tensor
    position_scores: Callable[[Tensor], Tensor] | None = None


@contextmanager
def record_attention(model: PreTrainedModel) -> Iterator[list[AttentionRecord]]:
    """Record every attention layer of the forward passes inside the context, in order.

    The list stays empty for models that do not use the attention interface of transformers. The caller restores the
    attention implementation of the model, for instance with ``eval_mode``.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(_NAME, _recording_attention)
    AttentionMaskInterface.register(_NAME, eager_mask)  # without it padding and causal masks would be dropped
    for config in configs_of(model):  # set_attn_implementation skips models whose source it does not recognise
        config._attn_implementation = _NAME
    records: list[AttentionRecord] = []
    token = _records.set(records)
    try:
        yield records
    finally:
        _records.reset(token)


def attention_weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None,
    product: Tensor | None = None,
) -> tuple[Tensor, Tensor | float]:
    """Return the probabilities (..., heads, T, T), and the derivative of a score by ``query @ key``."""
    scores = (query @ key.mT if product is None else product) * scaling
    slope: Tensor | float = scaling
    if softcap is not None:
        capped = torch.tanh(scores / softcap)
        scores, slope = softcap * capped, scaling * (1 - capped.detach() ** 2)
    if mask is not None:
        scores = scores + mask
    weights = scores.softmax(dim=-1, dtype=torch.promote_types(torch.float32, scores.dtype)).to(query.dtype)
    return weights, slope


def _recording_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    **unused: Any,  # dropout is 0 in eval mode; the rest concerns fused kernels
) -> tuple[Tensor, Tensor]:
    for name, given in unused.items():
        if isinstance(given, Tensor) and given.is_floating_point():  # such as the attention sinks of GPT-OSS
            raise CaptureError(
                f"attention of {type(module).__name__}",
                got=f"scores that depend on {name}",
                expected="the softmax of query @ key and a mask",
                remedy=WITHOUT_EDGES,
            )
    if key.shape[-2] != query.shape[-2]:  # such as the keys of earlier passes of a layer that is applied several times
        raise CaptureError(
            f"attention of {type(module).__name__}",
            got=f"keys of {counted(key.shape[-2], 'position')} for {counted(query.shape[-2], 'query')}",
            expected="attention between the positions of the text",
            remedy=WITHOUT_EDGES,
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    product = query @ key.mT
    weights, _ = attention_weights(query, key, attention_mask, scaling, softcap, product)
    context = weights @ value
    records = _records.get()
    if records is not None:
        records.append(AttentionRecord(query, key, value, weights, context, attention_mask, scaling, softcap, product))
    return context.transpose(1, 2).contiguous(), weights
