"""Token- and word-level explanations of one model on one sentence: every method behind one call, one result type."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from lightning_attnflow.explain.agreement import Agreement, GroupingComparison, agreement, compare_groupings
from lightning_attnflow.explain.attention_methods import SaturatedFlowWarning, default_layer
from lightning_attnflow.explain.attribution import TokenAttribution
from lightning_attnflow.explain.dispatch import explain, explain_all
from lightning_attnflow.explain.faithfulness import Faithfulness, bootstrap_interval, faithfulness
from lightning_attnflow.explain.html import colour_tokens
from lightning_attnflow.explain.layer_reading import last_layer_with_flow
from lightning_attnflow.explain.layer_table import LayerTable, layer_table
from lightning_attnflow.explain.method_audit import MethodAudit, audit_method, worst_audits
from lightning_attnflow.explain.payoff import PAYOFFS
from lightning_attnflow.explain.propositions import Proposition, propositions
from lightning_attnflow.explain.registry import METHODS
from lightning_attnflow.explain.sentence import Sentence
from lightning_attnflow.explain.study import MeanScore, agreement_study, faithfulness_study, mean_score
from lightning_attnflow.explain.token_game import TokenGame

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


class _CallableModule(ModuleType):
    """Lets ``from lightning_attnflow import explain`` be called.

    Importing this subpackage makes Python set the attribute ``explain`` of the package to the module, which would
    otherwise hide the function of that name.
    """

    __wrapped__ = staticmethod(explain)  # inspect.signature and help() then see the function's signature

    def __call__(self, *args: Any, **kwargs: Any) -> TokenAttribution:
        return explain(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
