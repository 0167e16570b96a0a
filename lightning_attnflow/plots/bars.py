"""Bar chart of one explanation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_attnflow._checks import check_integer
from lightning_attnflow._figures import NEUTRAL, OPPOSES, SUPPORTS, shorten, value_bars
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LONGEST_LABEL = 24


def bar_chart(
    attribution: TokenAttribution, *, limit: int | None = None, title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the values of an explanation as horizontal bars in the order of the sentence, intervals as whiskers.

    Args:
        attribution: result of ``explain``.
        limit: draw only the players with the largest absolute values; the title states how many.
        title: default: the caption of the attribution.
        ax: axes to draw on; default: those of a new figure.

    Returns:
        The axes; save the figure with ``axes.figure.savefig(path)``.

    Raises:
        InputError: an attribution without players, or a limit that is not an integer >= 1.
        MissingDependencyError: matplotlib is not installed.
    """
    if len(attribution) == 0:
        raise InputError("attribution", got="no players", expected="at least one player")
    n_bars = len(attribution) if limit is None else min(check_integer("limit", limit), len(attribution))
    drawn = np.sort(np.argsort(-np.abs(attribution.values), kind="stable")[:n_bars])
    by_sign = np.where(attribution.values >= 0, SUPPORTS, OPPOSES)
    hidden = f"\n(the {n_bars} largest of {len(attribution)})" if n_bars < len(attribution) else ""
    return value_bars(
        attribution.values[drawn],
        labels=[shorten(attribution.tokens[player], _LONGEST_LABEL) for player in drawn],
        low=None if attribution.low is None else attribution.low[drawn],
        high=None if attribution.high is None else attribution.high[drawn],
        colors=np.where(attribution.special, NEUTRAL, by_sign)[drawn].tolist(),
        xlabel="value" if attribution.payoff is None else f"value ({attribution.payoff.replace('_', ' ')})",
        title=(attribution.caption() if title is None else title) + hidden,
        ax=ax,
    )
