"""A page of coloured sentences: one explanation a row, for a browser, a notebook, W&B or Comet."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.html import colour_tokens, largest_value
from lightning_attnflow.errors import InputError

_BODY_STYLE = "max-width:70em;margin:1.5em auto;padding:0 1.5em;background:#fff;color:#111;font-family:sans-serif"
_LEGEND = (
    "Blue speaks for, orange against; the strongest colour is the largest absolute value of {scope}, "
    "special tokens (dashed frame) left out. Hover for the value."
)


def tokens_html(
    attributions: TokenAttribution | Sequence[TokenAttribution], *, title: str = "", shared_scale: bool = False
) -> str:
    """Return a standalone HTML page with one coloured sentence an explanation.

    Args:
        attributions: one or several explanations, of one sentence or of many.
        title: heading of the page; escaped, as everything else is.
        shared_scale: colour all rows on one scale; only for values in one unit.

    Returns:
        The page: inline styles only, no script, nothing fetched.

    Raises:
        InputError: no explanation at all.

    Example:
        >>> import numpy as np
        >>> attribution = TokenAttribution(("<script>", "film"), np.array([0.5, -0.1]), "leave_one_out", ((1,), (2,)))
        >>> page = tokens_html(attribution, title="A & B")
        >>> "<script>" in page, "&lt;script&gt;" in page, "A &amp; B" in page
        (False, True, True)
    """
    rows = [attributions] if isinstance(attributions, TokenAttribution) else list(attributions)
    if not rows:
        raise InputError("attributions", got="none", expected="at least one", remedy="Pass what explain() returned.")
    scale = max(largest_value(row.values, row.special) for row in rows) if shared_scale else None
    body = "\n".join(
        colour_tokens(row.tokens, row.values, caption=row.caption(), is_special=row.special, scale=scale)
        for row in rows
    )
    legend = _LEGEND.format(scope="the page" if shared_scale else "a row")
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title></head>\n'
        f'<body style="{_BODY_STYLE}">\n'
        f'<h2>{html.escape(title)}</h2>\n{body}\n<p style="color:#555;font-size:85%">{html.escape(legend)}</p>\n'
        "</body></html>\n"
    )


def save_tokens_html(
    path: str | Path,
    attributions: TokenAttribution | Sequence[TokenAttribution],
    *,
    title: str = "",
    shared_scale: bool = False,
) -> Path:
    """Write `tokens_html` to a file, UTF-8, and return its path."""
    path = Path(path)
    path.write_text(tokens_html(attributions, title=title, shared_scale=shared_scale), encoding="utf-8")
    return path
