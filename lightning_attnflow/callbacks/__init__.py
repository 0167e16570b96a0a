"""Lightning callbacks."""

from __future__ import annotations

from lightning_attnflow.callbacks.attention_flow_monitor import AttentionFlowMonitor

__all__ = ["AttentionFlowMonitor"]
