"""Bar chart: positions of bars and whiskers, labels, limit."""

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
    axes = bar_chart(ATTRIBUTION)
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], ATTRIBUTION.values)
    ends = np.array([[segment[0, 0], segment[1, 0]] for segment in axes.collections[0].get_segments()])
    np.testing.assert_allclose(ends, np.stack([ATTRIBUTION.low, ATTRIBUTION.high], axis=1))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:3] == ["[CLS]", "$x^2$", "film"]
    assert labels[3].startswith("a span of wo…")
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3  # special, negative, positive
    axes.figure.savefig(tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 0


def test_limit_keeps_the_largest_values_in_the_order_of_the_sentence():
    axes = bar_chart(ATTRIBUTION, limit=2)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["[CLS]", "$x^2$"]
    assert "the 2 largest of 4" in axes.get_title()


def test_pyplot_has_no_new_figure():
    import matplotlib.pyplot as plt

    before = plt.get_fignums()
    bar_chart(ATTRIBUTION)
    assert plt.get_fignums() == before


def test_empty_charts_are_refused():
    with pytest.raises(InputError, match="limit: got 0"):
        bar_chart(ATTRIBUTION, limit=0)
    with pytest.raises(InputError, match="got no players"):
        bar_chart(TokenAttribution((), np.empty(0), "shapley", ()))


def test_the_error_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"lightning-attnflow\[plots\]"):
        bar_chart(ATTRIBUTION)


@pytest.mark.parametrize("installed", [[], ["Yu Gothic", "Noto Sans CJK JP"]])
def test_words_fall_back_to_an_installed_cjk_font(monkeypatch, installed):
    from matplotlib.font_manager import FontEntry, fontManager

    fonts = [font for font in fontManager.ttflist if font.name.startswith("DejaVu")]
    known = [FontEntry(fname=fonts[0].fname, name=name) for name in installed]
    monkeypatch.setattr(fontManager, "ttflist", [*fonts, *known])
    axes = bar_chart(ATTRIBUTION)
    families = axes.get_yticklabels()[0].get_fontfamily()
    assert families == ["sans-serif", *installed[1:]]
