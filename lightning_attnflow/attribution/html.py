"""Coloured tokens as HTML: red speaks against, blue for; everything a model or user wrote is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# The two ends of a diverging scale that colour-blind readers can tell apart (blue for, vermilion against).
_FOR, _AGAINST = (33, 102, 172), (190, 78, 20)
_INK_SWITCH = 0.179  # relative luminance below which white text has the better contrast (WCAG 2)


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
        scale: the absolute value of the strongest colour, which larger ones are drawn in too; default the largest
            of this sentence, special tokens left out, since [CLS] would outshine all others in most attention methods.

    Returns:
        A ``<div>`` with inline styles only, fit for a notebook, W&B or Comet.

    Example:
        >>> print(colour_tokens(["<b>"], np.array([1.0])))
        <div style="font-family:sans-serif;line-height:2.1"><span title="+1.0000" \
style="background:rgba(33,102,172,1.00);color:#fff;padding:2px 4px;border-radius:3px">&lt;b&gt;</span></div>
    """
    special = [False] * len(tokens) if is_special is None else [bool(flag) for flag in is_special]
    largest = largest_value(values, special) if scale is None else scale
    spans = [
        _span(*row, largest) for row in zip(tokens, np.asarray(values, dtype=float).tolist(), special, strict=True)
    ]
    head = f'<div style="color:#555;font-size:85%">{html.escape(caption)}</div>' if caption else ""
    return f'<div style="font-family:sans-serif;line-height:2.1">{head}{" ".join(spans)}</div>'


def largest_value(values: NDArray[np.float64], is_special: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Return the largest absolute value of the tokens that are not special, or of all if the others have none."""
    strengths = np.abs(np.asarray(values, dtype=float))
    own = strengths[~np.asarray(is_special, dtype=bool)].max(initial=0.0)
    return float(own if own > 0 else strengths.max(initial=0.0))


def _luminance(colour: tuple[int, int, int], opacity: float) -> float:
    """Relative luminance (WCAG 2) of a colour laid over white."""
    shares = [1 - opacity * (1 - channel / 255) for channel in colour]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _span(token: str, value: float, special: bool, scale: float) -> str:
    strength = min(abs(value) / scale, 1.0) if scale > 0 else 0.0
    red, green, blue = _FOR if value >= 0 else _AGAINST
    ink = "#000" if _luminance((red, green, blue), strength) > _INK_SWITCH else "#fff"
    frame = ";border:1px dashed #999;font-style:italic" if special else ""
    return (
        f'<span title="{value:+.4f}" style="background:rgba({red},{green},{blue},{strength:.2f});color:{ink};'
        f'padding:2px 4px;border-radius:3px{frame}">{html.escape(token)}</span>'
    )
