"""Self-contained HTML page of a table: search, sorting, ticking of rows, and export of the ticked rows."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from importlib import resources
from typing import Any, Literal, NamedTuple, get_args

from lightning_attnflow._checks import check_choice, check_text

Kind = Literal["integer", "number", "word", "text", "sign", "interval"]


class Column(NamedTuple):
    """A column of the page.

    Args:
        name: its header.
        kind: how its cells are shown; the cells of an interval are ``[low, value, high]``.
        description: shown when the pointer is on the header.
    """

    name: str
    kind: str
    description: str = ""


DESCRIPTIONS = {
    "row": "row in the file, or index of the example",
    "label": "given label",
    "suggested": "label that the model predicts",
    "p_correct": "probability that the given label is correct",
    "margin": "logit of the given label minus the largest other logit, by a model trained without the example",
    "aum": "mean margin over the training of a linear model",
    "self_influence": "minus the influence of the example on its own loss; low: hard to predict without it",
    "influence": "change of the validation log-likelihood due to the example",
    "mean_margin": "logit of the given label minus the largest other logit, mean over the epochs",
    "mean_loss": "mean loss over the epochs",
    "last_loss": "loss in the last epoch",
    "confidence": "mean probability of the given label over the epochs",
    "variability": "standard deviation of the probability of the given label over the epochs",
    "forgetting": "number of changes from a correct to a wrong prediction",
    "el2n": "norm of predicted probabilities minus one-hot label, mean over the first epochs",
    "value": "Data Shapley value: mean change of the metric when the example is added to the training set",
    "interval": "95% interval of the value",
    "sign": "helpful: the interval is above 0; harmful: below 0",
}
"""What the columns mean."""


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
    check_text("title", title)
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
