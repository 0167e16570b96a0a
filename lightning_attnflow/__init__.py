"""Attention flow, Shapley values and data valuation for models fine-tuned with PyTorch Lightning.

After Ethayarajh & Jurafsky, "Attention Flows are Shapley Value Explanations" (ACL 2021). The names below are
imported on first use, so that ``import lightning_attnflow`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_attnflow.attention.capture import capture_attention
    from lightning_attnflow.attention.network import AttentionNetwork
    from lightning_attnflow.attention.rollout import attention_rollout
    from lightning_attnflow.attribution import explain
    from lightning_attnflow.callbacks import AttentionFlowMonitor
    from lightning_attnflow.flow.attention_flow import attention_flow
    from lightning_attnflow.valuation import DataShapley

__version__ = "0.1.0.dev0"

_HOMES = {
    "AttentionFlowMonitor": "callbacks",
    "AttentionNetwork": "attention",
    "DataShapley": "valuation",
    "attention_flow": "flow",
    "attention_rollout": "attention",
    "capture_attention": "attention",
    "explain": "attribution",
}

__all__ = [
    "AttentionFlowMonitor",
    "AttentionNetwork",
    "DataShapley",
    "attention_flow",
    "attention_rollout",
    "capture_attention",
    "explain",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"lightning_attnflow.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'lightning_attnflow' has no attribute {name!r}; it offers {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
