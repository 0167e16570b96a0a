"""Attention flow: maximum flows through the layered attention network, and their Shapley values."""

from lightning_attnflow.flow.attention_flow import METHODS, attention_flow
from lightning_attnflow.flow.game import FlowGame
from lightning_attnflow.flow.result import SATURATION_THRESHOLD, AttentionFlow
from lightning_attnflow.flow.solvers import SOLVERS, EdgeSolver, MaxFlow, Solver

__all__ = [
    "METHODS",
    "SATURATION_THRESHOLD",
    "SOLVERS",
    "AttentionFlow",
    "EdgeSolver",
    "FlowGame",
    "MaxFlow",
    "Solver",
    "attention_flow",
]
