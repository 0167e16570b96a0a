"""The data of the recipes: the bundled sentences, the user's own files, and every way such a file can be wrong."""

from __future__ import annotations

import re
from pathlib import Path

import movie_reviews
import pytest

from lightning_attnflow.errors import InputError


@pytest.fixture(scope="module")
def reviews() -> list[tuple[str, float]]:
    return movie_reviews.load_movie_reviews()


def test_reviews_are_the_published_ones(reviews: list[tuple[str, float]]) -> None:
    assert len(reviews) == 10603  # 10,605 lines, two texts occur twice
    assert all(-4 <= rating <= 4 and text for text, rating in reviews)
    binary = movie_reviews.binary_sentences(reviews)
    assert (len(binary), sum(label for _, label in binary)) == (9171, 4597)


def test_split_is_seeded_and_keeps_equal_texts_on_one_side() -> None:
    sentences = [(f"Sentence {i}{mark}", i % 2) for i in range(20) for mark in ("", "!", " ...")]
    train, validation = movie_reviews.split_sentences(sentences, 12, 8, seed=3)
    words = [{re.sub(r"\W", "", text) for text, _ in part} for part in (train, validation)]
    assert (len(words[0]), len(words[1]), words[0] & words[1]) == (12, 8, set())
    assert movie_reviews.split_sentences(sentences, 12, 8, seed=3) == (train, validation)
    assert movie_reviews.split_sentences(sentences, 12, 8, seed=4) != (train, validation)


@pytest.mark.parametrize(("train", "validation"), [(15, 6), (0, 5), (5, 0)])
def test_split_refuses_sizes_it_cannot_serve(train: int, validation: int) -> None:
    with pytest.raises(InputError, match=r"20 distinct sentences"):
        movie_reviews.split_sentences([(f"s {i}", i % 2) for i in range(20)], train, validation)


def test_split_refuses_a_part_of_one_class() -> None:
    sentences = [(f"s {i}", int(i == 0)) for i in range(20)]
    with pytest.raises(InputError, match=r"one class only"):
        movie_reviews.split_sentences(sentences, 10, 10)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"good, really",pos\n\nbad,neg\n'),
        ("a.jsonl", '{"text": "good, really", "label": "pos"}\n\n{"text": "bad", "label": "neg", "more": null}\n'),
    ],
)
def test_csv_and_jsonl_hold_the_same(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8-sig")
    assert movie_reviews.read_labelled(tmp_path / name) == ([("good, really", 1), ("bad", 0)], ["neg", "pos"])


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
        ("a.tsv", "text\tlabel\n", r"\.csv or \.jsonl"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        movie_reviews.read_labelled(tmp_path / name)


def test_missing_and_undecodable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not there"):
        movie_reviews.read_labelled(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("text,label\ntr\xe8s bien,1\n".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        movie_reviews.read_labelled(tmp_path / "latin.csv")


def test_a_damaged_archive_is_not_read(tmp_path: Path) -> None:
    (tmp_path / movie_reviews.ARCHIVE).write_bytes(b"half a file")
    with pytest.raises(InputError, match="SHA-256"):
        movie_reviews.load_movie_reviews(tmp_path)


def test_minimum_rating_must_be_positive() -> None:
    with pytest.raises(InputError, match="minimum_rating"):
        movie_reviews.binary_sentences([("x", 1.0)], minimum_rating=0)
