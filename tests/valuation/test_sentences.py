"""Reading labelled sentences from files, every kind of invalid file, and the split into two parts."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation import LabelledTexts, read_sentences, split_sentences
from lightning_attnflow.valuation.sentences import describe_duplicates, distinct_texts


def numbered(n: int, positives: int | None = None) -> LabelledTexts:
    labels = [i % 2 for i in range(n)] if positives is None else [int(i < positives) for i in range(n)]
    return LabelledTexts.of([f"s {i}" for i in range(n)], labels)


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("a.csv", 'text,label\n"good, really",pos\n\nbad,neg\n', (2, 4)),
        (
            "a.jsonl",
            '{"text": "good, really", "label": "pos"}\n\n{"text": "bad", "label": "neg", "more": null}\n',
            (1, 3),
        ),
    ],
)
def test_csv_and_jsonl_give_the_same_sentences(tmp_path: Path, name: str, content: str, rows: tuple[int, ...]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    expected = LabelledTexts(("good, really", "bad"), (1, 0), ("neg", "pos"), rows)
    assert read_sentences(tmp_path / name) == expected


def test_rows_count_records_not_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"two\nlines",1\nthird,0\n')
    assert read_sentences(tmp_path / "a.csv").rows == (2, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "sentence,label\nx,1\n", r"a\.csv:2, column 'text': got columns \['sentence', 'label'\]"),
        ("a.csv", "text,label\nx,1\ny,1\n", r"2 rows with the classes \['1'\]"),
        ("a.csv", "text,label\n", r"0 rows"),
        ("a.csv", "", r"0 rows"),
        ("a.csv", "text,label\nx,1\n  ,0\n", r"a\.csv:3, column 'text'"),
        ("a.csv", "text,label\nx,\n", r"a\.csv:2, column 'label'"),
        ("a.csv", "text,label\ngood, really,1\n", r"a\.csv:2: got 3 cells; expected 2"),
        ("a.jsonl", '{"text": "x", "label": 1}\n[1, 2]\n', r"a\.jsonl:2: got \[1, 2\]"),
        ("a.jsonl", "{text\n", r"a\.jsonl:1: got \{text"),
        ("a.jsonl", '{"text": ["x"], "label": 1}\n', r"a\.jsonl:1, column 'text': got \['x'\]"),
        ("a.jsonl", '{"label": 1}\n', r"column 'text'"),
        ("a.csv", 'text,label\n"good" film,1\nbad,0\n', r"a\.csv:2: got a record that is no valid CSV"),
        ("a.csv", 'text,label\nfine,1\n"good film,1\nbad,0\n', r"a\.csv:3: got a record that is no valid CSV"),
        ("a.csv", 'text,label\n"good,1\nbad,0\n"fine,1\n', r"a\.csv:2: got a record that is no valid CSV"),
        (
            "a.csv",
            'text,label\nx,1\n"good,1\nbad,0\nfine",1\ny,0\n',
            r"a\.csv:3: got a quotation mark that joins 3 rows",
        ),
        ("a.csv", 'label;text\n1;x\n0;"bad\n1;good"\n', r"a\.csv:3: got a quotation mark that joins 2 rows"),
        ("a.csv", "text,label\nx,1\ny,nan\n", r"a\.csv:3, column 'label': got 'nan'; expected a label"),
        ("a.jsonl", '{"text": "x\\ud83d", "label": 1}\n', r"a\.jsonl:1, column 'text': got the lone surrogate"),
        ("a.jsonl", '{"text": "x", "label": "\\ud83d"}\n', r"a\.jsonl:1, column 'label': got the lone surrogate"),
        ("a.jsonl", '{"text": "x", "label": ' + "1" * 5000 + "}\n", r"a\.jsonl:1: got "),
        ("a.csv", "text,label,text\nx,1,y\n", r"a\.csv:1: got a header that repeats \['text'\]"),
        ("a.jsonl", '{"text": "x", "label": NaN}\n', r"a\.jsonl:1, column 'label': got nan"),
        ("a.jsonl", '{"text": "x", "label": null}\n', r"a\.jsonl:1, column 'label': got None"),
        (
            "a.csv",
            "text,label\nx,1\ny, NaN \n",
            r"a\.csv:3, column 'label': got 'NaN '; expected a label\. Label this",
        ),
        ("a.tsv", "text\tlabel\nx\t1\ny\t<NA>\n", r"a\.tsv:3, column 'label': got '<NA>'; expected a label"),
        ("a.tsv", "text\tlabel\nx\t1\ty\n", r"a\.tsv:2: got 3 cells; expected 2"),
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "y", "label": true}\n', r"a\.jsonl:2, .*: got True, after 1"),
        ("a.txt", "text\tlabel\n", r"\.csv, \.tsv or \.jsonl"),
    ],
)
def test_the_error_names_the_file_and_the_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_sentences(tmp_path / name)


def test_missing_and_undecodable_files_raise_input_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_sentences(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("text,label\ntr\xe8s bien,1\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_sentences(tmp_path / "latin.csv")


def test_columns_must_have_one_entry_per_text() -> None:
    with pytest.raises(InputError, match="labels: got 1; expected 2"):
        LabelledTexts(("a", "b"), (0,), ("x",))
    with pytest.raises(InputError, match="rows: got 1; expected 2"):
        LabelledTexts(("a", "b"), (0, 0), ("x",), (7,))
    with pytest.raises(InputError, match="indices of the classes"):
        LabelledTexts(("a", "b"), (0, 1), ("x",))


def test_class_names_and_select_return_labels_and_rows() -> None:
    sentences = LabelledTexts.of(["a", "b", "c"], ["y", "n", "y"], rows=[5, 6, 9])
    assert sentences.class_names() == ["y", "n", "y"]
    assert sentences.select([2, 1]) == LabelledTexts(("c", "b"), (1, 0), ("n", "y"), (9, 6))
    assert (len(sentences), sentences[1]) == (3, ("b", 0))


def test_split_is_seeded_and_drops_repeated_rows() -> None:
    texts = [f"Sentence {i}{mark}" for i in range(20) for mark in ("", " ", "  ")]
    sentences = LabelledTexts.of(texts, [i // 3 % 2 for i in range(60)])
    train, validation = split_sentences(sentences, 12, 8, seed=3)
    words = [{text.strip() for text in part.texts} for part in (train, validation)]
    assert (len(words[0]), len(words[1]), words[0] & words[1]) == (12, 8, set())
    assert split_sentences(sentences, 12, 8, seed=3) == (train, validation)
    assert split_sentences(sentences, 12, 8, seed=4) != (train, validation)
    assert all(sentences.texts[row - 1] == text for row, text in zip(train.rows, train.texts, strict=True))


def test_rows_with_equal_texts_and_different_labels_are_kept_in_one_part() -> None:
    texts = [f"Sentence {i % 15}" for i in range(20)]
    sentences = LabelledTexts.of(texts, [0] * 7 + [1] * 8 + [1] * 5)
    for seed in range(20):
        train, validation = split_sentences(sentences, 12, 8, seed=seed)
        assert (len(train), len(validation)) == (12, 8)
        assert set(train.texts) & set(validation.texts) == set()


@pytest.mark.parametrize(
    ("first", "second"),
    [("film :)", "film :("), ("C++", "C#"), ("फिल्म की", "फिल्म का"), ("good", "Good"), ("No!", "No?")],
)
def test_texts_that_differ_in_a_character_are_different(first: str, second: str) -> None:
    assert distinct_texts(LabelledTexts.of([first, second], [0, 0])) == [0, 1]
    composed, decomposed = LabelledTexts.of([first, f" {first} "], [0, 0]), LabelledTexts.of(["é", "é"], [0, 0])
    assert distinct_texts(composed) == distinct_texts(decomposed) == [0]
    assert describe_duplicates(composed) == "1 repeated row dropped (row 2)"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_files_may_use_commas_semicolons_or_tabs(tmp_path: Path, delimiter: str) -> None:
    rows = [("text", "label"), ("x" * 200_000, "1"), ("b", "0")]
    (tmp_path / "a.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    before = csv.field_size_limit()
    assert read_sentences(tmp_path / "a.csv").texts == ("x" * 200_000, "b")
    assert csv.field_size_limit() == before


def test_numeric_labels_of_jsonl_files_are_normalised(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"text": "a", "label": 1}\n{"text": "b", "label": 1.0}\n{"text": "c", "label": 0}\n'
        '{"text": "d", "label": "1.0"}'
    )
    sentences = read_sentences(tmp_path / "a.jsonl")
    assert (sentences.classes, sentences.labels) == (("0", "1"), (1, 1, 0, 1))
    assert sentences.notes == ("4 rows read", "labels 1.0 read as 1")
    (tmp_path / "a.csv").write_text("text,label\na,1.0\nb,1.5\n")  # nothing to merge
    assert read_sentences(tmp_path / "a.csv").classes == ("1.0", "1.5")


def test_rows_with_line_breaks_are_counted_and_suspicious_ones_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n"one\n\ntwo",1\n\nx,0\n"a, b\n1",0\n')
    sentences = read_sentences(tmp_path / "a.csv")
    assert sentences.texts == ("one\n\ntwo", "x", "a, b\n1")
    place = tmp_path / "a.csv"
    assert sentences.notes == (
        "3 rows read",
        f"2 of them with line breaks (first: row 2, {place}:2)",
        "1 empty line skipped",
    )
    (tmp_path / "b.csv").write_text('text,label\nx,0\n"good\nbad,0\nfilm",1\n')
    with pytest.warns(UserWarning, match=r"b\.csv:3: a quoted text of 3 lines, 1 of which could be rows"):
        assert read_sentences(tmp_path / "b.csv").texts == ("x", "good\nbad,0\nfilm")


def test_texts_must_be_valid_unicode() -> None:
    with pytest.raises(InputError, match=r"texts\[1\]: got the lone surrogate"):
        LabelledTexts.of(["a", "b\ud83d"], [0, 1])
    with pytest.raises(InputError, match=r"texts\[0\]: got int"):
        LabelledTexts.of([1, "b"], [0, 1])


def test_split_rejects_sizes_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"got 15 and 6; .* 20, the number of distinct sentences"):
        split_sentences(numbered(20), 15, 6)


@pytest.mark.parametrize("size", [-1, 2.5, None, "3", [4]])
def test_split_rejects_sizes_and_seeds_that_are_no_integers(size: object) -> None:
    with pytest.raises(InputError, match="train_size: got"):
        split_sentences(numbered(20), size, 5)
    with pytest.raises(InputError, match="validation_size: got"):
        split_sentences(numbered(20), 5, size)
    with pytest.raises(InputError, match="seed: got"):
        split_sentences(numbered(20), 5, 5, seed=size)


def test_split_rejects_a_part_of_one_class() -> None:
    with pytest.raises(InputError, match=r"one class only"):
        split_sentences(numbered(20, positives=1), 10, 10)


@pytest.mark.parametrize("column", [None, 0, ["text"], b"text"])
def test_columns_are_named_by_strings(tmp_path: Path, column: object) -> None:
    path = tmp_path / "sentences.csv"
    path.write_text("text,label\na,x\nb,y\n")
    for name in ("text_column", "label_column"):
        with pytest.raises(InputError, match=f"{name}: got .*; expected a string"):
            read_sentences(path, **{name: column})
