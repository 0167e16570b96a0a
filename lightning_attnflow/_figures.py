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
    xlabel: str = "value",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw values as horizontal bars, the first at the top, with interval whiskers where they are finite.

    Args:
        values: float (n,).
        labels: n names.
        low, high: float (n,) ends of the intervals, or None.
        xlabel: what is measured, with its unit.
        title: of the axes.
        ax: axes to draw on; default: those of a new figure.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if ax is None:
        ax = new_axes(6.0, 0.8 + 0.28 * max(1, len(values)))
    rows = np.arange(len(values))
    ax.barh(rows, values, height=0.7, color=[SUPPORTS if value >= 0 else OPPOSES for value in values])
    if low is not None and high is not None:
        finite = np.isfinite(low) & np.isfinite(high)
        ends = np.array([(values - low)[finite], (high - values)[finite]]).clip(min=0.0)
        bars: dict[str, Any] = {"fmt": "none", "ecolor": "#222222", "elinewidth": 1.0, "capsize": 2.0}
        ax.errorbar(values[finite], rows[finite], xerr=ends, **bars)
    ax.set_yticks(rows, labels=[label.replace("$", r"\$") for label in labels])  # a dollar sign would start a formula
    ax.set_ylim(len(values) - 0.4, -0.6)
    ax.axvline(0.0, color="#222222", linewidth=0.8)
    ax.set_xlabel(xlabel)
    if title:
        ax.set_title(title.replace("$", r"\$"))
    ax.spines[["top", "right"]].set_visible(False)
    return ax
