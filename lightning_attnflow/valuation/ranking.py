"""The ranking of training examples: rows, a table for the terminal, a CSV file and a self-contained HTML page."""

from __future__ import annotations

import csv
import html
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.plots.ranking_page import PAGE

if TYPE_CHECKING:
    from rich.console import Group

FloatArray = NDArray[np.float64]


class RankingRow(NamedTuple):
    """One training example in a ranking.

    Args:
        rank: 1 for the most valuable.
        index: of the player.
        text: the sentence, "" if unknown.
        label: its label, None if unknown.
        value: the estimate.
        low: lower end of its interval.
        high: upper end of its interval.
        sign: helpful, harmful, or undecided where the interval holds 0.
    """

    rank: int
    index: int  # type: ignore[assignment]  # hides the method of tuples, which a row has no use for
    text: str
    label: object
    value: float
    low: float
    high: float
    sign: str


class Ranking(Sequence[RankingRow]):
    """Rows sorted by value, the highest first; equal values by index.

    Args:
        rows: the rows, sorted.

    Example:
        >>> ranking = Ranking.of(np.array([0.1, 0.3]), (np.array([-0.1, 0.2]), np.array([0.3, 0.4])), texts=["a", "b"])
        >>> [(row.rank, row.text, row.sign) for row in ranking]
        [(1, 'b', 'helpful'), (2, 'a', 'undecided')]
        >>> ranking.column("value")
        [0.3, 0.1]
    """

    def __init__(self, rows: Sequence[RankingRow]) -> None:
        self._rows = tuple(rows)

    @classmethod
    def of(
        cls,
        values: FloatArray,
        interval: tuple[FloatArray, FloatArray] | None = None,
        *,
        texts: Sequence[str] | None = None,
        labels: Sequence[object] | None = None,
    ) -> Ranking:
        """Rank players by value.

        Args:
            values: float (n,).
            interval: low (n,) and high (n,); default: the values, which are then exact.
            texts: n sentences.
            labels: n labels.

        Raises:
            InputError: if a length is not n.
        """
        low, high = (values, values) if interval is None else interval
        for name, given in (("texts", texts), ("labels", labels), ("interval", low), ("interval", high)):
            if given is not None and len(given) != len(values):
                raise InputError(
                    name, got=f"{len(given)}", expected=f"{len(values)}, one a player", remedy=f"Align the {name}."
                )
        return cls(
            [
                RankingRow(
                    rank=rank,
                    index=int(player),
                    text="" if texts is None else str(texts[player]),
                    label=None if labels is None else _plain(labels[player]),
                    value=float(values[player]),
                    low=float(low[player]),
                    high=float(high[player]),
                    sign="helpful" if low[player] > 0 else "harmful" if high[player] < 0 else "undecided",
                )
                for rank, player in enumerate(np.argsort(-np.asarray(values), kind="stable"), start=1)
            ]
        )

    @overload
    def __getitem__(self, place: int) -> RankingRow: ...

    @overload
    def __getitem__(self, place: slice) -> Ranking: ...

    def __getitem__(self, place: int | slice) -> RankingRow | Ranking:
        return Ranking(self._rows[place]) if isinstance(place, slice) else self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[RankingRow]:
        return iter(self._rows)

    def column(self, name: str) -> list[Any]:
        """One column, in the order of the ranks.

        Args:
            name: rank, index, text, label, value, low, high or sign.

        Raises:
            InputError: if there is no such column.
        """
        if name not in RankingRow._fields:
            raise InputError("name", got=repr(name), expected=f"one of {RankingRow._fields}", remedy="Pass 'value'.")
        return [getattr(row, name) for row in self._rows]

    def counts(self) -> dict[str, int]:
        """How many players are helpful, harmful and undecided."""
        signs = self.column("sign")
        return {sign: signs.count(sign) for sign in ("helpful", "harmful", "undecided")}

    def to_csv(self, path: str | Path) -> Path:
        """Write all rows, with a header, numbers in full precision; return the path.

        Args:
            path: of the file.
        """
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(RankingRow._fields)
            writer.writerows(self._rows)
        return Path(path)

    def to_html(self, path: str | Path, *, title: str = "Data Shapley", note: str = "") -> Path:
        """Write one HTML file with search and sorting, which loads nothing; return the path.

        Args:
            path: of the file.
            title: of the page.
            note: a sentence under the title.
        """
        finite = [abs(end) for row in self._rows for end in (row.low, row.high, row.value) if math.isfinite(end)]
        scale = max(finite, default=0.0) or 1.0
        counts = ", ".join(f"{count} {sign}" for sign, count in self.counts().items())
        body = "\n".join(_html_row(row, scale) for row in self._rows)
        parts = {"title": html.escape(title), "note": html.escape(note), "counts": counts, "rows": body}
        page = PAGE
        for name, text in parts.items():
            page = page.replace(f"<!--{name}-->", text)  # an escaped text holds no such mark
        Path(path).write_text(page, encoding="utf-8")
        return Path(path)

    def table(self, k: int = 10) -> Group:
        """The k most helpful and the k most harmful rows as rich tables, to be printed with ``rich.print``.

        Args:
            k: rows at either end; fewer if there are not as many.

        Raises:
            MissingDependencyError: if rich is not installed.
        """
        try:
            from rich.console import Group
        except ImportError as error:
            raise MissingDependencyError(
                "rich",
                got="no such package",
                expected="it for a table",
                remedy="pip install 'lightning-attnflow[valuation]'",
            ) from error
        if len(self) <= 2 * k:
            return Group(_rich_table("All, the most valuable first", self._rows))
        last = tuple(reversed(self._rows[-k:]))
        return Group(
            _rich_table(f"The {k} highest values", self._rows[:k]), _rich_table(f"The {k} lowest values", last)
        )


def _rich_table(title: str, rows: Sequence[RankingRow]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in ("rank", "index", "value", "95% interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("sign", "label", "text"):
        table.add_column(name, overflow="fold")
    colours = {"helpful": "green", "harmful": "red", "undecided": "dim"}
    for row in rows:
        table.add_row(
            str(row.rank),
            str(row.index),
            f"{row.value:+.5f}",
            f"{row.low:+.5f} {row.high:+.5f}",
            Text(row.sign, style=colours[row.sign]),
            Text("" if row.label is None else str(row.label)),
            Text(row.text),  # not markup: a sentence may hold [brackets]
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
        f'<tr class="{row.sign}"><td>{row.rank}</td><td>{row.index}</td>'
        f'<td data-v="{row.value}">{row.value:+.5f}</td><td data-v="{_number(row.low)}">{row.low:+.5f}</td>'
        f'<td data-v="{_number(row.high)}">{row.high:+.5f}</td><td>{bar}</td><td>{row.sign}</td>'
        f'<td>{label}</td><td class="text">{html.escape(row.text)}</td></tr>'
    )


def _number(value: float) -> str:
    """A number as JavaScript reads it."""
    return str(value).replace("inf", "Infinity")


def _plain(label: object) -> object:
    return label.item() if isinstance(label, np.generic) else label
