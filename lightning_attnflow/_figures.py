"""Matplotlib drawing shared by results and plots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_string
from lightning_attnflow._fonts import drawable
from lightning_attnflow._optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUPPORTS, OPPOSES, NEUTRAL = "#0072b2", "#d55e00", "#8c8c8c"
"""Colours of positive, negative and undecided values, distinguishable with colour-vision deficiencies (Okabe & Ito)."""
MAX_NUMBERED = 24
"""Columns up to which the cells of a heat map contain numbers."""
STRONGEST_MULTIPLE = 8
"""Multiple of the uniform share from which the colour of a share is darkest, in figures and in the page of a run."""
_LONGEST_LABEL, _LONGEST_COLUMN = 24, 16  # characters
_NAME_SIZE = 12  # points


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
    names, style = drawable([shorten(label, _LONGEST_LABEL) for label in labels], numbered=True)
    ax.set_yticks(rows, labels=names, **style)
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.axvline(0.0, color="#222222", linewidth=0.8)
    ax.set_xlabel(xlabel)
    if title:
        (title,), style = drawable([title])
        ax.set_title(title, fontsize="medium", wrap=True, **style)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def layer_heat_map(
    colours: NDArray[np.float64],
    numbers: Sequence[Sequence[str]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    special: NDArray[np.bool_] | None = None,
    hatched: NDArray[np.bool_] | None = None,
    note: str = "",
    margin: Sequence[str] = (),
    title: str = "",
    caption: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw coloured cells, one row per layer from the bottom to the top and one column per word.

    Args:
        colours: float (m, n, 3), red, green and blue in [0, 1].
        numbers: m x n texts of the cells, drawn for at most ``MAX_NUMBERED`` columns.
        rows: m names.
        columns: n names.
        special: bool (n,), names written in grey.
        hatched: bool (m,), rows drawn in grey with hatching and without numbers.
        note: text on each run of hatched rows.
        margin: m texts to the right of the rows, drawn where the numbers are omitted.
        title: of the figure or axes.
        caption: lines below the words; drawn in a new figure only.
        ax: axes to draw on; default: those of a new figure, with a size for the number of rows and columns.
    """
    check_string("title", title)
    n_rows, n = colours.shape[:2]
    names, style = drawable([shorten(name, _LONGEST_COLUMN) for name in columns], numbered=True)
    if ax is None:
        ax = _framed_axes(n_rows, rows, names, title=title, caption=caption, margin=margin)
    elif title:
        (title,), heading = drawable([title])
        ax.set_title(title, fontsize="medium", **heading)
    is_hatched = np.zeros(n_rows, dtype=bool) if hatched is None else np.asarray(hatched, dtype=bool)
    draw_cells(ax, colours, numbers, hatched=is_hatched, note=note, size=11)
    for row, name in enumerate(rows):
        ax.annotate(
            name, (0, row), (-5, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points",
            ha="right", va="center", fontsize=_NAME_SIZE, gid="layer",
        )  # fmt: skip
    size = ax.get_figure(root=True).dpi * n  # type: ignore[union-attr]
    slanted = _is_slanted(names, ax.get_window_extent().width / size)
    grey = np.zeros(n, dtype=bool) if special is None else special
    for column, name in enumerate(names):
        ax.annotate(
            name, (column, 0), (0, -5), xycoords=ax.get_xaxis_transform(), textcoords="offset points",
            rotation=40 if slanted else 0, rotation_mode="anchor", ha="right" if slanted else "center", va="top",
            fontsize=_NAME_SIZE, color="0.45" if grey[column] else "black", gid="word", **style,
        )  # fmt: skip
    if n > MAX_NUMBERED:
        for row, text in enumerate(margin):
            ax.text(n - 0.3, row, text, va="center", fontsize=9, color="0.3")
    ax.set_axis_off()  # annotations are cheaper than ticks
    return ax


def signed_colours(values: NDArray[np.float64], darkest: float) -> NDArray[np.float64]:
    """Return colours (m, n, 3): blue where positive, orange where negative, white at 0, on one scale.

    Args:
        values: (m, n).
        darkest: absolute value of the darkest colour.
    """
    colors = require("matplotlib.colors", extra="plots", purpose="figures")
    ends = np.array([colors.to_rgb(OPPOSES), colors.to_rgb(SUPPORTS)])
    strength = (values / (darkest or 1.0))[..., None]
    mixed: NDArray[np.float64] = 1.0 - np.abs(strength) * (1.0 - np.where(strength > 0, ends[1], ends[0]))
    return mixed


def share_colours(
    shares: NDArray[np.float64], n: int, *, special: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return colours (m, k, 3) on one scale for all figures: blue, logarithmic in the multiple of the uniform share.

    Args:
        shares: (m, k), parts of 1.
        n: number of parts, of which k are drawn.
        special: bool (k,), columns coloured grey.
    """
    colormaps = require("matplotlib", extra="plots", purpose="figures").colormaps
    strength = np.log(np.clip(shares * n, 1.0, STRONGEST_MULTIPLE)) / np.log(STRONGEST_MULTIPLE)
    colours: NDArray[np.float64] = colormaps["Blues"](0.85 * strength)[..., :3]
    if special is not None:
        colours[:, special] = colormaps["Greys"](0.6 * strength[:, special])[..., :3]
    return colours


def share_legend(n: int) -> str:
    """Return what the colours of shares of n parts mean."""
    return f"white: up to {100 / n:.2g}% (uniform), darkest: {STRONGEST_MULTIPLE} times it"


def _framed_axes(
    n_rows: int, rows: Sequence[str], names: Sequence[str], *, title: str, caption: str, margin: Sequence[str]
) -> Axes:
    """Axes of a new figure with fixed margins, which is much faster than an automatic layout."""
    n = len(names)
    column = 0.62 if n <= MAX_NUMBERED else 0.3  # inches
    left = 0.25 + 0.088 * max(map(len, rows))
    right, top = 1.25 if margin and n > MAX_NUMBERED else 0.2, 0.45 if title else 0.15
    lines = caption.count("\n") + 1 if caption else 0
    bottom = 0.18 * lines + 0.16 + (0.075 * max(map(len, names)) if _is_slanted(names, column) else 0.2)
    width = left + right + max(3.6, n * column)
    height = top + bottom + 0.36 * n_rows
    figure = require("matplotlib.figure", extra="plots", purpose="figures").Figure(figsize=(width, height), dpi=100)
    axes: Axes = figure.add_axes(
        (left / width, bottom / height, 1 - (left + right) / width, 1 - (top + bottom) / height)
    )
    (title,), style = drawable([shorten(title, int(width * 9))])
    figure.text(0.01, 1 - 0.12 / height, title, va="top", fontsize=11, weight="bold", **style)
    figure.text(0.01, 0.08 / height, caption, fontsize=9, color="0.3")
    return axes


def _is_slanted(names: Sequence[str], column_width: float) -> bool:
    return max(map(len, names)) * 0.1 + 0.1 > column_width


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
        text = require("lightning_attnflow._outlined_text", extra="plots", purpose="figures")
        dark = colours.mean(axis=2) < 0.55
        for row in np.flatnonzero(~hatched).tolist():
            for column, number in enumerate(numbers[row]):
                if number:
                    colour = "white" if dark[row, column] else "0.2"
                    outlined = text.OutlinedText(column, row, number, color=colour, fontsize=size, **centred)
                    outlined.set_gid("number")
                    outlined.set_transform(ax.transData)
                    ax.add_artist(outlined)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], hatched, [False]])))
    for first, end in zip(edges[::2], edges[1::2], strict=True):
        ax.axhspan(first - 0.5, end - 0.5, facecolor="none", edgecolor="0.75", hatch="////", linewidth=0)
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        middle = ((n_columns - 1) / 2, (first + end - 1) / 2)
        ax.text(*middle, note, fontsize=size, color="0.35", bbox=box, **centred)
