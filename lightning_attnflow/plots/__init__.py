"""Figures, tables and HTML pages of flows and attributions; ``loggers`` sends them to Lightning loggers."""

from __future__ import annotations

from lightning_attnflow.attribution.html import tokens_html
from lightning_attnflow.plots.heatmap import flow_heatmap
from lightning_attnflow.plots.intervals import interval_chart
from lightning_attnflow.plots.sentence_flow import SentenceFlow, sentence_flow
from lightning_attnflow.plots.tables import attribution_table, flow_table, top_words_table

__all__ = [
    "SentenceFlow",
    "attribution_table",
    "flow_heatmap",
    "flow_table",
    "interval_chart",
    "sentence_flow",
    "tokens_html",
    "top_words_table",
]
