"""Fonts for text in any script: installed fonts that have its glyphs, and a box where none has one."""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

from lightning_attnflow._optional import require

_PREFERRED = (  # sans-serif fonts with many glyphs; the others are searched in alphabetical order
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Arial Unicode MS",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Devanagari",
    "Segoe UI",
    "Segoe UI Emoji",
    "Noto Emoji",
    "Symbola",
)
_UNUSABLE = ("Last Resort", "LastResort", "Adobe Blank", "Noto Color Emoji", "Apple Color Emoji")  # boxes, bitmaps
_BOX = "\N{WHITE SQUARE}"


def drawable(texts: Sequence[str], *, numbered: bool = False) -> tuple[list[str], dict[str, Any]]:
    """Return texts that can be drawn without missing glyphs, and the text properties for them.

    The fonts of the user come first, followed by installed ones that have the other characters. A character that no
    installed font has becomes a box.

    Args:
        texts: n labels.
        numbered: whether a label of boxes alone gets its position, to find it in a table.

    Returns:
        n labels, and keyword arguments of matplotlib's text functions.

    Warns:
        UserWarning: no installed font has some characters; one warning for each script and process.
    """
    families: list[str] = list(require("matplotlib", extra="plots", purpose="figures").rcParams["font.family"])
    style: dict[str, Any] = {"parse_math": False, "fontfamily": families}  # a dollar sign would start a formula
    texts = ["".join(" " if unicodedata.category(c) == "Cc" else c for c in str(text)) for text in texts]
    missing = {letter for text in texts for letter in text if not letter.isascii()}
    if not missing:
        return texts, style
    missing -= _glyphs_of(tuple(families))
    found, missing = _fallbacks(missing)
    families += found
    if missing:
        visible = {letter for letter in missing if unicodedata.category(letter) not in ("Cf", "Mn", "Me")}
        for script in sorted({_script(letter) for letter in visible}):
            _warn(script)
        boxes = {ord(letter): _BOX if letter in visible else None for letter in missing}
        texts = [
            text.translate(boxes) + (f" #{place}" if numbered and text and set(text) <= missing else "")
            for place, text in enumerate(texts)
        ]
    return texts, style


@lru_cache  # the registry of warnings forgets what it has shown whenever the filters change
def _warn(script: str) -> None:
    warnings.warn(
        f"no installed font has the {script} characters of the labels, which are drawn as boxes; tables show them. "
        "Install a font such as Noto Sans",
        stacklevel=1,
    )


def _fallbacks(missing: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return installed font families that have missing characters, and the characters that none has."""
    manager = require("matplotlib.font_manager", extra="plots", purpose="figures").fontManager
    rank = {name: place for place, name in enumerate(_PREFERRED)}
    fonts = {
        font.name: font.fname
        for font in sorted(manager.ttflist, key=lambda font: (font.style != "normal", font.weight != 400), reverse=True)
        if not font.name.startswith(_UNUSABLE)
    }
    left, found = set(missing), []
    for name in sorted(fonts, key=lambda name: (rank.get(name, len(rank)), name)):
        if not left:
            break
        glyphs = left & _glyphs(fonts[name])
        if glyphs:
            found.append(name)
            left -= glyphs
    return found, left


def _glyphs_of(families: tuple[str, ...]) -> set[str]:
    """Return the characters that the user's font families have."""
    fonts = require("matplotlib.font_manager", extra="plots", purpose="figures")
    found: set[str] = set()
    for family in families:
        try:
            path = fonts.findfont(fonts.FontProperties(family=[family]), fallback_to_default=False)
        except ValueError:  # not installed
            continue
        found |= _glyphs(str(path))
    return found


@lru_cache(maxsize=512)
def _glyphs(path: str) -> frozenset[str]:
    fonts = require("matplotlib.ft2font", extra="plots", purpose="figures")
    try:
        return frozenset(map(chr, fonts.FT2Font(path).get_charmap()))
    except (OSError, RuntimeError, ValueError):  # a font that cannot be read has no glyphs
        return frozenset()


def _script(letter: str) -> str:
    """Return the script of a character, the first word of its name: CJK, HIRAGANA, ARABIC."""
    name = unicodedata.name(letter, "")
    if unicodedata.category(letter) == "So":
        return "emoji or symbol"
    return name.split(" ")[0] if name else "unnamed"
