"""Figures, tables and histograms of the monitored sentences for the loggers."""

from __future__ import annotations

from collections.abc import Sequence

import lightning.pytorch as pl

from lightning_attnflow.callbacks.monitored_sentence import MonitoredSentence
from lightning_attnflow.plots.loggers import log_histograms, log_sentence, media_loggers


def log_sentences(trainer: pl.Trainer, name: str, shown: Sequence[MonitoredSentence], step: int) -> dict[str, str]:
    """Log a heat map and a table of each sentence under numbered names; return what the user is told once, by topic."""
    loggers = media_loggers(trainer.loggers, trainer.default_root_dir)
    drawn = [
        log_sentence(loggers, f"{name}_{index:02d}", one.conductance or one.attention, one.title(step), step)
        for index, one in enumerate(shown)
        if loggers
    ]
    if all(drawn):
        return {}
    return {"figures": "no heat maps without matplotlib: pip install 'lightning-attnflow[plots]'."}


def log_flow_histograms(trainer: pl.Trainer, name: str, sentences: Sequence[MonitoredSentence], step: int) -> None:
    """Log histograms of the attention flow in every layer."""
    flows = [one.attention for one in sentences if one.attention is not None]
    log_histograms(media_loggers(trainer.loggers, trainer.default_root_dir), name, flows, step)
