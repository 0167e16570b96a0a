"""TokenAttribution: columns, groups, special tokens and HTML."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_attnflow.attribution import TokenAttribution, colour_tokens
from lightning_attnflow.errors import InputError


def attribution(**changes):
    facts = {
        "tokens": ("[CLS]", "great", "##ly", "fine"),
        "values": np.array([0.4, 0.1, -0.3, 0.2]),
        "method": "shapley",
        "positions": ((0,), (1,), (2,), (3,)),
        "is_special": np.array([True, False, False, False]),
        "stderr": np.array([0.0, 0.1, 0.2, 0.3]),
        "low": np.array([0.4, 0.0, -0.5, 0.0]),
        "high": np.array([0.4, 0.2, -0.1, 0.4]),
        "text": "greatly fine",
    }
    return TokenAttribution(**{**facts, **changes})


def test_grouped_adds_up_the_values_of_each_group():
    words = attribution().grouped([[0], [1, 2], [3]], ["[CLS]", "greatly", "fine"], "words")
    np.testing.assert_allclose(words.values, [0.4, -0.2, 0.2])
    np.testing.assert_allclose(words.stderr, [0.0, 0.3, 0.3])
    np.testing.assert_allclose(words.low, [0.4, -0.5, 0.0])
    assert words.positions == ((0,), (1, 2), (3,))
    assert words.is_special.tolist() == [True, False, False]
    assert (words.players, words.grouping) == ("words", "sum")


def test_without_special_drops_rows_without_rescaling():
    bare = attribution().without_special()
    assert bare.tokens == ("great", "##ly", "fine")
    np.testing.assert_allclose(bare.values, [0.1, -0.3, 0.2])
    np.testing.assert_allclose(bare.high, [0.2, -0.1, 0.4])


def test_top_sorts_by_absolute_value():
    assert attribution().top(2) == [("[CLS]", 0.4), ("##ly", -0.3)]


def test_efficiency_gap_is_none_without_a_game():
    assert attribution().efficiency_gap is None
    assert attribution(v_empty=-1.0, v_full=0.0).efficiency_gap == pytest.approx(1.0 - 0.4)


@pytest.mark.parametrize("column", ["values", "stderr", "low", "high", "is_special", "positions"])
def test_columns_of_different_lengths_raise_input_errors(column):
    with pytest.raises(InputError, match=column):
        attribution(**{column: getattr(attribution(), column)[:3]})


def test_values_are_read_only():
    with pytest.raises(ValueError, match="read-only"):
        attribution().values[0] = 1.0


def test_html_escapes_tokens_and_captions():
    hostile = attribution(tokens=("<script>alert(1)</script>", "a&b", '"', "'"), method="<b>")
    page = hostile._repr_html_()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a&amp;b" in page


def test_opacity_is_the_absolute_value_and_hue_the_sign():
    page = colour_tokens(["a", "b", "c"], np.array([1.0, -0.5, 0.0]))
    assert "rgba(33,102,172,1.00)" in page
    assert "rgba(190,78,20,0.50)" in page
    assert "rgba(33,102,172,0.00)" in page


def test_zero_values_are_transparent():
    assert colour_tokens(["a", "b"], np.zeros(2)).count(",0.00)") == 2


def test_special_tokens_are_excluded_from_the_colour_scale():
    page = colour_tokens(["[CLS]", "a", "b"], np.array([9.0, 1.0, 0.5]), is_special=[True, False, False])
    assert page.count(",1.00)") == 2
    assert ",0.50)" in page
    assert ",1.00)" in colour_tokens(["[CLS]", "a"], np.array([9.0, 0.0]), is_special=[True, False])


@pytest.mark.parametrize("value", np.linspace(-1, 1, 21))
def test_text_contrast_satisfies_wcag_2(value):
    """The contrast ratio is at least 4.5, the WCAG 2 limit for normal text."""
    page = colour_tokens(["a", "scale"], np.array([value, 1.0]))
    opacity = round(abs(value), 2)
    ground = [255 - opacity * (255 - channel) for channel in ((33, 102, 172) if value >= 0 else (190, 78, 20))]
    ink = [0] * 3 if "color:#000" in page.split("</span>")[0] else [255] * 3
    bright, dark = sorted((_luminance(ground), _luminance(ink)), reverse=True)
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


def _luminance(colour):
    linear = [(c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4) for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
