"""The ranking: sorted, signed, aligned with its texts; its page shows texts as text."""

from __future__ import annotations

import csv
import html
import io
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.ranking import Ranking

TEXTS = ["fine", '<script>alert("x")</script>', "a & b [bold]no markup[/bold] <!--rows-->", "comma, and\nnew line"]
VALUES = np.array([0.1, 0.3, -0.2, 0.1])
INTERVAL = np.array([-0.1, 0.2, -0.4, 0.05]), np.array([0.2, 0.4, -0.1, 0.15])


def ranking() -> Ranking:
    return Ranking.of(VALUES, INTERVAL, texts=TEXTS, labels=np.array([0, 1, 1, 0]))


def test_rows_are_sorted_signed_and_aligned() -> None:
    rows = ranking()
    assert rows.column("index") == [1, 0, 3, 2]
    assert rows.column("rank") == [1, 2, 3, 4]
    assert rows.column("sign") == ["helpful", "undecided", "helpful", "harmful"]
    assert all(row.text == TEXTS[row.index] and row.value == VALUES[row.index] for row in rows)
    assert rows.column("label") == [1, 0, 0, 1]
    assert rows.counts() == {"helpful": 2, "harmful": 1, "undecided": 1}
    assert [row.rank for row in rows[1:3]] == [2, 3]
    assert rows[-1].low == -0.4


def test_exact_values_need_no_interval() -> None:
    assert Ranking.of(np.array([0.5, 0.0, -1.0])).column("sign") == ["helpful", "undecided", "harmful"]


def test_lengths_that_differ_are_said() -> None:
    with pytest.raises(InputError, match="texts: got 3; expected 4"):
        Ranking.of(VALUES, INTERVAL, texts=TEXTS[:3])
    with pytest.raises(InputError, match="labels: got 0; expected 4"):
        Ranking.of(VALUES, labels=[])
    with pytest.raises(InputError, match="name: got 'score'"):
        ranking().column("score")


def test_the_csv_holds_every_digit(tmp_path: Path) -> None:
    values = np.array([1 / 3, -np.pi])
    path = Ranking.of(values, texts=["a,b", 'say "c"\nnow']).to_csv(tmp_path / "ranking.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    assert [float(row["value"]) for row in rows] == values.tolist()
    assert [row["text"] for row in rows] == ["a,b", 'say "c"\nnow']


def test_the_page_is_self_contained_and_shows_texts_as_text(tmp_path: Path) -> None:
    page = ranking().to_html(tmp_path / "page.html", title="A < B", note='"quoted" & noted').read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert "alert(&quot;x&quot;)" in page
    assert "A &lt; B" in page
    assert "src=" not in page
    assert "http" not in page
    assert not re.search(r"<!--(title|note|counts|rows)-->", page)
    cells = re.findall(r'<td class="text">(.*?)</td>', page, flags=re.DOTALL)
    assert [html.unescape(cell) for cell in cells] == ranking().column("text")


def test_the_page_can_hold_unknown_intervals(tmp_path: Path) -> None:
    infinite = np.full(4, np.inf)
    page = Ranking.of(VALUES, (-infinite, infinite)).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert 'data-v="-Infinity"' in page
    assert "left:0.0%;width:100.0%" in page
    assert "nan" not in page


def test_the_table_prints_brackets_and_both_ends() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(ranking().table(1))
    printed = console.file.getvalue()
    assert "The 1 highest values" in printed
    assert "The 1 lowest values" in printed
    assert "[bold]no markup[/bold]" in printed
    assert "fine" not in printed
    console.print(ranking().table())
    assert "fine" in console.file.getvalue()
