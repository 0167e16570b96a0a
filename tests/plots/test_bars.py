"""The bar chart draws each value and interval where it belongs."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_attnflow.attribution import TokenAttribution
from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.plots.bars import bar_chart

ATTRIBUTION = TokenAttribution(
    tokens=("[CLS]", "$x^2$", "film", "a span of words that is much too long to be written out"),
    values=np.array([0.4, -0.3, 0.1, 0.2]),
    method="shapley",
    positions=((0,), (1,), (2,), (3,)),
    is_special=np.array([True, False, False, False]),
    low=np.array([0.3, -0.5, 0.0, 0.2]),
    high=np.array([0.5, -0.2, 0.1, 0.2]),
    interval="confidence 0.95",
    payoff="log_probability",
    target=1,
)


def test_bars_and_whiskers_are_the_values_and_intervals(tmp_path):
    figure = bar_chart(ATTRIBUTION)
    (axes,) = figure.axes
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], ATTRIBUTION.values)
    ends = np.array([[segment[0, 0], segment[1, 0]] for segment in axes.collections[0].get_segments()])
    np.testing.assert_allclose(ends, np.stack([ATTRIBUTION.low, ATTRIBUTION.high], axis=1))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:3] == ["[CLS]", "$x^2$", "film"]
    assert labels[3].startswith("a span of w…")
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3  # special, against, for
    figure.savefig(tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 0


def test_a_limit_keeps_the_largest_in_the_order_of_the_sentence_and_says_so():
    (axes,) = bar_chart(ATTRIBUTION, limit=2).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["[CLS]", "$x^2$"]
    assert "the 2 largest of 4" in axes.get_title()


def test_leaves_pyplot_alone():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    bar_chart(ATTRIBUTION)
    assert plt.get_fignums() == before


@pytest.mark.parametrize("call", [lambda: bar_chart(ATTRIBUTION, limit=0), lambda: bar_chart(_nobody())])
def test_refuses_an_empty_chart(call):
    with pytest.raises(InputError, match="at least one bar"):
        call()


def _nobody():
    return TokenAttribution((), np.empty(0), "shapley", ())


def test_missing_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"lightning-attnflow\[plots\]"):
        bar_chart(ATTRIBUTION)


@pytest.mark.parametrize("installed", [[], ["Yu Gothic", "Noto Sans CJK JP"]])
def test_words_fall_back_on_a_cjk_font_if_there_is_one(monkeypatch, installed):
    from matplotlib.font_manager import FontEntry, fontManager

    fonts = [font for font in fontManager.ttflist if font.name.startswith("DejaVu")]
    known = [FontEntry(fname=fonts[0].fname, name=name) for name in installed]
    monkeypatch.setattr(fontManager, "ttflist", [*fonts, *known])
    (axes,) = bar_chart(ATTRIBUTION).axes
    families = axes.get_yticklabels()[0].get_fontfamily()
    assert families == ["sans-serif", *installed[1:]]
