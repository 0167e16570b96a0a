"""Terminal table and HTML page of a ranking."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_attnflow.valuation.ranking import RankingRow

SIGNS = {"helpful": "green", "harmful": "red", "undecided": "dim"}
"""Signs of a value and their styles in the terminal."""


def html_page(rows: Sequence[RankingRow], title: str, note: str) -> str:
    """Return a self-contained page with search and sorting."""
    finite = [abs(end) for row in rows for end in (row.low, row.high, row.value) if math.isfinite(end)]
    scale = max(finite, default=0.0) or 1.0
    signs = [row.sign for row in rows]
    parts = {
        "title": html.escape(title),
        "note": html.escape(note),
        "counts": ", ".join(f"{signs.count(sign)} {sign}" for sign in SIGNS),
        "rows": "\n".join(_html_row(row, scale) for row in rows),
    }
    page = resources.files(__package__).joinpath("templates/ranking.html").read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace(f"<!--{name}-->", text)  # escaped text contains no "<!--"
    return page


def rich_table(title: str, rows: Sequence[RankingRow]) -> Any:
    """One line for each row, in the order of the ranks; the text gets the remaining width."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    largest = max((abs(row.value) for row in rows), default=0.0) or 1.0
    decimals = min(8, max(0, 2 - math.floor(math.log10(largest))))  # three significant digits of the largest value
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, expand=True)
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    for name in ("row", "value", "95% interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("sign", "label"):
        table.add_column(name, no_wrap=True, max_width=9, overflow="ellipsis")
    table.add_column("text", no_wrap=True, ratio=1, overflow="ellipsis")
    for row in rows:
        table.add_row(
            str(row.row),
            f"{row.value:+.{decimals}f}",
            f"{row.low:+.{decimals}f} {row.high:+.{decimals}f}",
            Text(row.sign, style=SIGNS[row.sign]),
            Text("" if row.label is None else str(row.label)),
            Text(" ".join(row.text.split())),  # not markup: a sentence may contain [brackets]
        )
    return table


def _html_row(row: RankingRow, scale: float) -> str:
    ends = [50 + 50 * max(-1.0, min(1.0, end / scale)) for end in (row.low, row.value, row.high)]
    bar = (
        f'<i class="bar"><i style="left:{ends[0]:.1f}%;width:{ends[2] - ends[0]:.1f}%"></i>'
        f'<b style="left:{ends[1]:.1f}%"></b></i>'
    )
    label = "" if row.label is None else html.escape(str(row.label))
    return (
        f'<tr class="{row.sign}"><td>{row.rank}</td><td>{row.row}</td>'
        f'<td data-v="{row.value}">{row.value:+.5f}</td><td data-v="{_javascript(row.low)}">{row.low:+.5f}</td>'
        f'<td data-v="{_javascript(row.high)}">{row.high:+.5f}</td><td>{bar}</td><td>{row.sign}</td>'
        f'<td>{label}</td><td class="text">{html.escape(row.text)}</td></tr>'
    )


def _javascript(value: float) -> str:
    return str(value).replace("inf", "Infinity")
