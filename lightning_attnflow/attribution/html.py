"""Coloured tokens as HTML: blue for positive values, orange for negative ones. All text is escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_bool, check_instance, check_items, check_numbers, check_text
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from lightning_attnflow.attribution.result import TokenAttribution

# A diverging scale that remains distinguishable with colour-vision deficiencies.
_POSITIVE, _NEGATIVE = (33, 102, 172), (190, 78, 20)
_DARK_BELOW = 0.179  # relative luminance below which white text has the better contrast (WCAG 2)
_LEGEND = (
    "Blue: positive, orange: negative. The strongest colour is the largest absolute value of {scope}, special tokens "
    "(dashed frame) excluded. Hover for the value."
)


def colour_tokens(
    tokens: Sequence[str],
    values: NDArray[np.float64],
    *,
    caption: str = "",
    is_special: Sequence[bool] | NDArray[np.bool_] | None = None,
    scale: float | None = None,
) -> str:
    """Return an HTML fragment of one sentence, with the background of each token coloured by its value.

    Args:
        tokens: (n,) texts.
        values: float (n,).
        caption: line above the tokens.
        is_special: bool (n,), tokens drawn in italics with a dashed frame.
        scale: absolute value of the strongest colour; default the largest one of the ordinary tokens, because special
            tokens have much larger values in most attention methods.

    Returns:
        A ``<div>`` with inline styles, for notebooks, W&B or Comet.

    Raises:
        InputError: not one value, or not one mark, for each token.

    Example:
        >>> print(colour_tokens(["<b>"], np.array([1.0])))
        <div style="font-family:sans-serif;line-height:2.1"><span title="+1.0000" \
style="background:rgba(33,102,172,1.00);color:#fff;padding:2px 4px;border-radius:3px">&lt;b&gt;</span></div>
    """
    tokens = check_items("tokens", tokens, "a sequence of strings")
    values = check_numbers("values", values, f"({len(tokens)},), one for each token")
    special = [False] * len(tokens) if is_special is None else check_items("is_special", is_special, "bools")
    if values.shape != (len(tokens),) or len(special) != len(tokens):
        got = f"{len(tokens)} tokens, values of shape {values.shape}, {len(special)} marks"
        raise InputError("values", got=got, expected=f"({len(tokens)},), one for each token")
    largest = largest_value(values, special) if scale is None else scale
    spans = [_span(*row, largest) for row in zip(tokens, values.tolist(), special, strict=True)]
    head = f'<div style="color:#555;font-size:85%">{html.escape(caption)}</div>' if caption else ""
    return f'<div style="font-family:sans-serif;line-height:2.1">{head}{" ".join(spans)}</div>'


def tokens_html(
    attributions: TokenAttribution | Sequence[TokenAttribution], *, title: str = "", shared_scale: bool = False
) -> str:
    """Return a standalone HTML page with one coloured sentence per explanation.

    Args:
        attributions: one or several explanations.
        title: heading of the page.
        shared_scale: use one colour scale for all rows, for values in the same unit.

    Returns:
        The page, with inline styles and without scripts or external resources.

    Raises:
        InputError: no explanation, or a title that is no valid text.

    Example:
        >>> from lightning_attnflow.attribution import TokenAttribution
        >>> attribution = TokenAttribution(("<script>", "film"), np.array([0.5, -0.1]), "leave_one_out", ((1,), (2,)))
        >>> page = tokens_html(attribution, title="A & B")
        >>> "<script>" in page, "&lt;script&gt;" in page, "A &amp; B" in page
        (False, True, True)
    """
    from lightning_attnflow.attribution.result import TokenAttribution  # imports this module

    rows = list(attributions) if isinstance(attributions, Sequence) else [attributions]
    if not rows:
        raise InputError("attributions", got="none", expected="at least one")
    for row in rows:
        check_instance("attributions", row, TokenAttribution, remedy="explain() makes one.")
    check_text("title", title)
    check_bool("shared_scale", shared_scale)
    scale = max(largest_value(row.values, row.special) for row in rows) if shared_scale else None
    fragments = [
        colour_tokens(row.tokens, row.values, caption=row.caption(), is_special=row.special, scale=scale)
        for row in rows
    ]
    template = Template((files(__package__) / "templates" / "tokens.html").read_text(encoding="utf-8"))
    legend = _LEGEND.format(scope="the page" if shared_scale else "a row")
    return template.substitute(title=html.escape(title), body="\n".join(fragments), legend=html.escape(legend))


def largest_value(values: NDArray[np.float64], is_special: Sequence[bool] | NDArray[np.bool_]) -> float:
    """Return the largest absolute value of the ordinary tokens, or of all tokens if those are all 0."""
    strengths = np.abs(np.asarray(values, dtype=float))
    ordinary = strengths[~np.asarray(is_special, dtype=bool)].max(initial=0.0)
    return float(ordinary if ordinary > 0 else strengths.max(initial=0.0))


def _luminance(colour: tuple[int, int, int], opacity: float) -> float:
    """Relative luminance (WCAG 2) of a colour on white."""
    shares = [1 - opacity * (1 - channel / 255) for channel in colour]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _span(token: str, value: float, special: bool, scale: float) -> str:
    strength = min(abs(value) / scale, 1.0) if scale > 0 else 0.0
    red, green, blue = _POSITIVE if value >= 0 else _NEGATIVE
    ink = "#000" if _luminance((red, green, blue), strength) > _DARK_BELOW else "#fff"
    frame = ";border:1px dashed #999;font-style:italic" if special else ""
    return (
        f'<span title="{value:+.4f}" style="background:rgba({red},{green},{blue},{strength:.2f});color:{ink};'
        f'padding:2px 4px;border-radius:3px{frame}">{html.escape(token)}</span>'
    )
