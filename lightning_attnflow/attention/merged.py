"""Attention of sentences with merged heads, captured layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_attnflow._checks import check_residual
from lightning_attnflow._memory import return_freed_memory
from lightning_attnflow.attention.capture import capture_layers
from lightning_attnflow.attention.head_merging import Floats, Heads, kept_positions, merge_heads
from lightning_attnflow.attention.network import AttentionNetwork, Readout, network_of
from lightning_attnflow.attention.readout import is_causal
from lightning_attnflow.attention.transformer import find_transformer

_MAX_LAYER_BYTES = 2**23
"""Memory for the attention of one layer; a longer sentence is alone in its forward pass."""
_HEADS = 16  # of a model whose config does not tell


@dataclass(frozen=True, eq=False)
class MergedAttention:
    """Attention of one sentence between its n real tokens.

    Args:
        layers: float64 (L, n, n), merged over the heads.
        kept: the n positions that are no padding.
        length: T, number of positions with padding.
        is_causal: whether no token attends to a later one.
        by_head: L arrays (H, n, n), if they were asked for.
    """

    layers: Floats
    kept: np.ndarray[Any, np.dtype[np.intp]]
    length: int
    is_causal: bool
    by_head: list[np.ndarray[Any, Any]] | None = None

    def network(self, *, residual: float, readout: Readout, copy: bool = True) -> AttentionNetwork:
        """Return the attention network, see `AttentionNetwork.from_attentions`; it uses ``layers`` unless `copy`."""
        check_residual(residual)
        layers = self.layers.copy() if copy else self.layers
        return network_of(layers, self.kept, self.length, residual, readout)


def capture_merged(
    model: nn.Module,
    inputs: Mapping[str, Any],
    masks: Tensor,
    *,
    heads: Heads = "mean",
    by_head: Sequence[bool] = (),
) -> Iterator[MergedAttention]:
    """Yield the attention of every sentence of a batch.

    Long sentences are captured one by one, so that neither the attention of several of them nor that of several layers
    and heads is in memory at once.

    Args:
        model: as for `capture_attention`.
        inputs: keyword arguments of its forward for a batch.
        masks: bool (B, T), true for real tokens, on the CPU.
        heads: as for `AttentionNetwork.from_attentions`.
        by_head: B sentences of which the attention of every head is kept too; default: none.
    """
    n_rows, length = masks.shape
    config: Any = find_transformer(model).config.get_text_config()
    n_heads = getattr(config, "num_attention_heads", None)
    row_bytes = 4 * (n_heads if isinstance(n_heads, int) else _HEADS) * length**2
    n_together = max(1, _MAX_LAYER_BYTES // row_bytes)
    wanted = list(by_head) or [False] * n_rows
    for start in range(0, n_rows, n_together):
        rows = slice(start, start + n_together)
        yield from _captured(model, row_inputs(inputs, rows, n_rows), masks[rows], heads, wanted[rows])


def row_inputs(inputs: Mapping[str, Any], rows: slice, n_rows: int) -> dict[str, Any]:
    """Return the inputs of some sentences of a batch of `n_rows`."""
    return {
        key: value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == n_rows else value
        for key, value in inputs.items()
    }


def _captured(
    model: nn.Module, inputs: Mapping[str, Any], masks: Tensor, heads: Heads, wanted: Sequence[bool]
) -> list[MergedAttention]:
    length = masks.shape[1]
    kept = [kept_positions(mask, length) for mask in masks]
    n_layers = getattr(find_transformer(model).config.get_text_config(), "num_hidden_layers", None)
    expected = n_layers if isinstance(n_layers, int) else 1
    merged = [np.empty((expected, len(positions), len(positions))) for positions in kept]  # filled in place
    causal: list[list[bool]] = []  # [layer][sentence]
    each_head: list[list[np.ndarray[Any, Any] | None]] = []

    def reduce(layer: Tensor) -> int:
        """Merge the heads of every sentence, and return how many layers came before, also of a first attempt."""
        number = len(causal)
        if layer.nbytes > _MAX_LAYER_BYTES:
            return_freed_memory()  # of the layer before, whose arrays had other sizes
        if number == len(merged[0]):
            merged[:] = [np.concatenate([found, np.empty_like(found)]) for found in merged]
        causal.append([is_causal([sentence], mask) for sentence, mask in zip(layer, masks, strict=True)])
        each_head.append([])
        for row, (sentence, positions) in enumerate(zip(layer, kept, strict=True)):
            array = _array(sentence)
            merged[row][number] = merge_heads(array, 0, length, positions, heads)
            each_head[-1].append(array[:, positions[:, None], positions] if wanted[row] else None)
        return number

    numbers = capture_layers(model, inputs, reduce)
    is_whole = numbers == list(range(len(merged[0])))
    return [
        MergedAttention(
            merged[row] if is_whole else merged[row][numbers],
            positions,
            length,
            length > 1 and all(causal[number][row] for number in numbers),
            [each_head[number][row] for number in numbers] if wanted[row] else None,  # type: ignore[misc]
        )
        for row, positions in enumerate(kept)
    ]


def _array(sentence: Tensor) -> np.ndarray[Any, Any]:
    return sentence.to(torch.promote_types(sentence.dtype, torch.float32)).cpu().numpy()
