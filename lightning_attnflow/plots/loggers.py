"""Heat maps, tables and histograms of flows for Lightning loggers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from lightning_attnflow.errors import MissingDependencyError
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.plots.heatmap import draw_heatmap, rendered
from lightning_attnflow.plots.media_loggers import MediaLogger, Table, media_loggers
from lightning_attnflow.plots.sentence_flow import SentenceFlow, layer_name
from lightning_attnflow.plots.tables import conductance_table, flow_rows, top_words_table

__all__ = ["log_histograms", "log_sentence", "media_loggers"]


def log_sentence(
    loggers: Sequence[MediaLogger], tag: str, flow: SentenceFlow | ConductanceFlow | None, title: str, step: int
) -> bool:
    """Log the heat map and the table of one sentence as ``tag``.

    Returns:
        False if the heat map was not drawn because matplotlib is not installed.
    """
    if flow is None:
        return True
    if isinstance(flow, ConductanceFlow):
        markdown = conductance_table(flow, title=title)
        draw: Callable[[], Any] = partial(flow.plot, title=title)
    else:
        markdown = top_words_table(flow)
        draw = partial(draw_heatmap, None, flow, title=title)
    table = Table(markdown, *flow_rows(flow))
    for logger in loggers:
        logger.log_table(tag, table, step)
    try:
        pixels = rendered(draw().get_figure(root=True))
    except MissingDependencyError:
        return False
    for logger in loggers:
        logger.log_image(tag, pixels, step)
    return True


def log_histograms(loggers: Sequence[MediaLogger], tag: str, flows: Sequence[SentenceFlow], step: int) -> None:
    """Log a histogram of the attention flow of each layer as ``<tag>/layer_00`` and so on."""
    n_layers = flows[0].n_layers if flows else 0
    for layer in range(n_layers):
        # in multiples of the uniform share, so that sentences of all lengths are comparable
        values = np.concatenate([flow.values[layer] * len(flow.labels) / flow.values[layer].sum() for flow in flows])
        for logger in loggers:
            logger.log_histogram(f"{tag}/{layer_name(layer, n_layers)}", values, step)
