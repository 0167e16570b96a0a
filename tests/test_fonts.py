"""Labels in any script: fonts with their glyphs, boxes where no font has one, and one warning."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from lightning_attnflow._figures import layer_heat_map, signed_colours, value_bars
from lightning_attnflow._fonts import _warn, drawable

DESERET = "\N{DESERET CAPITAL LETTER LONG I}\N{DESERET CAPITAL LETTER LONG E}"  # in few fonts


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> None:
    _warn.cache_clear()
    from matplotlib.font_manager import fontManager

    fonts = [font for font in fontManager.ttflist if font.name.startswith(("DejaVu", "Last Resort"))]
    monkeypatch.setattr(fontManager, "ttflist", fonts)


@pytest.fixture
def font_with_two_letters(only_dejavu: None, tmp_path: Path) -> str:  # noqa: ARG001
    """An installed font that has two letters that the default font lacks."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen
    from matplotlib.font_manager import fontManager

    pen = TTGlyphPen(None)
    for place, point in enumerate([(0, 0), (0, 700), (500, 700), (500, 0)]):
        (pen.lineTo if place else pen.moveTo)(point)
    pen.closePath()
    names = [".notdef", "one", "two"]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, DESERET), names[1:], strict=True)))
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (600, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two Letters", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "two.ttf")
    fontManager.addfont(tmp_path / "two.ttf")
    return "Two Letters"


def drawn_warnings(labels: list[str]) -> list[str]:
    """The warnings of both kinds of figures with these labels and titles, drawn to pixels."""
    values = np.linspace(-1, 1, len(labels))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        figures = [
            value_bars(values, labels=labels, title=labels[0]).figure,
            layer_heat_map(
                signed_colours(values[None], 1.0),
                [[""] * len(labels)],
                rows=["layer 0"],
                columns=labels,
                title=labels[0],
            ).figure,
        ]
        for figure in figures:
            figure.canvas.draw()
    return [str(warning.message) for warning in caught]


def test_an_installed_font_with_the_glyphs_is_used(font_with_two_letters: str) -> None:
    names, style = drawable(["film", DESERET])
    assert (names, style["fontfamily"]) == (["film", DESERET], ["sans-serif", font_with_two_letters])
    assert drawn_warnings(["film", DESERET]) == []


@pytest.mark.usefixtures("only_dejavu")
def test_glyphs_that_no_font_has_are_boxes_with_one_warning_for_each_script() -> None:
    labels = ["film", "\u597d\u7684", "a\u597d", "good\U000e0100", "\u05d8\u05d5\u05d1", "\U0001fae0"]
    found = drawn_warnings(labels)
    assert [message.split(" characters")[0] for message in found] == [
        "no installed font has the CJK",
        "no installed font has the emoji or symbol",
    ]
    names, style = drawable(labels, numbered=True)
    assert names == ["film", "\u25a1\u25a1 #1", "a\u25a1", "good", "\u05d8\u05d5\u05d1", "\u25a1 #5"]
    assert style["fontfamily"] == ["sans-serif"]


def test_control_characters_are_blanks() -> None:
    assert drawable(["a\nb", "\x00"])[0] == ["a b", " "]
