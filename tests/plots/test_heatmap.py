"""The heat map says what it shows: words, layers, percentages, and which rows are not importance."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from lightning_attnflow.errors import InputError
from lightning_attnflow.plots import SentenceFlow, flow_heatmap
from lightning_attnflow.plots.heatmap import MAX_NUMBERED_WORDS, rendered
from lightning_attnflow.plots.lettering import outline


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


def texts(figure: Any) -> list[str]:
    (axes,) = figure.axes
    return [text.get_text() for text in [*axes.texts, *figure.texts] if text.get_gid() is None]


def words(figure: Any) -> list[Any]:
    (axes,) = figure.axes
    return [text for text in axes.texts if text.get_gid() == "word"]


def outlines(figure: Any) -> list[list[str]]:
    """Return what is drawn as shapes: the numbers, then the names of the layers."""
    (axes,) = figure.axes
    numbers = [*(f"{tenth / 10:.1f}" for tenth in range(100)), *(str(percent) for percent in range(10, 101))]
    known = {outline(number, 11): number for number in numbers}
    known |= {outline(name, 12, "right"): name for name in ("layer 0", "layer 1", "readout")}
    return [[known[shape] for shape in drawn.get_paths()] for drawn in axes.collections]


def test_words_layers_and_percentages_are_written() -> None:
    figure = flow_heatmap(sentence())
    (axes,) = figure.axes
    assert [text.get_text() for text in words(figure)] == ["[CLS]", "word0", "word1", "word2"]
    numbers, layers = outlines(figure)
    assert layers == ["layer 0", "layer 1", "readout"]
    # Rows of percentages from the bottom: two layers with .1 .2 .3 .4, and the readout.
    assert numbers == ["10", "20", "30", "40"] * 2 + ["100"]  # no flow, no number
    assert "word0 word1 word2" in texts(figure)
    bottom, top = axes.get_ylim()
    assert bottom < top  # the layer next to the readout is drawn above the others


def test_saturated_rows_are_hatched_and_say_so_and_carry_no_number() -> None:
    figure = flow_heatmap(sentence(saturated=(0,)))
    (axes,) = figure.axes
    assert texts(figure).count("saturated: not importance") == 1
    assert [patch.get_hatch() for patch in axes.patches] == ["////"]
    assert outlines(figure)[0] == ["10", "20", "30", "40", "100"]
    pixels = axes.images[0].get_array()
    assert np.ptp(pixels[0]) == 0  # one grey
    assert np.ptp(pixels[1]) > 0


def test_special_tokens_are_grey_and_words_are_not() -> None:
    (axes,) = flow_heatmap(sentence()).axes
    red, _green, blue = np.moveaxis(np.asarray(axes.images[0].get_array()), -1, 0)
    np.testing.assert_allclose(red[:, 0], blue[:, 0], atol=0.02)
    assert (blue[0, 1:] > red[0, 1:]).all()
    assert (np.diff(red[0, 1:]) < 0).all()  # more flow is darker


def test_what_is_not_drawn_is_said_and_the_figure_grows_until_then() -> None:
    short, long = flow_heatmap(sentence(5)), flow_heatmap(sentence(59))
    assert short.get_figwidth() < long.get_figwidth()
    assert not any("NOT DRAWN" in text for text in [*texts(short), *texts(long)])
    cut = flow_heatmap(sentence(99))
    assert any("40 MORE WORDS NOT DRAWN" in text for text in texts(cut))
    assert cut.get_figwidth() == long.get_figwidth()
    assert len(outlines(flow_heatmap(sentence(MAX_NUMBERED_WORDS - 1)))) == 2
    assert outlines(flow_heatmap(sentence(MAX_NUMBERED_WORDS))) == [["layer 0", "layer 1", "readout"]]  # no numbers
    with pytest.raises(InputError, match="max_words: got 0"):
        flow_heatmap(sentence(), max_words=0)


@pytest.mark.parametrize(
    "labels",
    [
        ("[CLS]", "a", "b", "c"),
        ("[CLS]", "incomprehensibilities", "https://example.org/a/very/long/path", r"$\no_formula$"),
    ],
)
def test_every_label_is_inside_the_picture(labels: tuple[str, ...]) -> None:
    figure = flow_heatmap(sentence(labels=labels, text=" ".join(labels) * 3))
    pixels = rendered(figure)
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels.shape[:2], 100 * figure.get_size_inches()[::-1], atol=1)
    (axes,) = figure.axes
    assert len(axes.collections) == 2
    for drawn in [*words(figure), *axes.collections, *figure.texts]:
        box = drawn.get_window_extent()
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= pixels.shape[1]
        assert box.y1 <= pixels.shape[0]


def test_one_token_and_words_without_any_flow_can_be_drawn() -> None:
    one = sentence(0)
    assert outlines(flow_heatmap(one))[0] == ["100", "100", "100"]
    none = sentence(values=np.tile(np.eye(4)[0], (3, 1)))
    assert rendered(flow_heatmap(none)).shape[2] == 3


def test_pyplot_stays_out() -> None:
    code = (
        "import sys, numpy as np\n"
        "from lightning_attnflow.plots import SentenceFlow, flow_heatmap\n"
        "assert 'matplotlib' not in sys.modules\n"
        "e = np.eye(2)\n"
        "flow_heatmap(SentenceFlow(('a', 'b'), np.array([True, False]), e, e, e, e, e[0], e[0]))\n"
        "assert 'matplotlib.figure' in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True).stderr == ""
