"""Former home of ``SentenceFlow``."""

from lightning_attnflow.plots.sentence_flow import SentenceFlow, layer_name

__all__ = ["SentenceFlow", "layer_name"]
