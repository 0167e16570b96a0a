"""Ranking of training examples: rows, table, figure, CSV file and HTML page."""

from __future__ import annotations

import csv
import html
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import (
    check_choice,
    check_ids,
    check_integer,
    check_items,
    check_numbers,
    check_rows,
    check_text,
    check_texts,
    check_unicode,
)
from lightning_attnflow._figures import value_bars
from lightning_attnflow._files import replaced, write_text
from lightning_attnflow._optional import require
from lightning_attnflow._results import Arrays, SavedResult, to_dataframe
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.page import DESCRIPTIONS, Column, page
from lightning_attnflow.valuation.ranking_display import SIGNS, rich_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Group

    from lightning_attnflow.valuation.label_errors_result import LabelErrors
    from lightning_attnflow.valuation.training_dynamics import TrainingDynamics


FloatArray = NDArray[np.float64]
_OPTIONAL = ("id", "suggested", "score", "mean_margin")  # omitted from files if nothing is known


class RankingRow(NamedTuple):
    """One training example in a ranking.

    Args:
        rank: 1 for the most valuable.
        index: index of the player.
        row: row in the user's file; the index if that is unknown.
        text: the sentence, or an empty string.
        label: its label, or None.
        value: estimated value.
        low: lower end of the interval.
        high: upper end of the interval.
        sign: helpful, harmful, or undecided if the interval contains 0.
        id: identifier of the player, or None.
        suggested: predicted label, or None if it is unknown.
        score: label-error score, low: likely wrong; None if it is unknown.
        mean_margin: mean margin over the epochs of a fine-tuning run; None if it is unknown.
    """

    rank: int
    index: int  # type: ignore[assignment]  # shadows tuple.index
    row: int
    text: str
    label: object
    value: float
    low: float
    high: float
    sign: str
    id: object = None
    suggested: object = None
    score: float | None = None
    mean_margin: float | None = None


@dataclass(frozen=True, repr=False)
class Ranking(SavedResult, Sequence[RankingRow]):
    """Training examples sorted by value, the highest first; ties by index.

    Args:
        rows: the sorted rows.

    Example:
        >>> ranking = Ranking.of(np.array([0.1, 0.3]), (np.array([-0.1, 0.2]), np.array([0.3, 0.4])), texts=["a", "b"])
        >>> [(row.rank, row.text, row.sign) for row in ranking]
        [(1, 'b', 'helpful'), (2, 'a', 'undecided')]
        >>> ranking.column("value")
        [0.3, 0.1]
    """

    rows: tuple[RankingRow, ...]

    @classmethod
    def of(
        cls,
        values: FloatArray,
        interval: tuple[FloatArray, FloatArray] | None = None,
        *,
        texts: Sequence[str] | None = None,
        labels: Sequence[object] | None = None,
        rows: Sequence[int] | None = None,
        ids: Sequence[object] | None = None,
        errors: LabelErrors | None = None,
        dynamics: TrainingDynamics | None = None,
    ) -> Ranking:
        """Rank players by value.

        Args:
            values: float (n,).
            interval: low (n,) and high (n,); None if the values are exact.
            texts: n sentences.
            labels: n labels.
            rows: n row numbers in the user's file; default: the indices.
            ids: n different identifiers; default: None.
            errors: label errors of the same players in the same order, for the columns score and suggested.
            dynamics: training dynamics of the same players in the same order, for the column mean_margin.

        Raises:
            InputError: a length is not n, an id occurs twice, a row is no integer, or a text is not valid Unicode.
        """
        values, (low, high) = _checked_values(values, interval)
        n = len(values)
        # Columns of pandas would be indexed by their labels, not by position
        texts = None if texts is None else check_texts("texts", texts, n)
        labels = None if labels is None else check_items("labels", labels, "a sequence with one item for each player")
        rows = None if rows is None else check_rows(rows, n)
        ids = None if ids is None else check_ids(ids, n)
        for name, column in (("labels", labels), ("ids", ids)):
            check_unicode(name, column or ())
        scores, margins = getattr(errors, "scores", None), getattr(dynamics, "aum", None)
        for name, given, known, kind in (
            ("errors", errors, scores, "LabelErrors"),
            ("dynamics", dynamics, margins, "TrainingDynamics"),
        ):
            if given is not None and known is None:
                raise InputError(name, got=type(given).__name__, expected=kind)
        for name, column in (("labels", labels), ("errors", scores), ("dynamics", margins)):
            if column is not None and len(column) != n:
                raise InputError(name, got=len(column), expected=f"{n}, one for each example")
        ranked = [
            RankingRow(
                rank=rank,
                index=int(player),
                row=int(player if rows is None else rows[player]),
                text="" if texts is None else texts[player],
                label=None if labels is None else labels[player],
                value=float(values[player]),
                low=float(low[player]),
                high=float(high[player]),
                sign="helpful" if low[player] > 0 else "harmful" if high[player] < 0 else "undecided",
                id=None if ids is None else ids[player],
                suggested=errors.suggested[player] if errors is not None and errors.suggested else None,
                score=None if scores is None else float(scores[player]),
                mean_margin=None if margins is None or np.isnan(margins[player]) else float(margins[player]),
            )
            for rank, player in enumerate(np.argsort(-values, kind="stable"), start=1)
        ]
        return cls(tuple(ranked))

    @overload
    def __getitem__(self, index: int) -> RankingRow: ...

    @overload
    def __getitem__(self, index: slice) -> Ranking: ...

    def __getitem__(self, index: int | slice) -> RankingRow | Ranking:
        return Ranking(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RankingRow]:
        return iter(self.rows)

    def column(self, name: str) -> list[Any]:
        """Return one column in the order of the ranks.

        Args:
            name: a field of :class:`RankingRow`.

        Raises:
            InputError: there is no such column.
        """
        check_choice("name", name, RankingRow._fields)
        return [getattr(row, name) for row in self.rows]

    def counts(self) -> dict[str, int]:
        """Number of helpful, harmful and undecided players."""
        signs = self.column("sign")
        return {sign: signs.count(sign) for sign in SIGNS}

    @property
    def suspicious(self) -> list[RankingRow]:
        """The rows sorted by label-error score, if it is known, otherwise by value, lowest first."""
        by = "value" if any(row.score is None for row in self.rows) else "score"
        return sorted(self.rows, key=lambda row: (float(getattr(row, by)), -row.rank))

    def _to_parts(self) -> tuple[Arrays, dict[str, Any]]:
        try:
            metadata = json.loads(json.dumps({name: self.column(name) for name in ("label", *_OPTIONAL)}))
        except TypeError as error:
            raise InputError("labels or ids", got=str(error), expected="strings, numbers or None") from error
        return {name: np.array(self.column(name)) for name in RankingRow._fields if name not in metadata}, metadata

    @classmethod
    def _from_parts(cls, arrays: Arrays, metadata: dict[str, Any]) -> Ranking:
        columns = {name: column.tolist() for name, column in arrays.items()} | metadata
        return cls(tuple(RankingRow(*row) for row in zip(*(columns[name] for name in RankingRow._fields), strict=True)))

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row for each player.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_dataframe({name: self.column(name) for name in self._known()})

    def to_csv(self, path: str | Path) -> Path:
        """Write all rows with a header and numbers in full precision; return the path.

        Args:
            path: file to write.
        """
        with replaced(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(self._known())
            writer.writerows(zip(*(self.column(name) for name in self._known()), strict=True))
        return Path(path)

    def to_html(self, path: str | Path, *, title: str = "Data Shapley", note: str = "") -> Path:
        """Write a self-contained HTML page, the most suspicious rows first; return the path.

        Rows can be searched, sorted, ticked and exported.

        Args:
            path: file to write.
            title: title of the page.
            note: text below the title.
        """
        return write_text(path, self._page(title, check_text("note", note)))

    def _repr_html_(self) -> str:
        # A frame keeps the style of the page from affecting the notebook.
        framed = html.escape(self._page("Ranking", ""), quote=True)
        return f'<iframe srcdoc="{framed}" style="width: 100%; height: 30rem; border: 0"></iframe>'

    def plot(self, *, k: int = 10, ax: Axes | None = None) -> Axes:
        """Draw the values of the k most helpful and k most harmful players with their intervals.

        Args:
            k: rows at either end.
            ax: axes to draw on; default: those of a new figure.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        check_integer("k", k)
        rows = self.rows if len(self) <= 2 * k else self.rows[:k] + self.rows[-k:]
        return value_bars(
            np.array([row.value for row in rows]),
            labels=[f"{row.rank}. {_shorten(row.text or f'player {row.index}')}" for row in rows],
            low=np.array([row.low for row in rows]),
            high=np.array([row.high for row in rows]),
            ax=ax,
        )

    def table(self, k: int = 10) -> Group:
        """Return rich tables of the k most suspicious rows and of the k highest values, for ``rich.print``.

        Args:
            k: rows of each table.

        Raises:
            MissingDependencyError: rich is not installed.
        """
        group: type[Group] = require("rich.console", extra="valuation", purpose="table()").Group
        check_integer("k", k)
        suspicious = [row._asdict() for row in self.suspicious]
        if len(self) <= 2 * k:
            return group(rich_lines("All rows, most suspicious first", suspicious))
        by = "value" if any(row.score is None for row in self.rows) else "label-error score"
        highest = [row._asdict() for row in self.rows[:k]]
        return group(
            rich_lines(counted(k, f"lowest {by}"), suspicious[:k]), rich_lines(counted(k, "highest value"), highest)
        )

    def _known(self) -> list[str]:
        """The columns with content."""
        optional = [name for name in _OPTIONAL if all(value is None for value in self.column(name))]
        return [name for name in RankingRow._fields if name not in optional]

    def _page(self, title: str, note: str) -> str:
        known = set(self._known())
        kinds = {"row": "integer", "id": "word", "label": "word", "suggested": "word", "score": "number"}
        kinds |= {"mean_margin": "number", "value": "number", "interval": "interval", "sign": "sign", "text": "text"}
        descriptions = DESCRIPTIONS | {"score": "log-odds that the given label is correct; low: likely wrong"}
        columns = [
            Column(name, kind, descriptions.get(name, ""))
            for name, kind in kinds.items()
            if name in known | {"interval"}
        ]
        rows = [
            [(row.low, row.value, row.high) if name == "interval" else getattr(row, name) for name, *_ in columns]
            for row in self.suspicious
        ]
        counts = ", ".join(f"{count} {sign}" for sign, count in self.counts().items())
        return page(title, f"{note} {counts}.".strip(), columns, rows)


def _checked_values(values: Any, interval: tuple[Any, Any] | None) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """Return values (n,) and the ends of their intervals, (n,) each."""
    expected = "one number for each player"
    values = check_numbers("values", values, expected)
    if values.ndim != 1 or np.isnan(values).any():
        got = f"shape {values.shape}" if values.ndim != 1 else f"NaN at index {int(np.isnan(values).argmax())}"
        raise InputError("values", got=got, expected=expected)
    if interval is None:
        return values, (values, values)
    low, high = (check_numbers("interval", end, expected) for end in interval)
    for end in (low, high):
        if end.shape != values.shape:
            raise InputError("interval", got=f"shape {end.shape}", expected=f"low and high of shape {values.shape}")
    if not (low <= high).all():
        index = int((~(low <= high)).argmax())
        raise InputError("interval", got=f"{low[index]} to {high[index]} at index {index}", expected="low <= high")
    return values, (low, high)


def _shorten(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"
