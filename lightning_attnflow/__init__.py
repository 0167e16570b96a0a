"""Attention flow, Shapley values and data valuation for language models fine-tuned with PyTorch Lightning.

Based on Ethayarajh & Jurafsky, "Attention Flows are Shapley Value Explanations" (ACL 2021). The names are imported on
first use, so that ``import lightning_attnflow`` is fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_attnflow._lazy import lazy_exports

if TYPE_CHECKING:
    from lightning_attnflow import attention, attribution, callbacks, errors, flow, plots, shapley, valuation, viewer
    from lightning_attnflow.attention.capture import capture_attention
    from lightning_attnflow.attention.network import AttentionNetwork
    from lightning_attnflow.attention.rollout import attention_rollout
    from lightning_attnflow.attribution import conductance_flow, explain
    from lightning_attnflow.callbacks import AttentionFlowMonitor, TrainingDynamicsMonitor
    from lightning_attnflow.flow.attention_flow import attention_flow
    from lightning_attnflow.valuation import DataShapley, find_label_errors

__version__ = "0.1.0.dev0"

_SUBPACKAGES = ("attention", "attribution", "callbacks", "errors", "flow", "plots", "shapley", "valuation", "viewer")
_HOMES = {
    "AttentionFlowMonitor": "callbacks",
    "AttentionNetwork": "attention",
    "DataShapley": "valuation",
    "TrainingDynamicsMonitor": "callbacks",
    "attention_flow": "flow",
    "attention_rollout": "attention",
    "capture_attention": "attention",
    "conductance_flow": "attribution",
    "explain": "attribution",
    "find_label_errors": "valuation",
}

__all__ = [
    "AttentionFlowMonitor",
    "AttentionNetwork",
    "DataShapley",
    "TrainingDynamicsMonitor",
    "attention",
    "attention_flow",
    "attention_rollout",
    "attribution",
    "callbacks",
    "capture_attention",
    "conductance_flow",
    "errors",
    "explain",
    "find_label_errors",
    "flow",
    "plots",
    "shapley",
    "valuation",
    "viewer",
]

__getattr__, __dir__ = lazy_exports(__name__, _HOMES, submodules=_SUBPACKAGES)
