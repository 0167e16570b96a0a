"""Heat map of the attention flow of one sentence, layers x words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer
from lightning_attnflow._figures import MAX_NUMBERED, draw_cells, shorten, word_fonts
from lightning_attnflow._optional import require
from lightning_attnflow.plots.sentence_flow import SentenceFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100
_LONGEST_LABEL = 16
_CELL_HEIGHT = 0.36  # inches
_LABEL_SIZE, _NUMBER_SIZE = 12, 11  # points


def flow_heatmap(sentence: SentenceFlow, *, title: str | None = None, max_words: int = 60) -> Figure:
    """Draw the flow of every layer over the words, with the readout at the top.

    Each row is a distribution. Numbers are percentages of the flow of the row (omitted for more than 24 words). Words
    are coloured relative to the largest word of the row; special tokens are grey on a scale from 0 to 100%. Saturated
    layers, where trivial cuts decide most tokens, are hatched and labelled: their flow does not measure importance.

    Args:
        sentence: result of ``sentence_flow``, or an entry of ``AttentionFlowMonitor.latest``.
        title: default: the text of the sentence.
        max_words: number of words drawn; the caption states how many are omitted.

    Returns:
        A matplotlib figure, created without pyplot.

    Raises:
        InputError: ``max_words`` is not an integer >= 1.
        MissingDependencyError: matplotlib is not installed.
    """
    n_words = min(len(sentence.labels), check_integer("max_words", max_words))
    labels = _labels(sentence, n_words)
    slanted = _is_slanted(labels, _column_width(n_words))
    left, right, top = 1.0, 0.2 if n_words <= MAX_NUMBERED else 1.25, 0.45  # inches
    bottom = 0.52 + (0.075 * max(map(len, labels)) if slanted else 0.2)
    width = left + right + max(3.6, n_words * _column_width(n_words))
    height = top + bottom + _CELL_HEIGHT * len(sentence.values)
    figure: Figure = require("matplotlib.figure", extra="plots", purpose="flow_heatmap").Figure(
        figsize=(width, height), dpi=DOTS_PER_INCH
    )
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))
    draw_heatmap(axes, sentence, max_words=n_words)
    heading = shorten(sentence.text if title is None else title, int(width * 9))
    style: dict[str, Any] = {"fontsize": 11, "weight": "bold", "parse_math": False, "fontfamily": word_fonts()}
    figure.text(0.01, 1 - 0.12 / height, heading, va="top", **style)
    figure.text(0.01, 0.08 / height, _caption(len(sentence.labels) - n_words, n_words), fontsize=9, color="0.3")
    return figure


def draw_heatmap(axes: Axes, sentence: SentenceFlow, *, max_words: int = 60) -> None:
    """Draw the heat map of the first ``max_words`` words on existing axes, without title and caption."""
    n_words = min(len(sentence.labels), max_words)
    _draw_cells(axes, sentence, n_words)
    for layer in range(len(sentence.values)):
        name = f"layer {layer}" if layer < sentence.n_layers else "readout"
        axes.annotate(
            name, (0, layer), (-5, 0), xycoords=axes.get_yaxis_transform(), textcoords="offset points",
            ha="right", va="center", fontsize=_LABEL_SIZE, gid="layer",
        )  # fmt: skip
    labels = _labels(sentence, n_words)
    slanted = _is_slanted(labels, axes.get_window_extent().width / axes.get_figure(root=True).dpi / n_words)  # type: ignore[union-attr]
    fonts = word_fonts()
    for word, (label, special) in enumerate(zip(labels, sentence.special, strict=False)):
        axes.annotate(
            label, (word, 0), (0, -5), xycoords=axes.get_xaxis_transform(), textcoords="offset points",
            rotation=40 if slanted else 0, rotation_mode="anchor", ha="right" if slanted else "center", va="top",
            fontsize=_LABEL_SIZE, color="0.45" if special else "black", fontfamily=fonts, parse_math=False, gid="word",
        )  # fmt: skip
    axes.set_axis_off()  # annotations are cheaper than ticks


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """Return the pixels of a figure, uint8 (height, width, 3)."""
    canvas = require("matplotlib.backends.backend_agg", extra="plots", purpose="figures").FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _column_width(n_words: int) -> float:
    return 0.62 if n_words <= MAX_NUMBERED else 0.3  # inches


def _labels(sentence: SentenceFlow, n_words: int) -> list[str]:
    return [shorten(label, _LONGEST_LABEL) for label in sentence.labels[:n_words]]


def _is_slanted(labels: list[str], column_width: float) -> bool:
    return max(map(len, labels)) * 0.1 + 0.1 > column_width


def _caption(n_hidden: int, n_words: int) -> str:
    """Return two lines, short enough for the narrowest figure."""
    numbers = "% of the row's flow; " if n_words <= MAX_NUMBERED else ""
    hidden = f"; {n_hidden} more words not drawn" if n_hidden else ""
    return f"{numbers}blue: relative to the row's largest word\ngrey: special tokens{hidden}"


def _draw_cells(axes: Axes, sentence: SentenceFlow, n_words: int) -> None:
    """Draw the share of each word in the flow of its layer."""
    colormaps = require("matplotlib", extra="plots", purpose="figures").colormaps
    total = np.maximum(sentence.values.sum(axis=1, keepdims=True), 1e-12)
    share = (sentence.values / total)[:, :n_words]
    special = sentence.special[:n_words]
    largest = np.max(share[:, ~special], axis=1, initial=1e-12)[:, None]  # the words may have no flow
    colours = colormaps["Blues"](0.85 * np.minimum(share / largest, 1.0))[..., :3]  # (L + 1, n, 3)
    colours[:, special] = colormaps["Greys"](0.6 * share[:, special])[..., :3]
    saturated = np.array([sentence.is_saturated(layer) for layer in range(len(share))])
    numbers = [[_percent(value) for value in row] for row in 100 * share]
    draw_cells(axes, colours, numbers, hatched=saturated, note="saturated: not importance", size=_NUMBER_SIZE)
    if n_words > MAX_NUMBERED:
        for layer in np.flatnonzero(~saturated[:-1]).tolist():
            text = f"largest: {100 * largest[layer, 0]:.1f}%"
            axes.text(n_words - 0.3, layer, text, va="center", fontsize=9, color="0.3")


def _percent(value: float) -> str:
    return "" if value <= 0 else f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
