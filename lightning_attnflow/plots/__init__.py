"""Figures, tables and pages of flows and attributions; `loggers` puts them where a Lightning logger shows them."""

from __future__ import annotations

from lightning_attnflow.plots.bars import bar_chart
from lightning_attnflow.plots.heatmap import flow_heatmap
from lightning_attnflow.plots.intervals import interval_chart
from lightning_attnflow.plots.records import SentenceFlow
from lightning_attnflow.plots.sentence_flow import sentence_flow
from lightning_attnflow.plots.tables import flow_table, top_words_table
from lightning_attnflow.plots.tokens_html import save_tokens_html, tokens_html
from lightning_attnflow.plots.tokens_table import attribution_table

__all__ = [
    "SentenceFlow",
    "attribution_table",
    "bar_chart",
    "flow_heatmap",
    "flow_table",
    "interval_chart",
    "save_tokens_html",
    "sentence_flow",
    "tokens_html",
    "top_words_table",
]
