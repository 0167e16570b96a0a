"""Attention probabilities of a model, and the layered network built from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_attnflow._lazy import lazy_exports
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import attention_rollout

if TYPE_CHECKING:
    from lightning_attnflow.attention.capture import capture_attention

__all__ = ["AttentionNetwork", "attention_rollout", "capture_attention"]

# capture needs torch; the rest of the package does not
__getattr__, __dir__ = lazy_exports(__name__, {"capture_attention": "capture"})
