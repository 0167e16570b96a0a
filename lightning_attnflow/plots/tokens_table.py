"""One explanation as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.errors import MissingDependencyError

if TYPE_CHECKING:
    from rich.table import Table

_BAR_WIDTH = 24


def attribution_table(attribution: TokenAttribution) -> Table:
    """Return a rich table: token, value, interval where there is one, and a bar.

    Args:
        attribution: what ``explain`` returned.

    Returns:
        A table to print with ``rich.console.Console().print(table)``; tokens such as ``[CLS]`` are no markup in it.

    Raises:
        MissingDependencyError: rich is not installed.
    """
    try:
        from rich.table import Table
        from rich.text import Text
    except ImportError as error:
        raise MissingDependencyError(
            "attribution_table", got="no rich", expected="rich >= 13.7", remedy="pip install rich"
        ) from error
    has_interval = attribution.low is not None and attribution.high is not None
    table = Table(title=Text(attribution.caption()), title_justify="left")
    table.add_column(attribution.players.removesuffix("s"))
    table.add_column("value", justify="right")
    if has_interval:
        table.add_column(Text(attribution.interval or "interval"), justify="right")
    table.add_column("", min_width=_BAR_WIDTH)
    largest = float(np.abs(attribution.values).max(initial=0.0)) or 1.0
    for row, (token, value) in enumerate(zip(attribution.tokens, attribution.values.tolist(), strict=True)):
        cells = [Text(token, style="dim italic" if attribution.special[row] else ""), Text(f"{value:+.4f}")]
        if attribution.low is not None and attribution.high is not None:
            cells.append(Text(f"{attribution.low[row]:+.4f} .. {attribution.high[row]:+.4f}"))
        bar = "█" * round(_BAR_WIDTH * abs(value) / largest)
        table.add_row(*cells, Text(bar, style="blue" if value >= 0 else "dark_orange3"))
    return table
