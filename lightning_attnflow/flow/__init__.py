"""Attention flow: maximum flows through the layered attention network, and the games they pay."""

from lightning_attnflow.flow.attention_flow import METHODS, attention_flow
from lightning_attnflow.flow.game import FlowGame
from lightning_attnflow.flow.result import AttentionFlow
from lightning_attnflow.flow.solvers import SOLVERS

__all__ = ["METHODS", "SOLVERS", "AttentionFlow", "FlowGame", "attention_flow"]
