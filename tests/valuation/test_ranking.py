"""Rankings: order, signs, table, figure, CSV file, HTML page, saving and loading."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.label_errors_result import LabelErrors
from lightning_attnflow.valuation.ranking import Ranking

TEXTS = ["fine", '<script>alert("x")</script>', "a & b [bold]no markup[/bold] <!--rows-->", "comma, and\nnew line"]
VALUES = np.array([0.1, 0.3, -0.2, 0.1])
INTERVAL = np.array([-0.1, 0.2, -0.4, 0.05]), np.array([0.2, 0.4, -0.1, 0.15])


def ranking() -> Ranking:
    return Ranking.of(VALUES, INTERVAL, texts=TEXTS, labels=np.array([0, 1, 1, 0]))


def test_rows_are_sorted_by_value_with_their_signs_texts_and_labels() -> None:
    rows = ranking()
    assert rows.column("index") == [1, 0, 3, 2]
    assert rows.column("rank") == [1, 2, 3, 4]
    assert rows.column("sign") == ["helpful", "undecided", "helpful", "harmful"]
    assert all(row.text == TEXTS[row.index] and row.value == VALUES[row.index] for row in rows)
    assert rows.column("label") == [1, 0, 0, 1]
    assert rows.counts() == {"helpful": 2, "harmful": 1, "undecided": 1}
    assert [row.rank for row in rows[1:3]] == [2, 3]
    assert rows[-1].low == -0.4


def test_columns_of_pandas_are_read_by_position() -> None:
    index = [3, 0, 1, 2]  # as after shuffling or filtering a table
    frame = pd.DataFrame({"text": TEXTS, "label": [0, 1, 1, 0], "id": list("abcd")}, index=index)
    found = Ranking.of(VALUES, INTERVAL, texts=frame["text"], labels=frame["label"], ids=frame["id"])
    assert found.column("text") == ranking().column("text")
    assert found.column("label") == ranking().column("label")
    assert found.column("id") == ["b", "a", "d", "c"]


def test_exact_values_have_signs_without_an_interval() -> None:
    assert Ranking.of(np.array([0.5, 0.0, -1.0])).column("sign") == ["helpful", "undecided", "harmful"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": "ab"}, "values: got str"),
        ({"errors": [0.5, 0.5]}, "errors: got list; expected LabelErrors"),
        ({"dynamics": [0.5, 0.5]}, "dynamics: got list; expected TrainingDynamics"),
        ({"texts": ["a", "\ud800"]}, r"texts\[1\]: got the lone surrogate"),
        ({"labels": ["\ud800", 1]}, r"labels\[0\]: got the lone surrogate"),
        ({"rows": [1, "a"]}, "rows: got 'a'"),
    ],
)
def test_other_objects_and_texts_that_cannot_be_written_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ranking.of(**{"values": np.array([0.1, 0.2])} | options)
    for name in ("title", "note"):
        with pytest.raises(InputError, match=f"{name}: got int"):
            Ranking.of(np.array([0.1])).to_html("page.html", **{name: 3})


def test_wrong_lengths_and_column_names_raise_input_errors() -> None:
    with pytest.raises(InputError, match="texts: got 3; expected 4"):
        Ranking.of(VALUES, INTERVAL, texts=TEXTS[:3])
    with pytest.raises(InputError, match="labels: got 0; expected 4"):
        Ranking.of(VALUES, labels=[])
    with pytest.raises(InputError, match="name: got 'colour'"):
        ranking().column("colour")


def test_the_csv_file_keeps_full_precision(tmp_path: Path) -> None:
    values = np.array([1 / 3, -np.pi])
    path = Ranking.of(values, texts=["a,b", 'say "c"\nnow']).to_csv(tmp_path / "ranking.csv")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
    assert [float(row["value"]) for row in rows] == values.tolist()
    assert [row["text"] for row in rows] == ["a,b", 'say "c"\nnow']


def test_the_html_page_is_self_contained_and_escapes_texts(tmp_path: Path) -> None:
    page = ranking().to_html(tmp_path / "page.html", title="A < B", note='"quoted" & noted').read_text(encoding="utf-8")
    assert page.count("<script") == 1
    assert page.count("</script") == 1
    assert "A &lt; B" in page
    assert "src=" not in page
    assert "http" not in page
    assert not re.search(r"<!--(title|note|data)-->", page.replace("\\u003c", ""))
    data = json.loads(re.search(r"rows, expected } = (.*);\n", page)[1])
    place = [name for name, *_ in data["columns"]].index("text")
    assert [row[place] for row in data["rows"]] == ranking().column("text")[::-1]  # the lowest value first


def test_the_html_page_accepts_infinite_intervals(tmp_path: Path) -> None:
    infinite = np.full(4, np.inf)
    page = Ranking.of(VALUES, (-infinite, infinite)).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert '["-Infinity", 0.3, "Infinity"]' in page


def test_the_table_shows_the_highest_and_lowest_values() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(ranking().table(1))
    printed = console.file.getvalue()
    assert "1 highest value " in printed
    assert "1 lowest value " in printed
    assert "[bold]no markup[/bold]" in printed
    assert "fine" not in printed
    console.print(ranking().table())
    assert "fine" in console.file.getvalue()


def test_the_table_prints_one_line_for_each_sentence_at_80_columns() -> None:
    texts = [f"a sentence of the training set that is too long for one line of a terminal {i}" for i in range(4)]
    labels = ["negative"] * 4
    errors = LabelErrors(np.array([-2.5, 1.0, 9.25, 3.0]), labels=tuple(labels), suggested=("positive",) * 4)
    interval = np.array(INTERVAL) / 100
    ranked = Ranking.of(VALUES / 100, interval, texts=texts, labels=labels, rows=[9078, 2, 3, 4], errors=errors)
    console = Console(file=io.StringIO(), width=80)
    console.print(ranked.table())
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 3 + 4 + 1  # title, header, rule; caption
    assert all(len(line) <= 80 for line in lines)
    for line in lines[3:7]:
        assert "negative" in line
        assert re.search(r"a sentence of the training set t[^ ]*…$", line), line


def test_the_table_marks_the_values_whose_sign_is_undecided() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(ranking().table())
    lines = {line.split()[0]: line for line in console.file.getvalue().splitlines() if line.strip()}
    for row in ranking():
        assert (f"{row.value:+.3f}?" in lines[str(row.row)]) == (row.sign == "undecided")
    assert "? after a value: its 95% interval contains 0" in console.file.getvalue()
    console = Console(file=io.StringIO(), width=80)
    console.print(Ranking.of(np.array([1.0, -1.0])).table())
    assert "?" not in console.file.getvalue()


def test_a_loaded_ranking_equals_the_saved_one(tmp_path: Path) -> None:
    assert Ranking.load(ranking().save(tmp_path / "ranking")) == ranking()
    unlabelled = Ranking.of(VALUES, (-np.full(4, np.inf), np.full(4, np.inf)))
    assert Ranking.load(unlabelled.save(tmp_path / "unlabelled.npz")) == unlabelled
    with pytest.raises(InputError, match="labels or ids: got"):
        Ranking.of(VALUES, labels=[object()] * 4).save(tmp_path / "objects")


def test_the_data_frame_has_one_row_for_each_player() -> None:
    frame = ranking().to_pandas()
    assert frame["index"].tolist() == [1, 0, 3, 2]
    assert frame.columns.tolist() == ["rank", "index", "row", "text", "label", "value", "low", "high", "sign"]


def test_the_plot_shows_both_ends_of_the_ranking() -> None:
    axes = ranking().plot(k=1)
    assert [label.get_text()[:2] for label in axes.get_yticklabels()] == ["1.", "4."]
    assert ranking().plot(ax=axes) is axes


def test_the_notebook_representation_contains_the_page() -> None:
    assert "alert(\\\\&quot;x" not in ranking()._repr_html_()
    assert html.escape(r"alert(\"x\")") in ranking()._repr_html_()
