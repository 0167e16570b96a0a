"""Explanations of one model on one sentence: one function, one result type, many methods."""

from __future__ import annotations

from lightning_attnflow.attribution.agreement import Agreement, GroupingComparison, agreement, compare_groupings
from lightning_attnflow.attribution.axiom_check import MethodAudit, check_axioms
from lightning_attnflow.attribution.baseline import fix_ends
from lightning_attnflow.attribution.conductance import conductance_flow, conductance_flows
from lightning_attnflow.attribution.dispatch import explain, explain_all
from lightning_attnflow.attribution.faithfulness import Faithfulness, bootstrap_interval, faithfulness
from lightning_attnflow.attribution.html import colour_tokens, tokens_html
from lightning_attnflow.attribution.methods import METHODS, register_method
from lightning_attnflow.attribution.methods.attention import default_layer
from lightning_attnflow.attribution.methods.flow import SaturatedFlowWarning, last_layer_with_flow
from lightning_attnflow.attribution.payoffs import PAYOFFS
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.attribution.token_game import TokenGame

__all__ = [
    "METHODS",
    "PAYOFFS",
    "Agreement",
    "Faithfulness",
    "GroupingComparison",
    "MethodAudit",
    "SaturatedFlowWarning",
    "Sentence",
    "TokenAttribution",
    "TokenGame",
    "agreement",
    "bootstrap_interval",
    "check_axioms",
    "colour_tokens",
    "compare_groupings",
    "conductance_flow",
    "conductance_flows",
    "default_layer",
    "explain",
    "explain_all",
    "faithfulness",
    "fix_ends",
    "last_layer_with_flow",
    "register_method",
    "tokens_html",
]
