"""Attention flow (maximum flows through the attention network, and their Shapley values) and conductance flow."""

from lightning_attnflow.flow.attention_flow import METHODS, attention_flow
from lightning_attnflow.flow.conductance import ConductanceFlow, ConservationWarning
from lightning_attnflow.flow.game import FlowGame
from lightning_attnflow.flow.result import SATURATION_THRESHOLD, AttentionFlow
from lightning_attnflow.flow.solvers import SOLVERS, EdgeSolver, MaxFlow, Solver

__all__ = [
    "METHODS",
    "SATURATION_THRESHOLD",
    "SOLVERS",
    "AttentionFlow",
    "ConductanceFlow",
    "ConservationWarning",
    "EdgeSolver",
    "FlowGame",
    "MaxFlow",
    "Solver",
    "attention_flow",
]
