"""Figures, tables and pages of flows and attributions; `loggers` puts them where a Lightning logger shows them."""

from __future__ import annotations

from lightning_attnflow.reporting.heatmap import flow_heatmap
from lightning_attnflow.reporting.records import SentenceFlow
from lightning_attnflow.reporting.tables import flow_table, top_words_table

__all__ = ["SentenceFlow", "flow_heatmap", "flow_table", "top_words_table"]
