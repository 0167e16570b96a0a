"""Former home of ``log_media``."""

from lightning_attnflow.plots.loggers import log_media as show

__all__ = ["show"]
