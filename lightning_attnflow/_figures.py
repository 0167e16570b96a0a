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


def layer_heat_map(
    values: NDArray[np.float64],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    hatched: NDArray[np.bool_] | None = None,
    note: str = "",
    value_label: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw values >= 0 as a heat map with one colour scale, the first row at the bottom.

    The colour scale ends at the largest value that is not hatched. With at most 24 columns, the cells contain the
    values.

    Args:
        values: float (m, n).
        rows: m names.
        columns: n names.
        hatched: bool (m,), rows drawn in grey with hatching.
        note: text on neighbouring hatched rows.
        value_label: label of the colour bar.
        title: of the axes.
        ax: axes to draw on; default: those of a new figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    n_rows, n_columns = values.shape
    grey = np.zeros(n_rows, dtype=bool) if hatched is None else np.asarray(hatched, dtype=bool)
    if ax is None:
        ax = new_axes(2.0 + 0.62 * max(4, min(n_columns, 24)), 1.3 + 0.36 * max(2, n_rows))
    shown = np.ma.masked_array(values, np.broadcast_to(grey[:, None], values.shape))
    largest = float(values[~grey].max(initial=0.0)) or 1.0
    image = ax.imshow(shown, cmap="Blues", vmin=0.0, vmax=largest, aspect="auto", origin="lower")
    ax.set_facecolor("0.92")
    if n_columns <= 24:
        for row, column in np.argwhere(~shown.mask & (values > 0)):
            share = values[row, column]
            colour = "white" if share > 0.55 * largest else "0.2"
            ax.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=8, color=colour)
    for first, last in _runs(grey):
        ax.axhspan(first - 0.5, last + 0.5, facecolor="none", edgecolor="0.75", hatch="////", linewidth=0)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        middle = ((n_columns - 1) / 2, (first + last) / 2)
        ax.text(*middle, note, ha="center", va="center", fontsize=9, color="0.35", bbox=box)
    ax.set_yticks(range(n_rows), labels=list(rows))
    names = [name.replace("$", r"\$") for name in columns]
    ax.set_xticks(range(n_columns), labels=names, rotation=40, ha="right", rotation_mode="anchor")
    if ax.figure is not None and not grey.all():
        ax.figure.colorbar(image, ax=ax, label=value_label)
    if title:
        ax.set_title(title.replace("$", r"\$"))
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def _runs(marked: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and the last index of each run of true entries."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]])))
    return [(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]
