"""Examples that cannot be ranked: every method names the argument and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lightning_attnflow import DataShapley, find_label_errors
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import FrozenEncoderUtility, TrainingDynamics, knn_shapley


def data_shapley(*data: Any) -> np.ndarray:
    return DataShapley(FrozenEncoderUtility(*data), stop=MaxPermutations(2)).fit().result.values


def label_error_scores(*data: Any) -> np.ndarray:
    return find_label_errors(*data).scores


METHODS = pytest.mark.parametrize("method", [data_shapley, knn_shapley, label_error_scores])


def examples() -> list[np.ndarray]:
    """Features and labels for training and validation."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(20, 3)), np.arange(20) % 2, rng.normal(size=(6, 3)), np.arange(6) % 2]


@METHODS
@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda x: x[:0], r"features: got shape \(0, 3\)"),
        (
            0,
            lambda x: np.where(np.arange(20)[:, None] == 3, np.nan, x),
            "features: got NaN or infinity in 1 row.* row 3",
        ),
        (0, lambda x: x[:1], "labels: got shape"),
        (1, lambda y: 0 * y, "labels: got 20 of class 0 only"),
        (1, lambda y: np.where(y, 1.0, np.nan), "labels, index 0: got nan, and 9 more without a label"),
        (2, lambda x: np.where(x == x[0, 0], np.inf, x), "validation_features: got NaN or infinity in 1 row"),
        (3, lambda y: 0 * y, "validation_labels: got 6 of class 0 only"),
        (3, lambda y: 2 * y, "validation_labels: got 2; .* 0, 1"),
    ],
    ids=["none", "NaN", "lengths", "one class", "NaN label", "infinity", "validation of one class", "unknown class"],
)
def test_every_method_refuses(
    method: Callable[..., np.ndarray], position: int, change: Callable[[np.ndarray], np.ndarray], message: str
) -> None:
    data = examples()
    data[position] = change(data[position])
    with pytest.raises(InputError, match=message):
        method(*data)


@METHODS
def test_one_example_has_one_class(method: Callable[..., np.ndarray]) -> None:
    features, labels, *validation = examples()
    with pytest.raises(InputError, match="labels: got 1 of class 0 only; expected at least two classes"):
        method(features[:1], labels[:1], *validation)


@METHODS
def test_two_examples_have_values(method: Callable[..., np.ndarray]) -> None:
    features, labels, *validation = examples()
    assert np.isfinite(method(features[:2], labels[:2], *validation)).all()


def test_one_example_has_training_dynamics() -> None:
    dynamics = TrainingDynamics.of(margin=[[1.0], [-3.0]], labels=[0])
    assert dynamics.aum.tolist() == [-1.0]
    assert dynamics.forgetting_events.tolist() == [1.0]
    assert dynamics.label_errors().order.tolist() == [0]


def test_examples_without_any_epoch_are_ranked_last() -> None:
    dynamics = TrainingDynamics.of(margin=[[np.nan, 2.0, -1.0]] * 2, labels=[0, 1, 0])
    assert dynamics.label_errors().order.tolist() == [2, 1, 0]
    assert dynamics.suspicious_share == 0.5


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"margins": [[0.5]]}, "got the field 'margins'; expected fields of"),
        ({"loss": [["a", "b"]]}, r"loss: got list of dtype .*; expected \(epochs, n\)"),
        ({"loss": [[1.0]]}, "got .*'margin'.* of shapes"),
        ({"labels": [0, 0.5]}, "labels: got a number that is no integer"),
        ({"labels": [0]}, r"labels: got shape \(1,\); expected \(2,\), one for each example"),
        ({"keys": 5}, "keys: got int"),
        ({"keys": []}, r"keys: got shape \(0,\)"),
        ({"texts": ["a"]}, r"texts: got shape \(1,\)"),
        ({"classes": "ab"}, "classes: got str"),
    ],
)
def test_training_dynamics_of_invalid_fields_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainingDynamics.of(**{"margin": [[1.0, -3.0]]} | fields)
