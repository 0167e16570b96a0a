"""Coloured tokens as HTML: red speaks against, blue for; everything a model or user wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The two ends of a diverging scale that colour-blind readers can tell apart (blue for, vermilion against).
_FOR, _AGAINST = (33, 102, 172), (202, 84, 22)
_STRONG = 0.6  # above this opacity white text reads better than black


def colour_tokens(
    tokens: Sequence[str],
    values: NDArray[np.float64],
    *,
    caption: str = "",
    is_special: Sequence[bool] | NDArray[np.bool_] | None = None,
    scale: float | None = None,
) -> str:
    """Return an HTML fragment of one sentence, every token on a ground as strong as its value.

    Args:
        tokens: (n,) what to show; escaped.
        values: float (n,).
        caption: a line above; escaped.
        is_special: bool (n,), tokens drawn in italics inside a dashed frame.
        scale: the absolute value of the strongest colour; default the largest of this sentence.

    Returns:
        A ``<div>`` with inline styles only, fit for a notebook, W&B or Comet.

    Example:
        >>> print(colour_tokens(["<b>"], np.array([1.0])))
        <div style="font-family:sans-serif;line-height:2.1"><span title="+1.0000" \
style="background:rgba(33,102,172,1.00);color:#fff;padding:2px 4px;border-radius:3px">&lt;b&gt;</span></div>
    """
    largest = float(np.abs(values).max(initial=0.0)) if scale is None else scale
    special = [False] * len(tokens) if is_special is None else [bool(flag) for flag in is_special]
    spans = [
        _span(*row, largest) for row in zip(tokens, np.asarray(values, dtype=float).tolist(), special, strict=True)
    ]
    head = f'<div style="color:#555;font-size:85%">{html.escape(caption)}</div>' if caption else ""
    return f'<div style="font-family:sans-serif;line-height:2.1">{head}{" ".join(spans)}</div>'


def _span(token: str, value: float, special: bool, scale: float) -> str:
    strength = min(abs(value) / scale, 1.0) if scale > 0 else 0.0
    red, green, blue = _FOR if value >= 0 else _AGAINST
    ink = "#fff" if strength > _STRONG else "#111"
    frame = ";border:1px dashed #999;font-style:italic" if special else ""
    return (
        f'<span title="{value:+.4f}" style="background:rgba({red},{green},{blue},{strength:.2f});color:{ink};'
        f'padding:2px 4px;border-radius:3px{frame}">{html.escape(token)}</span>'
    )
