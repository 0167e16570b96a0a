"""Attention of single heads between the words of the probes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.capture import capture_attention
from lightning_attnflow.attention.heads import word_attention
from lightning_attnflow.attention.players import Players
from lightning_attnflow.viewer.record import heads_fit, too_many_heads

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

WordHeads = NDArray[np.float64] | str
"""Attention (L, H, n, n) between n words, or why there is none."""


def word_heads(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    masks: Sequence[torch.Tensor],
    players: Sequence[Players],
) -> list[WordHeads]:
    """Return the attention of every head between the words of each sentence, without the residual stream.

    Args:
        transformer: the model.
        batches: keyword arguments of its forward.
        masks: bool (B, T) of the real tokens of every batch, on the CPU.
        players: the words of every sentence.
    """
    config: Any = transformer.config.get_text_config()
    shape = int(getattr(config, "num_hidden_layers", 1)), int(getattr(config, "num_attention_heads", 1))
    found: list[WordHeads] = [too_many_heads(*shape, len(one)) for one in players]
    start = 0
    for batch, real in zip(batches, masks, strict=True):
        rows = [row for row in range(len(real)) if heads_fit(*shape, len(players[start + row]))]
        if rows:
            columns = real[rows].any(dim=0).nonzero()[:, 0]
            layers = [
                layer.float().cpu().numpy() for layer in capture_attention(transformer, _part(batch, rows, columns))
            ]
            for place, row in enumerate(rows):
                kept = real[row, columns].numpy()
                mine = [layer[place][:, kept][:, :, kept] for layer in layers]  # (H, t, t)
                found[start + row] = word_attention(mine, players[start + row])
        start += len(real)
    return found


def _part(batch: Mapping[str, Any], rows: list[int], columns: torch.Tensor) -> dict[str, Any]:
    """Return rows and columns of the inputs (B, T)."""
    shape = batch["input_ids"].shape
    return {
        name: value[rows][:, columns.to(value.device)] if getattr(value, "shape", None) == shape else value
        for name, value in batch.items()
    }
