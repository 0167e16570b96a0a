"""Bar chart of an attribution: positions of bars and whiskers, labels, colours."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_attnflow.attribution import TokenAttribution
from lightning_attnflow.errors import MissingDependencyError

ATTRIBUTION = TokenAttribution(
    tokens=("[CLS]", "$x^2$", "film", "a span of words that is much too long to be written out"),
    values=np.array([0.4, -0.3, 0.1, 0.2]),
    method="shapley",
    positions=((0,), (1,), (2,), (3,)),
    is_special=np.array([True, False, False, False]),
    low=np.array([0.3, -0.5, 0.0, 0.2]),
    high=np.array([0.5, -0.2, 0.1, 0.2]),
    interval="95% interval",
    payoff="log_probability",
    target=1,
)


def test_bars_and_whiskers_are_at_the_values_and_intervals(tmp_path):
    axes = ATTRIBUTION.plot()
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], ATTRIBUTION.values)
    ends = np.array([[segment[0, 0], segment[1, 0]] for segment in axes.collections[0].get_segments()])
    np.testing.assert_allclose(ends, np.stack([ATTRIBUTION.low, ATTRIBUTION.high], axis=1))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:3] == ["[CLS]", "$x^2$", "film"]
    assert labels[3].startswith("a span of wo…")
    assert len({bar.get_facecolor() for bar in axes.patches}) == 3  # special, negative, positive
    assert axes.get_xlabel() == "value (log probability)"
    axes.figure.savefig(tmp_path / "bars.png")
    assert (tmp_path / "bars.png").stat().st_size > 0
    assert ATTRIBUTION.plot(ax=axes) is axes


def test_the_error_without_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"lightning-attnflow\[plots\]"):
        ATTRIBUTION.plot()
