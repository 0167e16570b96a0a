"""Matplotlib drawing shared by results and plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUPPORTS, OPPOSES, NEUTRAL = "#0072b2", "#d55e00", "#8c8c8c"
"""Colours of positive, negative and undecided values, distinguishable with colour-vision deficiencies (Okabe & Ito)."""
_CJK_FONTS = (
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
)


def word_fonts() -> list[str]:
    """Return the user's font families, followed by an installed one with Chinese, Japanese and Korean glyphs."""
    installed = require("matplotlib.font_manager", extra="plots", purpose="figures").fontManager.get_font_names()
    families: list[str] = require("matplotlib", extra="plots", purpose="figures").rcParams["font.family"]
    return [*families, *[font for font in _CJK_FONTS if font in installed][:1]]


def shorten(label: str, length: int) -> str:
    """Return ``label``, with its middle replaced by an ellipsis if it has more than ``length`` characters.

    Example:
        >>> shorten("incomprehensible", 8)
        'inco…ble'
    """
    if len(label) <= length:
        return label
    return f"{label[: length // 2]}…{label[len(label) - (length - 1) // 2 :]}"


def new_axes(width: float, height: float) -> Axes:
    """Return the axes of a new figure of a size in inches, without using pyplot's global state."""
    figure = require("matplotlib.figure", extra="plots", purpose="figures").Figure(
        figsize=(width, height), layout="constrained"
    )
    axes: Axes = figure.add_subplot()
    return axes


def value_bars(
    values: NDArray[np.float64],
    *,
    labels: Sequence[str],
    low: NDArray[np.float64] | None = None,
    high: NDArray[np.float64] | None = None,
    colors: Sequence[str] | None = None,
    xlabel: str = "value",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw values as horizontal bars, the first at the top, with interval whiskers where they are finite.

    Args:
        values: float (n,).
        labels: n names.
        low, high: float (n,) ends of the intervals, or None.
        colors: n colours; default: by sign.
        xlabel: what is measured, with its unit.
        title: of the axes.
        ax: axes to draw on; default: those of a new figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if ax is None:
        ax = new_axes(6.0, 0.8 + 0.28 * max(1, len(values)))
    rows = np.arange(len(values))
    by_sign = [SUPPORTS if value >= 0 else OPPOSES for value in values]
    ax.barh(rows, values, height=0.7, color=by_sign if colors is None else colors)
    if low is not None and high is not None:
        finite = np.isfinite(low) & np.isfinite(high)
        middle, half_width = (low + high)[finite] / 2, (high - low)[finite] / 2
        whiskers: dict[str, Any] = {"fmt": "none", "ecolor": "#222222", "elinewidth": 1.0, "capsize": 2.0}
        ax.errorbar(middle, rows[finite], xerr=half_width, **whiskers)
    style: dict[str, Any] = {"parse_math": False, "fontfamily": word_fonts()}  # a dollar sign would start a formula
    ax.set_yticks(rows, labels=list(labels), **style)
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.axvline(0.0, color="#222222", linewidth=0.8)
    ax.set_xlabel(xlabel)
    if title:
        ax.set_title(title, fontsize="medium", wrap=True, **style)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
