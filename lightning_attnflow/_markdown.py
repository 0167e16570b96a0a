"""Text in Markdown tables and headings, shown as it is."""

from __future__ import annotations

import unicodedata

_ESCAPED = {ord(character): f"&#{ord(character)};" for character in "\\`*_|<>&~#!"}
_INVISIBLE = "\u200b\u200e\u200f\u061c\u2060\ufeff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def markdown_text(text: str) -> str:
    r"""Return text without meaning for Markdown or HTML, on one line.

    Control characters, and those that change the direction of the text around them, are shown by their number.

    Example:
        >>> markdown_text("[CLS] a_b"), markdown_text("[a](b)"), markdown_text("two\nlines\u202e")
        ('[CLS] a&#95;b', '[a]&#40;b)', 'two linesU+202E')
    """
    visible = (
        f"U+{ord(character):04X}"
        if character in _INVISIBLE or unicodedata.category(character) in ("Cc", "Cs")
        else character
        for character in " ".join(str(text).split())
    )
    return "".join(visible).translate(_ESCAPED).replace("](", "]&#40;").replace("][", "]&#91;")
