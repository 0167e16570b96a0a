"""Result of a search for wrong labels: scores, suggested labels, tables, CSV file and HTML page."""

from __future__ import annotations

import csv
import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import (
    check_ids,
    check_integer,
    check_items,
    check_numbers,
    check_rows,
    check_text,
    check_texts,
    check_unicode,
)
from lightning_attnflow._figures import OPPOSES, new_axes
from lightning_attnflow._files import replaced, write_text
from lightning_attnflow._markdown import markdown_text
from lightning_attnflow._results import SavedResult, to_dataframe
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.page import DESCRIPTIONS, Column, page
from lightning_attnflow.valuation.ranking_display import rich_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class LabelErrors(SavedResult):
    """Training examples with a score of how likely their label is right; low scores are likely wrong.

    Args:
        scores: float64 (n,).
        score_name: what the score is, for tables.
        component_values: float64 (c, n), the parts of the score or further statistics.
        component_names: their c names.
        labels: the n given labels.
        suggested: n labels predicted for the examples, or None where there is none.
        share: estimated share of wrong labels; NaN if it was not estimated.
        share_interval: 95% interval of the share.
        ids: n identifiers; empty: the indices.
        texts: n texts; empty if unknown.
        rows: n row numbers in the user's file; empty: the indices.
        notes: remarks on what was computed.

    Example:
        >>> errors = LabelErrors(np.array([0.9, 0.1]), labels=("pos", "neg"), suggested=("pos", "pos"))
        >>> errors.order.tolist(), errors.to_rows()[0]["suggested"]
        ([1, 0], 'pos')
    """

    scores: FloatArray
    score_name: str = "score"
    component_values: FloatArray | None = None
    component_names: tuple[str, ...] = ()
    labels: tuple[Any, ...] = ()
    suggested: tuple[Any, ...] = ()
    share: float = float("nan")
    share_interval: tuple[float, float] = (float("nan"), float("nan"))
    ids: tuple[Any, ...] = ()
    texts: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        scores = check_numbers("scores", self.scores, "numbers (n,)")
        object.__setattr__(self, "scores", scores)
        n = len(scores)
        if scores.ndim != 1:
            raise InputError("scores", got=f"shape {scores.shape}", expected="(n,)")
        for name in ("labels", "suggested", "ids", "texts", "rows"):
            column = check_items(name, getattr(self, name), "a sequence with one item for each example")
            if len(column) not in (0, n):
                raise InputError(name, got=len(column), expected=f"{n}, one for each example")
            object.__setattr__(self, name, tuple(column))
        check_ids(self.ids, len(self.ids))
        check_texts("texts", self.texts, len(self.texts))
        for name in ("labels", "suggested", "ids"):
            check_unicode(name, getattr(self, name))
        check_rows(self.rows, len(self.rows))

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def components(self) -> Mapping[str, FloatArray]:
        """The parts of the score by name, each float64 (n,)."""
        if self.component_values is None:
            return {}
        return dict(zip(self.component_names, self.component_values, strict=True))

    @property
    def order(self) -> NDArray[np.intp]:
        """Indices from the most suspicious example to the least; ties by index, NaN last."""
        return np.argsort(self.scores, kind="stable")

    @property
    def expected_errors(self) -> int:
        """Estimated number of wrong labels; 0 if the share was not estimated, or is unknown, see :meth:`summary`."""
        unknown = math.isnan(self.share) or is_unknown(self.share_interval)
        return 0 if unknown else round(self.share * len(self))

    def to_rows(self, k: int | None = None) -> list[dict[str, Any]]:
        """Return the k most suspicious examples (default: all), each as a dictionary from column to value.

        Args:
            k: number of rows.
        """
        chosen = self.order if k is None else self.order[: check_integer("k", k)]
        columns = self._columns(chosen)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row for each example, the most suspicious first.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_dataframe(self._columns(self.order))

    def to_csv(self, path: str | Path) -> Path:
        """Write all rows, the most suspicious first, with a header and numbers in full precision; return the path.

        Args:
            path: file to write.
        """
        columns = self._columns(self.order)
        with replaced(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(zip(*columns.values(), strict=True))
        return Path(path)

    def to_html(self, path: str | Path, *, title: str = "Label errors", note: str = "") -> Path:
        """Write a self-contained HTML page in which rows can be searched, sorted, ticked and exported.

        Args:
            path: file to write.
            title: title of the page.
            note: text below the title; default: the estimated share of wrong labels and the notes.
        """
        return write_text(path, self._page(title, check_text("note", note) or self.summary()))

    def _repr_html_(self) -> str:
        framed = html.escape(self._page("Label errors", self.summary()), quote=True)
        return f'<iframe srcdoc="{framed}" style="width: 100%; height: 30rem; border: 0"></iframe>'

    def table(self, k: int = 10) -> Any:
        """Return a rich table of the k most suspicious examples, one line each, for ``rich.print``.

        Args:
            k: number of rows.

        Raises:
            MissingDependencyError: rich is not installed.
        """
        shown = self.to_rows(check_integer("k", k))
        return rich_lines(counted(len(shown), "most suspicious label"), shown)

    def markdown(self, k: int = 10) -> str:
        """Return a Markdown table of the k most suspicious examples, for experiment loggers.

        Texts of more than 90 characters end with an ellipsis.

        Args:
            k: number of rows.
        """
        cells = []
        for row in self.to_rows(check_integer("k", k)):
            text = row.get("text") or f"example {row['id'] if 'id' in row else row['row']}"
            words = " ".join(str(text).split())
            words = words if len(words) <= _MARKDOWN_LENGTH else f"{words[: _MARKDOWN_LENGTH - 1]}…"
            cells.append([f"{row['score']:.3f}", *(str(row.get(name, "")) for name in ("label", "suggested")), words])
        header = [self.score_name, "given label", "suggested label", "text"]
        for column in (1, 2):
            # TensorBoard breaks words of columns that are narrow beside the text; spaces in the header widen them
            longest = max((len(row[column]) for row in cells), default=0)
            header[column] += "&nbsp;" * (math.ceil(_MARKDOWN_WIDENING * longest) - len(header[column]))
        escaped = [[markdown_text(cell) for cell in row] for row in cells]
        return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *escaped))

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the histogram of the scores.

        Args:
            ax: axes to draw on; default: those of a new figure.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        ax = new_axes(6.0, 3.2) if ax is None else ax
        ax.hist(self.scores[np.isfinite(self.scores)], bins=40, color="#8c8c8c")
        if self.expected_errors:
            threshold = float(np.sort(self.scores)[self.expected_errors - 1])
            label = f"{self.expected_errors} lowest scores: estimated share of wrong labels {self.share:.1%}"
            ax.axvline(threshold, color=OPPOSES, label=label)
            ax.set_ylim(top=1.2 * ax.get_ylim()[1])  # room for the legend
            ax.legend(frameon=False, loc="upper right")
        ax.set(xlabel=f"{self.score_name} (low: likely wrong)", ylabel="examples")
        return ax

    def summary(self) -> str:
        """Return one line with the number of examples, the estimated share of wrong labels and the notes.

        The share is called unknown if its 95% interval is wider than 40 percentage points.
        """
        parts = [counted(len(self), "example")]
        if not np.isnan(self.share):
            low, high = self.share_interval
            interval = f"95% interval {low:.1%} to {high:.1%}, not counting wrong labels of unclear examples"
            share = _UNKNOWN if is_unknown(self.share_interval) else f"{self.share:.1%}"
            parts.append(f"estimated share of wrong labels {share} ({interval})")
        return "; ".join([*parts, *self.notes]) + "."

    def __str__(self) -> str:
        return self.summary()

    def _columns(self, chosen: NDArray[np.intp]) -> dict[str, list[Any]]:
        """Columns of the examples ``chosen``; columns without content are omitted."""
        rows = self.rows or range(len(self))
        columns: dict[str, list[Any]] = {"rank": _ranks(self.order)[chosen].tolist(), "row": [rows[i] for i in chosen]}
        for name, values in (("id", self.ids), ("label", self.labels), ("suggested", self.suggested)):
            if values:
                columns[name] = [values[i] for i in chosen]
        columns["score"] = self.scores[chosen].tolist()
        columns |= {name: values[chosen].tolist() for name, values in self.components.items()}
        if self.texts:
            columns["text"] = [self.texts[i] for i in chosen]
        return columns

    def _page(self, title: str, note: str) -> str:
        columns = self._columns(self.order)
        if columns.get("id") == columns["row"]:
            del columns["id"]
        for name in self.component_names:
            if columns[name] == columns["score"]:
                del columns[name]
        first = [name for name in _PAGE_COLUMNS if name in columns]
        columns = {name: columns[name] for name in (*first, *(name for name in columns if name not in first))}
        descriptions = DESCRIPTIONS | {"score": f"{self.score_name}; low: likely wrong"}
        shown = [Column(name, _PAGE_COLUMNS.get(name, "number"), descriptions.get(name, "")) for name in columns]
        note = f"{note} Score: {descriptions['score']}."
        return page(title, note, shown, list(zip(*columns.values(), strict=True)), n_expected=self.expected_errors)


_PAGE_COLUMNS = {  # first columns of the page and how they are shown; all others are numbers
    "rank": "integer",
    "row": "integer",
    "label": "word",
    "suggested": "word",
    "score": "number",
    "p_correct": "number",
    "text": "text",
    "id": "word",
}
_WIDE_INTERVAL = 0.4  # of the share of wrong labels; wider ones say nearly nothing
_UNKNOWN = "unknown, too few examples or features that hardly predict the labels"
_MARKDOWN_LENGTH = 90  # characters of a text, for one or two lines in the text tab of TensorBoard
_MARKDOWN_WIDENING = 1.5


def is_unknown(share_interval: tuple[float, float]) -> bool:
    """Whether the interval of the share of wrong labels is so wide that the share is not reported."""
    low, high = share_interval
    return high - low > _WIDE_INTERVAL


def _ranks(order: NDArray[np.intp]) -> NDArray[np.intp]:
    ranks = np.empty_like(order)
    ranks[order] = np.arange(1, len(order) + 1)
    return ranks
