"""Recording of attention layers whose scores depend on relative positions: DeBERTa and MPNet.

They do not use the attention interface of transformers. Hooks compute the queries, keys and values of a layer again
from its input, and store them with the context that the layer computed itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from lightning_attnflow.attention.comparison import rounding
from lightning_attnflow.attention.recording import (
    WITHOUT_EDGES,
    AttentionRecord,
    attention_weights,
    record_attention,
)
from lightning_attnflow.errors import CaptureError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

PositionScores = Callable[[Tensor], Tensor]  # keys (heads, T, d) -> (heads, T, T), linear


class _Projections(NamedTuple):
    """Inputs of the softmax of a layer for a batch: queries, keys and values (B, heads, T, d)."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor  # (B, heads, T, T), with all scores other than ``query @ key``
    scaling: float
    position_scores: PositionScores | None  # scores that depend on the key and the relative position


@contextmanager
def record_layers(model: PreTrainedModel) -> Iterator[list[AttentionRecord]]:
    """Record every attention layer of the forward passes inside the context, in order; see `record_attention`."""
    with record_attention(model) as records:
        handles: list[Any] = []
        try:
            if not getattr(model.config, "conv_kernel_size", 0):  # a convolution mixes positions outside attention
                for module in model.modules():
                    handles += _hooks(module, records)
            yield records
        finally:
            for handle in handles:
                handle.remove()


def _hooks(module: Any, records: list[AttentionRecord]) -> list[Any]:
    """Register the hooks of one attention module; none for other modules."""
    name = type(module).__name__
    if name == "MPNetSelfAttention":
        contexts: list[Tensor] = []

        def split(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            contexts[:] = [_split(args[0], module.num_attention_heads)]
            return (_merged(contexts[0]), *args[1:])

        def store(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:  # noqa: ARG001
            records.append(_record(module, _mpnet(module, *args, **kwargs), contexts.pop()))

        return [module.o.register_forward_pre_hook(split), module.register_forward_hook(store, with_kwargs=True)]
    if name != "DisentangledSelfAttention" or getattr(module, "talking_head", False):
        return []

    def replace(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        context = _split(output[0], module.num_attention_heads)
        projections = (_deberta_v2 if hasattr(module, "query_proj") else _deberta)(module, *args, **kwargs)
        records.append(_record(module, projections, context))
        return (_merged(context), *output[1:])

    return [module.register_forward_hook(replace, with_kwargs=True)]


def _split(states: Tensor, heads: int) -> Tensor:  # (B, T, heads d) -> (B, heads, T, d)
    return states.reshape(*states.shape[:-1], heads, -1).transpose(1, 2)


def _merged(context: Tensor) -> Tensor:  # (B, heads, T, d) -> (B, T, heads d)
    return context.transpose(1, 2).flatten(2)


def _record(module: nn.Module, found: _Projections, context: Tensor) -> AttentionRecord:
    """Return the record of a layer, or raise if its own context is not that of the projections."""
    query, key, value, mask, scaling, position_scores = found
    weights, _ = attention_weights(query, key, mask, scaling, None)
    difference = (weights @ value - context.detach()).abs().amax()
    if float(difference) > rounding(value.dtype) * (1 + float(value.abs().amax())):
        raise CaptureError(
            type(module).__name__,
            got="a context that is not the softmax of the scores times the values",
            expected="attention as in DeBERTa or MPNet",
            remedy=WITHOUT_EDGES,
        )
    product = query @ key.mT
    return AttentionRecord(query, key, value, weights, context, mask, scaling, None, product, position_scores)


@torch.no_grad()
def _mpnet(
    module: Any, states: Tensor, attention_mask: Tensor | None = None, position_bias: Tensor | None = None, **_: Any
) -> _Projections:
    heads = module.num_attention_heads
    query, key, value = (_split(part(states), heads) for part in (module.q, module.k, module.v))
    mask = query.new_zeros(len(states), heads, states.shape[1], states.shape[1])
    for added in (position_bias, attention_mask):
        mask = mask if added is None else mask + added
    return _Projections(query, key, value, mask, module.attention_head_size**-0.5, None)


@torch.no_grad()
def _deberta_v2(
    module: Any,
    states: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,  # noqa: ARG001 the arguments are those of the layer
    query_states: Tensor | None = None,
    relative_pos: Tensor | None = None,
    rel_embeddings: Tensor | None = None,
) -> _Projections:
    heads = module.num_attention_heads
    query = _split(module.query_proj(states if query_states is None else query_states), heads)
    key, value = _split(module.key_proj(states), heads), _split(module.value_proj(states), heads)
    factor = 1 + ("c2p" in module.pos_att_type) + ("p2c" in module.pos_att_type)

    def scores(queries: Tensor, keys: Tensor) -> Tensor:  # (..., heads, T, d) -> (..., heads, T, T)
        near = relative_pos if relative_pos is None else relative_pos[..., : keys.shape[-2], : keys.shape[-2]]
        flat = (part.reshape(-1, *part.shape[-2:]) for part in (queries, keys))
        found: Tensor = module.disentangled_attention_bias(*flat, near, rel_embeddings, factor)
        return found.reshape(*keys.shape[:-1], keys.shape[-2])

    return _disentangled(module, query, key, value, attention_mask, scores, 1 / _root(query, factor))


@torch.no_grad()
def _deberta(
    module: Any,
    states: Tensor,
    attention_mask: Tensor,
    output_attentions: bool = False,  # noqa: ARG001
    query_states: Tensor | None = None,
    relative_pos: Tensor | None = None,
    rel_embeddings: Tensor | None = None,
) -> _Projections:
    if query_states is not None:
        raise CaptureError(type(module).__name__, got="separate query states", expected="self-attention")
    heads, factor = module.num_attention_heads, 1 + len(module.pos_att_type)
    query, key, value = _split(module.in_proj(states), heads).chunk(3, dim=-1)
    query = (query + _split(module.q_bias[None, None], heads)) / _root(key, factor)
    value = value + _split(module.v_bias[None, None], heads)

    def scores(queries: Tensor, keys: Tensor) -> Tensor:
        near = relative_pos if relative_pos is None else relative_pos[..., : keys.shape[-2], : keys.shape[-2]]
        batch = (part.reshape(-1, *part.shape[-3:]) for part in (queries, keys))
        found: Tensor = module.disentangled_att_bias(*batch, near, rel_embeddings, factor)
        return found.reshape(*keys.shape[:-1], keys.shape[-2])

    return _disentangled(module, query, key, value, attention_mask, scores, 1.0)


def _root(rows: Tensor, factor: int) -> float:
    """The divisor of the scores, which transformers computes in float32."""
    return float(torch.sqrt(torch.tensor(rows.shape[-1], dtype=torch.float32) * factor))


def _disentangled(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scores: Callable[[Tensor, Tensor], Tensor],
    scaling: float,
) -> _Projections:
    """Projections with scores from content to position and back, which are linear in the queries and the keys."""
    shape = (*query.shape[:-1], query.shape[-2])
    mask = query.new_zeros(shape).masked_fill(~attention_mask.bool(), torch.finfo(query.dtype).min)
    if not module.relative_attention:
        return _Projections(query, key, value, mask, scaling, None)

    def position_scores(keys: Tensor) -> Tensor:
        with torch.no_grad():
            return scores(torch.zeros_like(keys), keys)

    return _Projections(query, key, value, mask + scores(query, key), scaling, position_scores)
