"""Lightning callbacks."""

from __future__ import annotations

from lightning_attnflow.callbacks.attention_flow_monitor import AttentionFlowMonitor
from lightning_attnflow.callbacks.monitored_sentence import MonitoredSentence
from lightning_attnflow.callbacks.training_dynamics_monitor import TrainingDynamicsMonitor
from lightning_attnflow.viewer.numbers import SCALARS

__all__ = ["SCALARS", "AttentionFlowMonitor", "MonitoredSentence", "TrainingDynamicsMonitor"]
