"""Columns of users beside features and labels: texts, rows, identifiers, values, indices."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from lightning_attnflow import DataShapley, find_label_errors
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import FunctionGame, MaxPermutations
from lightning_attnflow.valuation import (
    FrozenEncoderUtility,
    LabelledTexts,
    Ranking,
    RemovalCurve,
    find_text_label_errors,
    knn_shapley,
    rank_texts,
    read_sentences,
    split_sentences,
)

RNG = np.random.default_rng(0)
N = 12
FEATURES, LABELS = RNG.normal(size=(N, 3)), np.arange(N) % 2
TEXTS, VALUES = [f"text {index}" for index in range(N)], RNG.normal(size=N)
SENTENCES = LabelledTexts.of(["a fine film", "a dull film", "a lovely story", "a bad story"], ["p", "n", "p", "n"])


def of_ranking(**columns: Any) -> dict[int, dict[str, Any]]:
    """Rows of a ranking by index."""
    return {row.index: row._asdict() for row in Ranking.of(VALUES, **columns)}


def of_label_errors(**columns: Any) -> dict[int, dict[str, Any]]:
    """Rows of label errors by index."""
    errors = find_label_errors(FEATURES, LABELS, **columns)
    return dict(zip(errors.order.tolist(), errors.to_rows(), strict=True))


RESULTS = pytest.mark.parametrize("result", [of_ranking, of_label_errors])


@RESULTS
@pytest.mark.parametrize(
    "column",
    [
        list,
        tuple,
        iter,
        lambda values: pd.Series(values, index=range(40, 40 - 2 * N, -2)),  # an index that is not the position
        lambda values: pd.Series(values).astype("category"),
        lambda values: np.array(values, dtype=object),
        lambda values: dict(enumerate(values)).values(),
    ],
    ids=["list", "tuple", "iterator", "index with gaps", "category", "array", "view"],
)
def test_columns_are_read_by_position(result: Callable[..., Any], column: Callable[[list[Any]], Any]) -> None:
    ids = [f"id {index}" for index in range(N)]
    rows = result(texts=column(TEXTS), ids=column(ids), rows=column(list(range(100, 100 + N))))
    for index, row in rows.items():
        assert (row["text"], row["id"], row["row"]) == (TEXTS[index], ids[index], 100 + index)


@RESULTS
def test_numbers_of_libraries_are_python_numbers(result: Callable[..., Any]) -> None:
    for numbers in (np.arange(N), torch.arange(N), pd.Series(range(N), dtype="Int64"), list(torch.arange(N))):
        rows = result(ids=numbers, rows=numbers)
        assert all(type(row["id"]) is int and row["id"] == row["row"] == index for index, row in rows.items())


@RESULTS
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"texts": [None, *TEXTS[1:]]}, r"texts\[0\]: got NoneType; expected a string"),
        ({"texts": [*TEXTS[1:], float("nan")]}, rf"texts\[{N - 1}\]: got float; expected a string"),
        ({"texts": ["a\ud83d"] * N}, r"texts\[0\]: got the lone surrogate"),
        ({"texts": "x" * N}, "texts: got str; expected a sequence with one item for each example"),
        ({"texts": set(TEXTS)}, "texts: got set; expected a sequence"),
        ({"texts": pd.DataFrame({"text": TEXTS})}, "texts: got DataFrame; expected a sequence"),
        ({"texts": TEXTS[1:]}, f"texts: got {N - 1}; expected {N}"),
        ({"rows": [str(index) for index in range(N)]}, "rows: got '0' at index 0; expected integers"),
        ({"rows": [1.5] * N}, "rows: got 1.5 at index 0; expected integers"),
        ({"ids": [[index] for index in range(N)]}, r"ids: got \[0\] at index 0; expected strings or numbers"),
        ({"ids": [0, *range(N - 1)]}, "ids: got 0 more than once"),
        ({"ids": [1, 1.0, *range(2, N)]}, "ids: got 1.0 more than once"),
        ({"ids": range(N + 1)}, f"ids: got {N + 1}; expected {N}"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_columns_are_refused(result: Callable[..., Any], columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        result(**columns)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (np.where(np.arange(N) == 3, np.nan, VALUES), {}, "values: got NaN at index 3"),
        (np.ones((2, 2)), {}, r"values: got shape \(2, 2\)"),
        (["a", "b"], {}, "values: got list of dtype <U1; expected one number for each player"),
        (VALUES, {"interval": (VALUES + 1, VALUES - 1)}, "interval: got .* at index 0; expected low <= high"),
        (VALUES, {"interval": (VALUES[1:], VALUES[1:])}, rf"interval: got shape \({N - 1},\)"),
        (VALUES, {"errors": VALUES}, "errors: got ndarray; expected LabelErrors"),
        (VALUES, {"dynamics": VALUES}, "dynamics: got ndarray; expected TrainingDynamics"),
        (VALUES, {"labels": ["a"]}, f"labels: got 1; expected {N}"),
    ],
    ids=range(8),
)
def test_wrong_values_are_refused(values: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Ranking.of(values, **options)


@pytest.mark.parametrize("kind", [of_ranking, of_label_errors])
def test_saving_identifiers_of_other_types_is_refused(kind: Callable[..., Any], tmp_path: Path) -> None:
    ids = [date(2020, 1, day) for day in range(1, N + 1)]
    result = Ranking.of(VALUES, ids=ids) if kind is of_ranking else find_label_errors(FEATURES, LABELS, ids=ids)
    with pytest.raises(InputError, match=r"datetime.date|of type date"):
        result.save(tmp_path / "result.npz")
    assert not list(tmp_path.iterdir())


def test_a_removal_curve_needs_numbers() -> None:
    game = FunctionGame(lambda coalitions: coalitions.sum(axis=1).astype(float), n_players=N)
    for values in (Ranking.of(VALUES), ["a"] * N, None):
        with pytest.raises(InputError, match="values: got"):
            RemovalCurve.of(game, values)
    with pytest.raises(InputError, match="fractions: got list of dtype <U4"):
        RemovalCurve.of(game, VALUES, fractions=["half"])


@pytest.mark.parametrize(
    "column",
    [
        lambda x: pd.Series(list(x), index=range(5, 5 + len(x))),
        lambda x: pd.Series(x.tolist()),
        lambda x: np.array([None, *x], dtype=object)[1:],
        lambda x: pd.Series(list(torch.tensor(x).bfloat16())),
    ],
    ids=["arrays", "lists", "object array", "tensors"],
)
def test_a_column_may_hold_the_rows_of_the_features(column: Callable[[np.ndarray], Any]) -> None:
    features = torch.tensor(FEATURES).bfloat16().double().numpy()
    np.testing.assert_array_equal(
        knn_shapley(column(features), LABELS, column(features), LABELS),
        knn_shapley(features, LABELS, features, LABELS),
    )


@pytest.mark.parametrize("scale", [1e150, 1e-150])
@pytest.mark.parametrize("method", [knn_shapley, FrozenEncoderUtility, find_label_errors])
def test_features_whose_squares_overflow_or_vanish_are_refused(method: Callable[..., Any], scale: float) -> None:
    with pytest.raises(InputError, match=r"features: got numbers of up to .* Rescale the features\."):
        method(FEATURES * scale, LABELS, FEATURES * scale, LABELS)


def test_masked_features_are_missing() -> None:
    masked = np.ma.masked_array(FEATURES, mask=np.arange(N)[:, None] == [4, 4, 4])
    with pytest.raises(InputError, match="features: got NaN or infinity in 1 row, first in row 4"):
        find_label_errors(masked, LABELS)
    np.testing.assert_array_equal(
        find_label_errors(np.ma.masked_array(FEATURES), LABELS).scores, find_label_errors(FEATURES, LABELS).scores
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_text_label_errors(TEXTS), r"train: got list; .* LabelledTexts.of\(texts, labels\)"),
        (lambda: find_text_label_errors(SENTENCES, TEXTS), "validation: got list; expected LabelledTexts"),
        (lambda: rank_texts(SENTENCES, list(SENTENCES)), "validation: got list; expected LabelledTexts"),
        (lambda: rank_texts(TEXTS, SENTENCES), "train: got list; expected LabelledTexts"),
        (lambda: split_sentences(TEXTS, 3, 3), "sentences: got list; expected LabelledTexts"),
        (lambda: split_sentences(SENTENCES, 0.5, 0.5), "train_size: got 0.5; expected an integer"),
        (lambda: split_sentences(SENTENCES, 2, 2, seed=None), "seed: got None"),
        (lambda: SENTENCES.select([True, False, True, False]), r"indices: got True; .* numpy.flatnonzero\(mask\)"),
        (lambda: SENTENCES.select(np.array([True, False, True, False])), "indices: got True"),
        (lambda: SENTENCES.select([4]), "indices: got 4; expected integers below 4"),
        (lambda: LabelledTexts(["x", "y"], [0.0, 1.0], ["a", "b"]), "labels: got 0.0; expected indices of the classes"),
        (lambda: LabelledTexts(["x", "y"], [0, 2], ["a", "b"]), "labels: got 2; expected indices of the classes"),
        (lambda: LabelledTexts(["x", "y"], [0, 1], "ab"), "classes: got str; expected a sequence of strings"),
        (lambda: LabelledTexts.of(["x", "y"], [0, 1], rows=[1.5, 2]), "rows: got 1.5 at index 0; expected integers"),
        (lambda: LabelledTexts.of(pd.DataFrame({"t": ["x", "y"]}), [0, 1]), "texts: got DataFrame; expected n strings"),
    ],
    ids=range(15),
)
def test_wrong_sentences_are_refused(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        call()


def test_sentences_are_created_from_arrays_and_tensors() -> None:
    expected = LabelledTexts(("x", "y"), (1, 0), ("a", "b"), (5, 3))
    for labels, rows in ((np.array([1, 0]), np.array([5, 3])), (torch.tensor([1, 0]), torch.tensor([5, 3]))):
        found = LabelledTexts(np.array(["x", "y"]), labels, np.array(["a", "b"]), rows)
        assert found == expected
        assert {type(value) for column in (found.labels, found.rows) for value in column} == {int}
    assert SENTENCES.select(np.array([2, -1])).texts == ("a lovely story", "a bad story")


def test_validating_on_texts_of_the_training_set_warns() -> None:
    with pytest.warns(UserWarning, match="train and validation have 4 common texts"):
        rank_texts(SENTENCES, SENTENCES, permutations=2)


def test_blanks_after_a_delimiter_are_no_part_of_a_quoted_cell(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text, label\n"a, b", "x"\n"c", "y"\n')
    sentences = read_sentences(tmp_path / "a.csv")
    assert (sentences.texts, sentences.classes) == (("a, b", "c"), ("x", "y"))


def test_values_of_tables_and_tensors_are_equal() -> None:
    expected = DataShapley(FrozenEncoderUtility(FEATURES, LABELS, FEATURES, LABELS), stop=MaxPermutations(3)).fit()
    table = pd.DataFrame(FEATURES, index=range(50, 50 - N, -1)), pd.Series(LABELS, index=[1] * N, dtype="Int8")
    for features, labels in (table, (torch.tensor(FEATURES), torch.tensor(LABELS).to(torch.uint8))):
        found = DataShapley(FrozenEncoderUtility(features, labels, features, labels), stop=MaxPermutations(3)).fit()
        np.testing.assert_array_equal(found.result.values, expected.result.values)
