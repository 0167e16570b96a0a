"""Attention probabilities of a model, and the layered network made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import attention_rollout

if TYPE_CHECKING:
    from lightning_attnflow.attention.capture import capture_attention

__all__ = ["AttentionNetwork", "attention_rollout", "capture_attention"]


def __getattr__(name: str) -> object:
    if name == "capture_attention":  # needs torch, which the rest of this package does without
        from lightning_attnflow.attention.capture import capture_attention

        return capture_attention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
