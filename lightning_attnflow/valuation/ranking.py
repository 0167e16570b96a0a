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

from lightning_attnflow._checks import check_choice, check_integer
from lightning_attnflow._figures import value_bars
from lightning_attnflow._optional import require
from lightning_attnflow._results import Arrays, SavedResult, to_dataframe
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.ranking_display import SIGNS, html_page, rich_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Group

FloatArray = NDArray[np.float64]


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


@dataclass(frozen=True)
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
    ) -> Ranking:
        """Rank players by value.

        Args:
            values: float (n,).
            interval: low (n,) and high (n,); None if the values are exact.
            texts: n sentences.
            labels: n labels.
            rows: n row numbers in the user's file; default: the indices.

        Raises:
            InputError: a length is not n.
        """
        low, high = (values, values) if interval is None else interval
        columns = (("texts", texts), ("labels", labels), ("rows", rows), ("interval", low), ("interval", high))
        for name, given in columns:
            if given is not None and len(given) != len(values):
                raise InputError(name, got=len(given), expected=f"{len(values)}, one for each player")
        ranked = [
            RankingRow(
                rank=rank,
                index=int(player),
                row=int(player if rows is None else rows[player]),
                text="" if texts is None else str(texts[player]),
                label=None if labels is None else _to_python(labels[player]),
                value=float(values[player]),
                low=float(low[player]),
                high=float(high[player]),
                sign="helpful" if low[player] > 0 else "harmful" if high[player] < 0 else "undecided",
            )
            for rank, player in enumerate(np.argsort(-np.asarray(values), kind="stable"), start=1)
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
            name: rank, index, row, text, label, value, low, high or sign.

        Raises:
            InputError: there is no such column.
        """
        check_choice("name", name, RankingRow._fields)
        return [getattr(row, name) for row in self.rows]

    def counts(self) -> dict[str, int]:
        """Number of helpful, harmful and undecided players."""
        signs = self.column("sign")
        return {sign: signs.count(sign) for sign in SIGNS}

    def _to_parts(self) -> tuple[Arrays, dict[str, Any]]:
        try:
            labels = json.dumps(self.column("label"))
        except TypeError as error:
            raise InputError("labels", got=str(error), expected="strings, numbers or None") from error
        arrays = {name: np.array(self.column(name)) for name in RankingRow._fields if name != "label"}
        return arrays, {"labels": json.loads(labels)}

    @classmethod
    def _from_parts(cls, arrays: Arrays, metadata: dict[str, Any]) -> Ranking:
        columns = {name: column.tolist() for name, column in arrays.items()} | {"label": metadata["labels"]}
        rows = zip(*(columns[name] for name in RankingRow._fields), strict=True)
        return cls(tuple(RankingRow(*row) for row in rows))

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row for each player.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_dataframe({name: self.column(name) for name in RankingRow._fields})

    def to_csv(self, path: str | Path) -> Path:
        """Write all rows with a header and numbers in full precision; return the path.

        Args:
            path: file to write.
        """
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(RankingRow._fields)
            writer.writerows(self.rows)
        return Path(path)

    def to_html(self, path: str | Path, *, title: str = "Data Shapley", note: str = "") -> Path:
        """Write a self-contained HTML page with search and sorting; return the path.

        Args:
            path: file to write.
            title: title of the page.
            note: text below the title.
        """
        Path(path).write_text(html_page(self.rows, title, note), encoding="utf-8")
        return Path(path)

    def _repr_html_(self) -> str:
        # A frame keeps the style of the page from affecting the notebook.
        page = html.escape(html_page(self.rows, "Ranking", ""), quote=True)
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 30rem; border: 0"></iframe>'

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
        """Return rich tables of the k highest and k lowest values, to be printed with ``rich.print``.

        Args:
            k: rows at either end.

        Raises:
            MissingDependencyError: rich is not installed.
        """
        group: type[Group] = require("rich.console", extra="valuation", purpose="table()").Group
        check_integer("k", k)
        if len(self) <= 2 * k:
            return group(rich_table("All values, highest first", self.rows))
        lowest = tuple(reversed(self.rows[-k:]))
        return group(rich_table(f"{k} highest values", self.rows[:k]), rich_table(f"{k} lowest values", lowest))


def _shorten(text: str, length: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _to_python(label: object) -> object:
    return label.item() if isinstance(label, np.generic) else label
