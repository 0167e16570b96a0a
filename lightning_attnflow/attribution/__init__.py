"""Token- and word-level explanations of one model on one sentence: every method behind one call, one result type."""

from __future__ import annotations

from lightning_attnflow.attribution.agreement import Agreement, GroupingComparison, agreement, compare_groupings
from lightning_attnflow.attribution.attention_methods import SaturatedFlowWarning, default_layer
from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.dispatch import explain, explain_all
from lightning_attnflow.attribution.faithfulness import Faithfulness, bootstrap_interval, faithfulness
from lightning_attnflow.attribution.html import colour_tokens
from lightning_attnflow.attribution.layer_reading import last_layer_with_flow
from lightning_attnflow.attribution.layer_table import LayerTable, layer_table
from lightning_attnflow.attribution.method_audit import MethodAudit, audit_method, worst_audits
from lightning_attnflow.attribution.payoff import PAYOFFS
from lightning_attnflow.attribution.propositions import Proposition, propositions
from lightning_attnflow.attribution.registry import METHODS
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.attribution.study import MeanScore, agreement_study, faithfulness_study, mean_score
from lightning_attnflow.attribution.token_game import TokenGame

__all__ = [
    "METHODS",
    "PAYOFFS",
    "Agreement",
    "Faithfulness",
    "GroupingComparison",
    "LayerTable",
    "MeanScore",
    "MethodAudit",
    "Proposition",
    "SaturatedFlowWarning",
    "Sentence",
    "TokenAttribution",
    "TokenGame",
    "agreement",
    "agreement_study",
    "audit_method",
    "bootstrap_interval",
    "colour_tokens",
    "compare_groupings",
    "default_layer",
    "explain",
    "explain_all",
    "faithfulness",
    "faithfulness_study",
    "last_layer_with_flow",
    "layer_table",
    "mean_score",
    "propositions",
    "worst_audits",
]
