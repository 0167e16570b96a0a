"""Token- and word-level explanations of one model on one sentence: every method behind one call, one result type."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from lightning_attnflow.explain.attention_methods import SaturatedFlowWarning, default_layer
from lightning_attnflow.explain.attribution import TokenAttribution
from lightning_attnflow.explain.dispatch import explain, explain_all
from lightning_attnflow.explain.html import colour_tokens
from lightning_attnflow.explain.payoff import PAYOFFS
from lightning_attnflow.explain.registry import METHODS
from lightning_attnflow.explain.token_game import TokenGame

__all__ = [
    "METHODS",
    "PAYOFFS",
    "SaturatedFlowWarning",
    "TokenAttribution",
    "TokenGame",
    "colour_tokens",
    "default_layer",
    "explain",
    "explain_all",
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
