"""Heat map: words, layers, percentages, saturated rows, layout."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from lightning_attnflow._figures import MAX_NUMBERED
from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import SentenceFlow, flow_heatmap
from lightning_attnflow.plots.heatmap import rendered


def sentence(n_words: int = 3, n_layers: int = 2, saturated: tuple[int, ...] = (), **changes: Any) -> SentenceFlow:
    """Return a flow with [CLS], words of growing weight, and a readout on [CLS]."""
    n = n_words + 1
    values = np.tile(np.arange(1, n + 1) / (n * (n + 1) / 2), (n_layers + 1, 1))
    values[-1] = np.eye(n)[0]
    saturation = np.array([1.0 if layer in saturated else 0.2 for layer in range(n_layers + 1)])
    parts = {
        "labels": ("[CLS]", *(f"word{index}" for index in range(n_words))),
        "special": np.arange(n) == 0,
        "values": values,
        "lower": values * 0.5,
        "upper": values * 1.5,
        "rollout": values,
        "ambiguity": values.sum(axis=1),
        "saturation": saturation,
        "text": "word0 word1 word2",
    }
    return SentenceFlow(**parts | changes)


def texts(figure: Any, gid: str | None = None) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in [*axes.texts, *figure.texts] if text.get_gid() == gid]


def test_words_layers_and_percentages_are_written() -> None:
    figure = flow_heatmap(sentence())
    (axes,) = figure.axes
    assert texts(figure, "word") == ["[CLS]", "word0", "word1", "word2"]
    assert texts(figure, "layer") == ["layer 0", "layer 1", "readout"]
    assert texts(figure, "number") == ["10", "20", "30", "40"] * 2 + ["100"]  # cells without flow have no number
    assert "word0 word1 word2" in texts(figure)
    bottom, top = axes.get_ylim()
    assert bottom < top  # the readout is the top row


def test_saturated_rows_are_hatched_and_have_no_numbers() -> None:
    figure = flow_heatmap(sentence(saturated=(0,)))
    (axes,) = figure.axes
    assert texts(figure).count("saturated: not importance") == 1
    assert [patch.get_hatch() for patch in axes.patches] == ["////"]
    assert texts(figure, "number") == ["10", "20", "30", "40", "100"]
    pixels = axes.images[0].get_array()
    assert np.ptp(pixels[0]) == 0  # one grey
    assert np.ptp(pixels[1]) > 0


def test_special_tokens_are_grey_and_words_are_blue() -> None:
    (axes,) = flow_heatmap(sentence(9)).axes
    red, _green, blue = np.moveaxis(np.asarray(axes.images[0].get_array()), -1, 0)
    np.testing.assert_allclose(red[:, 0], blue[:, 0], atol=0.02)
    assert (blue[0, 1:] > red[0, 1:]).all()
    assert (np.diff(red[0, 5:]) < 0).all()  # more flow than the uniform share is darker
    assert (red[0, 1:5] == red[0, 1]).all()  # less is white


def test_a_uniform_row_is_white_and_the_caption_states_the_scale() -> None:
    flat, peaked = np.full(4, 0.25), np.array([0.1, 0.1, 0.1, 0.7])
    figure = flow_heatmap(sentence(values=np.array([flat, peaked, np.eye(4)[0]])))
    pixels = np.asarray(figure.axes[0].images[0].get_array())
    assert pixels[0].min() > 0.95
    assert pixels[1, 3].min() < 0.6
    assert any("white: up to 25% (uniform), darkest: 8 times it" in text for text in texts(figure))


def test_the_caption_states_the_number_of_omitted_words() -> None:
    short, long = flow_heatmap(sentence(5)), flow_heatmap(sentence(59))
    assert short.get_figwidth() < long.get_figwidth()
    assert not any("not drawn" in text for text in [*texts(short), *texts(long)])
    cut = flow_heatmap(sentence(99))
    assert any("40 more words not drawn" in text for text in texts(cut))
    assert cut.get_figwidth() == long.get_figwidth()
    assert texts(flow_heatmap(sentence(MAX_NUMBERED - 1)), "number")
    assert not texts(flow_heatmap(sentence(MAX_NUMBERED)), "number")
    with pytest.raises(InputError, match="max_words: got 0"):
        flow_heatmap(sentence(), max_words=0)
    with pytest.raises(InputError, match="sentence: got str; expected a SentenceFlow"):
        flow_heatmap("text")
    for title in (3, True, np.array("x")):
        with pytest.raises(InputError, match=r"title: got .*; expected a string"):
            flow_heatmap(sentence(), title=title)


@pytest.mark.parametrize(
    "labels",
    [
        ("[CLS]", "a", "b", "c"),
        ("[CLS]", "incomprehensibilities", "https://example.org/a/very/long/path", r"$\no_formula$"),
    ],
)
def test_labels_are_inside_the_figure(labels: tuple[str, ...]) -> None:
    figure = flow_heatmap(sentence(labels=labels, text=" ".join(labels) * 3))
    pixels = rendered(figure)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.shape[:2], 100 * figure.get_size_inches()[::-1], atol=1)
    (axes,) = figure.axes
    for drawn in [*axes.texts, *figure.texts]:
        box = drawn.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= pixels.shape[1]
        assert box.y1 <= pixels.shape[0]


def test_single_tokens_and_words_without_flow_are_drawn() -> None:
    one = sentence(0)
    assert texts(flow_heatmap(one), "number") == ["100", "100", "100"]
    none = sentence(values=np.tile(np.eye(4)[0], (3, 1)))
    assert rendered(flow_heatmap(none)).shape[2] == 3


def test_pyplot_is_not_imported() -> None:
    code = (
        "import sys, numpy as np\n"
        "from lightning_attnflow.plots import SentenceFlow, flow_heatmap\n"
        "assert 'matplotlib' not in sys.modules\n"
        "e = np.eye(2)\n"
        "flow_heatmap(SentenceFlow(('a', 'b'), np.array([True, False]), e, e, e, e, e[0], e[0]))\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True).stderr == ""


def test_existing_axes_can_be_drawn_on() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert sentence().plot(ax=axes) is axes
    assert texts(axes.figure, "word") == ["[CLS]", "word0", "word1", "word2"]
    assert "word0 word1 word2" in texts(sentence().plot().figure)
