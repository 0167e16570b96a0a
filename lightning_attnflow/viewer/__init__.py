"""One interactive page for flows and training runs: in TensorBoard, in an HTML file and in notebooks."""

from __future__ import annotations

from lightning_attnflow.viewer.page import frame_html, page_html, write_page
from lightning_attnflow.viewer.record import FlowPart, Prediction, sentence_record, step_record
from lightning_attnflow.viewer.results import attention_log, attribution_log, conductance_log
from lightning_attnflow.viewer.rules import find_verdicts
from lightning_attnflow.viewer.run_log import RunLog, read_runs
from lightning_attnflow.viewer.verdict import Verdict

__all__ = [
    "FlowPart",
    "Prediction",
    "RunLog",
    "Verdict",
    "attention_log",
    "attribution_log",
    "conductance_log",
    "find_verdicts",
    "frame_html",
    "page_html",
    "read_runs",
    "sentence_record",
    "step_record",
    "write_page",
]
