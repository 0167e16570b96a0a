"""Class labels follow one rule in files, lists, arrays, columns and every method."""

from __future__ import annotations

import enum
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_attnflow import find_label_errors
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation import FrozenEncoderUtility, LabelledTexts, knn_shapley, read_sentences

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(8, 3))


class Mood(enum.IntEnum):
    DULL = 0
    FINE = 1


def of_texts(labels: Any) -> tuple[list[str], list[int]]:
    sentences = LabelledTexts.of([f"text {index}" for index in range(8)], labels)
    return list(sentences.classes), list(sentences.labels)


def of_utility(labels: Any) -> tuple[list[str], list[int]]:
    utility = FrozenEncoderUtility(FEATURES, labels, FEATURES, labels)
    return list(map(str, utility.classes or ())), utility.labels.tolist()


def of_label_errors(labels: Any) -> tuple[list[str], list[int]]:
    given = list(map(str, find_label_errors(FEATURES, labels).labels))
    return sorted(set(given)), [sorted(set(given)).index(label) for label in given]


SOURCES = pytest.mark.parametrize("source", [of_texts, of_utility, of_label_errors])


@SOURCES
@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["pos", "neg", "pos ", "neg\n", "\tpos", "\u00a0neg", "\ufeffpos", "neg\u200b"], ["neg", "pos"]),
        (["caf\u00e9", "no", "cafe\u0301", "no"] * 2, ["caf\u00e9", "no"]),  # composed and decomposed
        ([1, 0, 1.0, 0.0] * 2, ["0", "1"]),
        (["1", "0", "1.0", "0.0"] * 2, ["0", "1"]),
        ([np.str_("b"), np.str_("a")] * 4, ["a", "b"]),
        ([np.float32(1), np.int8(0)] * 4, ["0", "1"]),
        ([torch.tensor(1), torch.tensor(0)] * 4, ["0", "1"]),
        (torch.tensor([1.0, 0.0] * 4, dtype=torch.bfloat16), ["0", "1"]),
        ([Mood.FINE, Mood.DULL] * 4, ["0", "1"]),
        ([True, False] * 4, ["False", "True"]),
        (np.array([True, False] * 4), ["False", "True"]),
        (np.array(["b", "a "] * 4, dtype=object), ["a", "b"]),
        (pd.Series([1, 0] * 4, dtype="Int64", index=range(3, 19, 2)), ["0", "1"]),
        (pd.Series(["b", "a "] * 4, dtype="category", index=[5] * 8), ["a", "b"]),
        (pd.Series(["b", "a "] * 4, dtype="str"), ["a", "b"]),
        (pd.Series([True, False] * 4, dtype="boolean"), ["False", "True"]),
        (pd.Categorical(["b", "a"] * 4, categories=["a", "b", "unused"]), ["a", "b"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_labels_are_read_alike(source: Callable[..., Any], labels: Any, classes: list[str]) -> None:
    assert source(labels) == (classes, [1, 0] * 4 if "no" not in classes else [0, 1] * 4)


@SOURCES
@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("", "''"),
        (" \t", r"' \\t'"),
        ("\ufeff", r"'\\ufeff'"),
        ("nan", "'nan'"),
        (" NaN", "' NaN'"),
        ("<NA>", "'<NA>'"),
        (None, "None"),
        (math.nan, "nan"),
        (np.float32("nan"), "nan"),
        (math.inf, "inf"),
        (pd.NA, "<NA>"),
        (pd.NaT, "NaT"),
    ],
    ids=repr,
)
def test_blank_and_missing_labels_are_refused_with_their_row(
    source: Callable[..., Any], label: object, shown: str
) -> None:
    labels = ["a", "b", "a", label, "b", "a", label, "b"]
    expected = (
        f"labels, index 3: got {shown}, and 1 more without a label; expected a label. Label this row, or drop it."
    )
    with pytest.raises(InputError, match=expected):
        source(labels)


@SOURCES
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (pd.Series([1, None] * 4, dtype="Int64"), "labels, index 1: got <NA>, and 3 more without a label"),
        (pd.Series(["a", None] * 4, dtype="category"), "labels, index 1: got nan, and 3 more"),
        ([("a",), "b"] * 4, r"labels, index 0: got \('a',\); expected a label that is a string, a number or a boolean"),
        ([b"a", b"b"] * 4, "labels, index 0: got b'a'; expected a label that is a string"),
        ([0, 1, 1, True] * 2, "labels, index 3: got True, after 0; expected either booleans or numbers"),
        (["a", "b\ud83d"] * 4, "labels, index 1: got the lone surrogate"),
        (np.zeros((8, 2)), r"labels: got shape \(8, 2\)"),
        ({0, 1, 2, 3, 4, 5, 6, 7}, "labels: got set; expected n labels"),
        (["a", "b"], "labels: got 2; expected 8"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_label_is_refused(source: Callable[..., Any], labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        source(labels)


def test_a_refused_label_is_named_by_its_row_in_the_file() -> None:
    with pytest.raises(InputError, match="labels, row 9: got ''"):
        LabelledTexts.of(["x", "y", "z"], ["a", "b", ""], rows=[4, 7, 9])


def test_classes_of_labelled_texts_are_labels() -> None:
    assert LabelledTexts(("x", "y"), (0, 1), ("a ", "b")).classes == ("a", "b")
    with pytest.raises(InputError, match=r"classes: got \('a', 'a'\); expected different names"):
        LabelledTexts(("x", "y"), (0, 1), ("a", "a "))
    with pytest.raises(InputError, match="classes, index 1: got ''"):
        LabelledTexts(("x", "y"), (0, 1), ("a", ""))


def test_merged_numbers_are_reported() -> None:
    assert LabelledTexts.of(["x", "y", "z"], [1, "1.0", "0"]).notes == ("labels 1.0 read as 1",)
    assert LabelledTexts.of(["x", "y"], ["1.0", "0.0"]).classes == ("0.0", "1.0")  # nothing to merge


def test_validation_labels_and_class_weights_follow_the_rule_of_the_labels() -> None:
    labels, written = ["a", "b"] * 4, ["a ", "\ufeffb"] * 4
    expected = FrozenEncoderUtility(FEATURES, labels, FEATURES, labels, class_weight={"a": 1.0, "b": 2.0})
    found = FrozenEncoderUtility(FEATURES, written, FEATURES, labels, class_weight={" a": 1.0, "b": 2.0})
    coalitions = RNG.random((20, 8)) < 0.5
    np.testing.assert_array_equal(found(coalitions), expected(coalitions))
    np.testing.assert_array_equal(
        knn_shapley(FEATURES, ["1", "0"] * 4, FEATURES, ["1.0", "0.0"] * 4),
        knn_shapley(FEATURES, [1, 0] * 4, FEATURES, [1.0, 0.0] * 4),
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_files_follow_the_rule_of_lists(tmp_path: Path, suffix: str) -> None:
    labels, path = ["pos ", "neg", "\u00a0pos", "cafe\u0301", "caf\u00e9"], tmp_path / f"a{suffix}"
    texts = [f"text {index}" for index in range(5)]
    delimiter = {".csv": ",", ".tsv": "\t"}.get(suffix)
    if delimiter is None:
        lines = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    else:
        lines = [f"text{delimiter}label", *map(delimiter.join, zip(texts, labels, strict=True))]
    path.write_text("\n".join(lines), encoding="utf-8")
    found, expected = read_sentences(path), LabelledTexts.of(texts, labels)
    assert (found.classes, found.labels) == (expected.classes, expected.labels)
    assert found.classes == ("caf\u00e9", "neg", "pos")
