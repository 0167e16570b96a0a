"""A bar chart of one explanation, with its intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.plots.lettering import word_families

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FOR, _AGAINST, _SPECIAL = "#2166ac", "#be4e14", "#9a9a9a"
_INCHES_A_BAR = 0.3
_NAME_LENGTH = 24  # longer names of spans are shortened in the middle, marked by an ellipsis


def bar_chart(attribution: TokenAttribution, *, limit: int | None = None, title: str | None = None) -> Figure:
    """Draw the values of an explanation as horizontal bars, in the order of the sentence, with intervals as whiskers.

    Args:
        attribution: what ``explain`` returned.
        limit: draw only so many players, those of the largest absolute values; the title then says so.
        title: default the attribution's caption.

    Returns:
        A matplotlib figure that belongs to no pyplot state: save it with ``figure.savefig(path)``.

    Raises:
        InputError: a limit below 1, or no player to draw.
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError(
            "bar_chart",
            got="no matplotlib",
            expected="matplotlib >= 3.8",
            remedy="pip install 'lightning-attnflow[plots]'",
        ) from error
    if len(attribution) == 0 or (limit is not None and limit < 1):
        raise InputError(
            "limit" if len(attribution) else "attribution",
            got=limit if len(attribution) else "no player",
            expected="at least one bar",
            remedy="Pass an attribution with players, and limit >= 1 or None.",
        )
    drawn = _drawn(attribution, limit)
    figure = Figure(figsize=(6.4, 1.3 + _INCHES_A_BAR * len(drawn)), layout="constrained")
    axes = figure.subplots()
    rows = np.arange(len(drawn))
    axes.barh(rows, attribution.values[drawn], color=_colours(attribution, drawn), height=0.7)
    if attribution.low is not None and attribution.high is not None:
        low, high = attribution.low[drawn], attribution.high[drawn]
        middle, reach = (low + high) / 2, (high - low) / 2
        axes.errorbar(middle, rows, xerr=reach, fmt="none", ecolor="black", elinewidth=1, capsize=2.5)
    axes.set_yticks(
        rows, [_short(attribution.tokens[player]) for player in drawn], parse_math=False, fontfamily=word_families()
    )
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("value" if attribution.payoff is None else f"value ({attribution.payoff.replace('_', ' ')})")
    heading = attribution.caption() if title is None else title
    shown = "" if len(drawn) == len(attribution) else f"\n(the {len(drawn)} largest of {len(attribution)})"
    axes.set_title(heading + shown, fontsize=9, parse_math=False, wrap=True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _drawn(attribution: TokenAttribution, limit: int | None) -> list[int]:
    largest = np.argsort(-np.abs(attribution.values), kind="stable")[:limit]
    return sorted(largest.tolist())


def _colours(attribution: TokenAttribution, drawn: list[int]) -> list[str]:
    return [_SPECIAL if attribution.special[i] else _FOR if attribution.values[i] >= 0 else _AGAINST for i in drawn]


def _short(name: str) -> str:
    half = _NAME_LENGTH // 2
    return name if len(name) <= _NAME_LENGTH else f"{name[: half - 1]}…{name[-half:]}"
