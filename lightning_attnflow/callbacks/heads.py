"""Attention of single heads between the words of the probes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.heads import word_attention
from lightning_attnflow.attention.merged import MergedAttention
from lightning_attnflow.attention.players import Players
from lightning_attnflow.viewer.packing import heads_fit, too_many_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WordHeads = NDArray[np.float64] | str
"""Attention (L, H, n, n) between n words, or why there is none."""


def heads_wanted(transformer: PreTrainedModel, players: Sequence[Players]) -> list[bool]:
    """Return whether the attention of every head between the words of each sentence is small enough to record it."""
    return [heads_fit(*_shape(transformer), len(one)) for one in players]


def word_heads(transformer: PreTrainedModel, merged: MergedAttention, players: Players) -> WordHeads:
    """Return the attention of every head between the words of a sentence, without the residual stream."""
    if merged.by_head is None:
        return too_many_heads(*_shape(transformer), len(players))
    return word_attention(merged.by_head, players)


def _shape(transformer: PreTrainedModel) -> tuple[int, int]:
    config: Any = transformer.config.get_text_config()
    return int(getattr(config, "num_hidden_layers", 1)), int(getattr(config, "num_attention_heads", 1))
