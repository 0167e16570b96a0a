"""The flow of one sentence as a picture, layers x words, that cannot be misread where a layer says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.plots.lettering import draw_outlines, outline, word_families
from lightning_attnflow.plots.records import SentenceFlow, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DOTS_PER_INCH = 100
MAX_NUMBERED_WORDS = 24  # beyond this a cell is too narrow for its number
_LONGEST_LABEL = 16
_CELL_HEIGHT = 0.36  # inches
_LABEL_SIZE, _NUMBER_SIZE = 12, 11  # points
_WARNING = "saturated: not importance"


def flow_heatmap(sentence: SentenceFlow, *, title: str | None = None, max_words: int = 60) -> Figure:
    """Draw the flow of every layer over the words, the layer next to the readout on top.

    Each row is a distribution. The numbers are percent of the flow of the row (left out beyond 24 words). The colour
    of a word is its flow relative to the largest word of the same row; special tokens are drawn in grey, on the scale
    0 to 100%. Rows where trivial cuts decide most tokens are hatched and say so: they are not importance.

    Args:
        sentence: the flow of one sentence: `sentence_flow(Sentence(model, tokenizer, text))`, or what the monitor
            kept.
        title: default: the text of the sentence.
        max_words: draw at most so many words, and say below the picture how many are not drawn.

    Raises:
        InputError: `max_words` < 1.
        MissingDependencyError: matplotlib is not installed.
    """
    if max_words < 1:
        raise InputError("max_words", got=max_words, expected="at least 1", remedy="Leave it at 60.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "drawing a heat map",
            got="no matplotlib",
            expected="matplotlib",
            remedy="pip install 'lightning-attnflow[plots]'",
        ) from error
    n_words = min(len(sentence.labels), max_words)
    labels = [shortened(label, _LONGEST_LABEL) for label in sentence.labels[:n_words]]
    # Straight labels need the width of the longest one, slanted ones only a line.
    slanted = max(map(len, labels)) * 0.1 + 0.1 > _column_width(n_words)
    left, right, top = 1.0, 0.2 if n_words <= MAX_NUMBERED_WORDS else 1.25, 0.45
    bottom = 0.52 + (0.075 * max(map(len, labels)) if slanted else 0.2)
    width = left + right + max(3.6, n_words * _column_width(n_words))
    height = top + bottom + _CELL_HEIGHT * len(sentence.values)
    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)  # not pyplot: that would keep every figure and touch the user's backend
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height))
    _draw_cells(axes, sentence, n_words)
    _name_cells(axes, labels, sentence, slanted=slanted)
    heading = title if title is not None else sentence.text
    figure.text(
        0.01,
        1 - 0.12 / height,
        shortened(heading, int(width * 9)),
        fontsize=11,
        va="top",
        weight="bold",
        parse_math=False,
        fontfamily=word_families(),
    )
    figure.text(0.01, 0.08 / height, _caption(len(sentence.labels) - n_words, n_words), fontsize=9, color="0.3")
    return figure


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 3) of a figure of this module, drawing it once."""
    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _column_width(n_words: int) -> float:
    return 0.62 if n_words <= MAX_NUMBERED_WORDS else 0.3  # inches


def _caption(n_hidden: int, n_words: int) -> str:
    """Return two lines, short enough for the narrowest figure."""
    numbers = "% of the row's flow; " if n_words <= MAX_NUMBERED_WORDS else ""
    hidden = f"; {n_hidden} MORE WORDS NOT DRAWN" if n_hidden else ""
    return f"{numbers}blue: relative to the row's largest word\ngrey: special tokens{hidden}"


def _name_cells(axes: Axes, labels: list[str], sentence: SentenceFlow, *, slanted: bool) -> None:
    """Write the words below and the layers beside the cells, which spares the drawing of axes and ticks."""
    from matplotlib.transforms import ScaledTranslation

    axes.set_axis_off()
    families = word_families()
    for word, (label, special) in enumerate(zip(labels, sentence.special, strict=False)):
        axes.annotate(
            label,
            (word, 0),
            xytext=(0, -5),
            xycoords=axes.get_xaxis_transform(),
            textcoords="offset points",
            rotation=40 if slanted else 0,
            rotation_mode="anchor",
            ha="right" if slanted else "center",
            va="top",
            fontsize=_LABEL_SIZE,
            color="0.45" if special else "black",
            fontfamily=families,
            parse_math=False,  # "$5 or $6" is no formula
            gid="word",
        )
    names = [*(f"layer {layer}" for layer in range(sentence.n_layers)), "readout"]
    assert axes.figure is not None
    beside = axes.get_yaxis_transform() + ScaledTranslation(-5 / 72, 0, axes.figure.dpi_scale_trans)
    shapes = [outline(name, _LABEL_SIZE, "right") for name in names]
    draw_outlines(axes, shapes, [(0, layer) for layer in range(len(names))], ["black"] * len(names), beside)


def _draw_cells(axes: Axes, sentence: SentenceFlow, n_words: int) -> None:
    """Fill the cells, number them, and strike out the saturated rows."""
    from matplotlib import colormaps

    total = np.maximum(sentence.values.sum(axis=1, keepdims=True), 1e-12)
    share = (sentence.values / total)[:, :n_words]
    special = sentence.special[:n_words]
    largest = np.max(share[:, ~special], axis=1, initial=1e-12)[:, None]  # no word at all may have flow
    saturated = [layer for layer in range(len(share)) if sentence.is_saturated(layer)]
    colours = colormaps["Blues"](0.85 * np.minimum(share / largest, 1.0))[..., :3]  # (L + 1, n, 3)
    colours[:, special] = colormaps["Greys"](0.6 * share[:, special])[..., :3]
    colours[saturated] = 0.9
    axes.imshow(colours, aspect="auto", interpolation="nearest", origin="lower")
    dark = colours.mean(axis=2) < 0.55
    if n_words <= MAX_NUMBERED_WORDS:
        cells = [(word, layer) for layer, word in np.argwhere(share > 0) if layer not in saturated]
        percent = [100 * share[layer, word] for word, layer in cells]
        texts = [f"{number:.0f}" if number >= 9.95 else f"{number:.1f}" for number in percent]
        colour = ["white" if dark[layer, word] else "0.2" for word, layer in cells]
        draw_outlines(axes, [outline(text, _NUMBER_SIZE) for text in texts], cells, colour, axes.transData)
    else:
        for layer in set(range(sentence.n_layers)) - set(saturated):
            text = f"darkest: {100 * largest[layer, 0]:.1f}%"
            axes.text(n_words - 0.3, layer, text, va="center", fontsize=9, color="0.3")
    for first, last in _runs(saturated):
        axes.axhspan(first - 0.5, last + 0.5, facecolor="none", edgecolor="0.75", hatch="////", linewidth=0)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        middle = ((n_words - 1) / 2, (first + last) / 2)
        axes.text(*middle, _WARNING, ha="center", va="center", fontsize=11, color="0.35", bbox=box)


def _runs(layers: list[int]) -> list[tuple[int, int]]:
    """Return the first and last layer of each run of neighbours."""
    firsts = [layer for layer in layers if layer - 1 not in layers]
    lasts = [layer for layer in layers if layer + 1 not in layers]
    return list(zip(firsts, lasts, strict=True))
