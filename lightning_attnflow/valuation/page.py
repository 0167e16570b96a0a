"""Self-contained HTML page of a table: search, sorting, ticking of rows, and export of the ticked rows."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple, get_args

from lightning_attnflow._checks import check_choice

Kind = Literal["integer", "number", "word", "text", "sign", "interval"]


class Column(NamedTuple):
    """A column of the page.

    Args:
        name: its header.
        kind: how its cells are shown; the cells of an interval are ``[low, value, high]``.
    """

    name: str
    kind: str


def page(
    title: str, note: str, columns: Sequence[Column], rows: Sequence[Sequence[Any]], *, n_expected: int = 0
) -> str:
    """Return the page; the rows are shown in the given order until a header is clicked.

    Args:
        title: heading.
        note: text below it.
        columns: the columns.
        rows: one sequence of cells for each row.
        n_expected: number of rows, from the top, that are estimated to be wrong; a line is drawn below them.
    """
    for column in columns:
        check_choice("kind", column.kind, get_args(Kind))
    data = {"columns": columns, "rows": [[_json(cell) for cell in row] for row in rows], "expected": n_expected}
    # "<" would allow a text to close the script element
    parts = {"title": html.escape(title), "note": html.escape(note), "data": _dumps(data)}
    text = resources.files(__package__).joinpath("templates/ranking.html").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"<!--{name}-->", part)
    return text


def _dumps(data: Any) -> str:
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", " ").replace("\u2029", " ")


def _json(cell: Any) -> Any:
    """JSON has no NaN and infinities: they become null and strings."""
    if isinstance(cell, (list, tuple)):
        return [_json(part) for part in cell]
    if isinstance(cell, float) and not math.isfinite(cell):
        return None if math.isnan(cell) else "Infinity" if cell > 0 else "-Infinity"
    return cell if cell is None or isinstance(cell, (bool, int, float, str)) else str(cell)
