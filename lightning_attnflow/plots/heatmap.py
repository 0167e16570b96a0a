"""Heat map of the attention flow of one sentence, layers x words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer
from lightning_attnflow._figures import MAX_NUMBERED, layer_heat_map
from lightning_attnflow._optional import require
from lightning_attnflow.plots.sentence_flow import SentenceFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def flow_heatmap(sentence: SentenceFlow, *, title: str | None = None, max_words: int = 60) -> Figure:
    """Draw the attention flow of every layer over the words, with the readout at the top.

    Each row is a distribution. Numbers are percentages of the flow of the row (omitted for more than 24 words). Words
    are coloured relative to the largest word of the row; special tokens are grey on a scale from 0 to 100%. Saturated
    layers, where trivial cuts decide most tokens, are hatched and labelled: their flow does not measure importance.

    Args:
        sentence: result of ``sentence_flow``, or ``attention`` of an entry of ``AttentionFlowMonitor.latest``.
        title: default: the text of the sentence.
        max_words: number of words drawn; the caption states how many are omitted.

    Returns:
        A matplotlib figure, created without pyplot.

    Raises:
        InputError: ``max_words`` is not an integer >= 1.
        MissingDependencyError: matplotlib is not installed.
    """
    figure: Figure = draw_heatmap(None, sentence, title=title, max_words=max_words).get_figure(root=True)  # type: ignore[assignment]
    return figure


def draw_heatmap(axes: Axes | None, sentence: SentenceFlow, *, title: str | None = None, max_words: int = 60) -> Axes:
    """Draw the heat map on existing axes, or on those of a new figure."""
    n_words = min(len(sentence.labels), check_integer("max_words", max_words))
    total = np.maximum(sentence.values.sum(axis=1, keepdims=True), 1e-12)
    share = (sentence.values / total)[:, :n_words]
    special = sentence.special[:n_words]
    largest = np.max(share[:, ~special], axis=1, initial=1e-12)[:, None]  # the words may have no flow
    colormaps = require("matplotlib", extra="plots", purpose="figures").colormaps
    colours = colormaps["Blues"](0.85 * np.minimum(share / largest, 1.0))[..., :3]  # (L + 1, n, 3)
    colours[:, special] = colormaps["Greys"](0.6 * share[:, special])[..., :3]
    saturated = np.array([sentence.is_saturated(layer) for layer in range(len(share))])
    margin = [
        "" if hidden else f"largest: {100 * largest[layer, 0]:.1f}%" for layer, hidden in enumerate(saturated[:-1])
    ]
    return layer_heat_map(
        colours,
        [[_percent(value) for value in row] for row in 100 * share],
        rows=[*(f"layer {layer}" for layer in range(sentence.n_layers)), "readout"],
        columns=sentence.labels[:n_words],
        special=special,
        hatched=saturated,
        note="saturated: not importance",
        margin=margin,
        title=sentence.text if title is None else title,
        caption=_caption(len(sentence.labels) - n_words, n_words),
        ax=axes,
    )


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """Return the pixels of a figure, uint8 (height, width, 3)."""
    canvas = require("matplotlib.backends.backend_agg", extra="plots", purpose="figures").FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _caption(n_hidden: int, n_words: int) -> str:
    """Return two lines, short enough for the narrowest figure."""
    numbers = "% of the row's flow; " if n_words <= MAX_NUMBERED else ""
    hidden = f"; {n_hidden} more words not drawn" if n_hidden else ""
    return f"{numbers}blue: relative to the row's largest word\ngrey: special tokens{hidden}"


def _percent(value: float) -> str:
    return "" if value <= 0 else f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
