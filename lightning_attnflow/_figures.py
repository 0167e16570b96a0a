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
MAX_NUMBERED = 24
"""Columns up to which the cells of a heat map contain numbers."""
_LONGEST_LABEL = 24
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
    """
    if ax is None:
        ax = new_axes(6.0, 0.8 + 0.28 * max(1, len(values)))
    rows = np.arange(len(values))
    by_sign = [SUPPORTS if value >= 0 else OPPOSES for value in values]
    ax.barh(rows, values, height=0.7, color=by_sign if colors is None else colors)
    if low is not None and high is not None:
        finite = np.isfinite(low) & np.isfinite(high)
        low, high = low[finite], high[finite]
        whiskers: dict[str, Any] = {"fmt": "none", "ecolor": "#222222", "elinewidth": 1.0, "capsize": 2.0}
        ax.errorbar((low + high) / 2, rows[finite], xerr=(high - low) / 2, **whiskers)
    style: dict[str, Any] = {"parse_math": False, "fontfamily": word_fonts()}  # a dollar sign would start a formula
    ax.set_yticks(rows, labels=[shorten(label, _LONGEST_LABEL) for label in labels], **style)
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
    signed: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Draw values as a heat map with one colour scale, the first row at the bottom.

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
        signed: colour positive values blue and negative values orange; otherwise all values are >= 0.
        ax: axes to draw on; default: those of a new figure.
    """
    n_rows, n_columns = values.shape
    is_hatched = np.zeros(n_rows, dtype=bool) if hatched is None else np.asarray(hatched, dtype=bool)
    if ax is None:
        ax = new_axes(2.0 + 0.62 * max(4, min(n_columns, MAX_NUMBERED)), 1.3 + 0.36 * max(2, n_rows))
    colours = require("matplotlib.colors", extra="plots", purpose="figures").LinearSegmentedColormap
    image = require("matplotlib.cm", extra="plots", purpose="figures").ScalarMappable(
        cmap=colours.from_list("signed", [OPPOSES, "white", SUPPORTS]) if signed else "Blues"
    )
    largest = float(np.abs(values[~is_hatched]).max(initial=0.0)) or 1.0
    image.set_clim(-largest if signed else 0.0, largest)
    number = "{:+.2f}" if signed else "{:.2f}"
    shown = np.abs(values) >= (0.005 if signed else np.finfo(np.float64).tiny)
    numbers = [
        [number.format(value) if show else "" for value, show in zip(*row, strict=True)]
        for row in zip(values, shown, strict=True)
    ]
    draw_cells(ax, image.to_rgba(values)[..., :3], numbers, hatched=is_hatched, note=note, size=8)
    style: dict[str, Any] = {"parse_math": False, "fontfamily": word_fonts()}
    ax.set_yticks(range(n_rows), labels=list(rows))
    ax.set_xticks(range(n_columns), labels=list(columns), rotation=40, ha="right", rotation_mode="anchor", **style)
    if ax.figure is not None and not is_hatched.all():
        ax.figure.colorbar(image, ax=ax, label=value_label)
    if title:
        ax.set_title(title, **style)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def draw_cells(
    ax: Axes,
    colours: NDArray[np.float64],
    numbers: Sequence[Sequence[str]],
    *,
    hatched: NDArray[np.bool_],
    note: str,
    size: float,
) -> None:
    """Draw coloured cells with numbers, the first row at the bottom.

    Args:
        ax: axes to draw on.
        colours: float (m, n, 3), red, green and blue in [0, 1].
        numbers: m x n texts, omitted for more than ``MAX_NUMBERED`` columns, where cells are too narrow.
        hatched: bool (m,), rows drawn in grey with hatching and without numbers.
        note: text on each run of hatched rows.
        size: of the numbers, in points.
    """
    n_columns = colours.shape[1]
    colours = np.where(hatched[:, None, None], 0.9, colours)
    ax.imshow(colours, aspect="auto", interpolation="nearest", origin="lower")
    centred: dict[str, Any] = {"ha": "center", "va": "center"}
    if n_columns <= MAX_NUMBERED:
        dark = colours.mean(axis=2) < 0.55
        for row in np.flatnonzero(~hatched).tolist():
            for column, number in enumerate(numbers[row]):
                if number:
                    colour = "white" if dark[row, column] else "0.2"
                    ax.text(column, row, number, color=colour, fontsize=size, gid="number", **centred)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hatched, [False]])))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        ax.axhspan(first - 0.5, end - 0.5, facecolor="none", edgecolor="0.75", hatch="////", linewidth=0)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        middle = ((n_columns - 1) / 2, (first + end - 1) / 2)
        ax.text(*middle, note, fontsize=size, color="0.35", bbox=box, **centred)
