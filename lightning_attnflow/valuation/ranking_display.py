"""Terminal tables of training examples, one line each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_attnflow._optional import require

SIGNS = {"helpful": "green", "harmful": "red", "undecided": "dim"}
"""Signs of a value and their styles in the terminal."""
_UNDECIDED = "? after a value: its 95% interval contains 0"
_LABEL_WIDTH = 9  # characters, so that most of an 80-column line is left for the text


def rich_lines(title: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a rich table with one line for each row; the text gets the remaining width.

    Values are coloured by their sign; those whose sign is undecided are followed by a question mark.

    Args:
        title: above the table.
        rows: dictionaries with "row" and "text" and, where known, "score", "value", "sign", "label" and "suggested".
    """
    box = require("rich.box", extra="valuation", purpose="table()").SIMPLE_HEAD
    text = require("rich.text", extra="valuation", purpose="table()").Text
    table = require("rich.table", extra="valuation", purpose="table()").Table(
        title=title, title_justify="left", box=box, show_edge=False, expand=True
    )
    table.padding, table.pad_edge = (0, 1, 0, 0), False
    first = rows[0] if rows else {}
    numbers = [name for name in ("score", "value") if any(_is_finite(row.get(name)) for row in rows)]
    words = [name for name in ("label", "suggested") if name in first]
    words = [name for name in words if any(row[name] is not None for row in rows)]
    for name in ("row", *numbers):
        table.add_column(name, justify="right", no_wrap=True)
    for name in words:
        table.add_column(name, no_wrap=True, max_width=_LABEL_WIDTH, overflow="ellipsis")
    table.add_column("text", no_wrap=True, ratio=1, overflow="ellipsis")
    formats = {name: _format([row[name] for row in rows], signed=name == "value") for name in numbers}
    has_undecided = "value" in numbers and any(row.get("sign") == "undecided" for row in rows)
    if has_undecided:
        table.caption, table.caption_justify = _UNDECIDED, "left"
    for row in rows:
        content = row.get("text") or (f"id {row['id']}" if "id" in row else "")
        cells = {name: formats[name].format(row[name]) for name in numbers}
        if has_undecided:
            cells["value"] += "?" if row["sign"] == "undecided" else " "
        table.add_row(
            str(row["row"]),
            *(text(cell, style=_style(name, row)) for name, cell in cells.items()),
            *(text("" if row[name] is None else str(row[name]), style=_style(name, row)) for name in words),
            text(" ".join(str(content).split())),  # not markup: a sentence may contain [brackets]
        )
    return table


def _style(name: str, row: Mapping[str, Any]) -> str:
    if name == "value":
        return SIGNS.get(row.get("sign", ""), "")
    return "red" if name == "suggested" and row["suggested"] != row.get("label") else ""


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _format(values: Sequence[float], *, signed: bool) -> str:
    """Format with three significant digits of the largest value."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0
    decimals = min(8, max(0, 2 - math.floor(math.log10(largest))))
    return f"{{:{'+' if signed else ''}.{decimals}f}}"
