"""KNN-Shapley against exact Shapley values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import exact_shapley, leave_one_out
from lightning_attnflow.valuation import knn_game, knn_shapley


@settings(max_examples=40, deadline=None)
@given(n=st.integers(2, 9), k=st.integers(1, 12), classes=st.integers(2, 3), seed=st.integers(0, 1000))
def test_knn_shapley_equals_the_exact_shapley_values(n: int, k: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, rng.integers(classes, size=n - 2)]
    # With small integers many distances are equal; ties must be broken consistently.
    data = (
        rng.integers(3, size=(n, 2)),
        labels,
        rng.integers(3, size=(4, 2)),
        np.r_[0, 1, rng.choice(labels, size=2)],
    )
    np.testing.assert_allclose(knn_shapley(*data, k=k), exact_shapley(knn_game(*data, k=k)).values, atol=1e-12)


def test_knn_shapley_is_efficient() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(700, 5)), np.arange(700) % 3, rng.normal(size=(40, 5)), np.arange(40) % 3
    game = knn_game(*data)
    full, empty = game(np.array([[True] * 700, [False] * 700]))
    assert knn_shapley(*data).sum() == pytest.approx(full - empty)


def test_a_common_offset_of_the_features_does_not_change_the_values() -> None:
    rng = np.random.default_rng(0)
    features, labels = rng.integers(-64, 64, size=(60, 5)) / 8, rng.integers(2, size=60)  # exact in float64 at 1e9
    expected = knn_shapley(features[:40], labels[:40], features[40:], labels[40:])
    moved = features + 1e9
    np.testing.assert_allclose(knn_shapley(moved[:40], labels[:40], moved[40:], labels[40:]), expected, atol=1e-12)


def test_invalid_arguments_raise_input_errors() -> None:
    good = ([[0.0], [1.0]], [0, 1], [[0.0], [1.0]], [0, 1])
    for function in (knn_shapley, knn_game):
        with pytest.raises(InputError, match="k: got 0"):
            function(*good, k=0)
    with pytest.raises(InputError, match="got 1 feature; expected 2"):
        knn_shapley([[0.0, 0.0], [1.0, 1.0]], *good[1:])
    with pytest.raises(InputError, match="n > 0 and d > 0"):
        knn_shapley([], [], *good[2:])


def test_leave_one_out_differs_from_the_shapley_value() -> None:
    data = ([[0.0], [0.1], [5.0]], [0, 0, 1], [[0.2], [4.0]], [0, 1])
    assert leave_one_out(knn_game(*data, k=1)).tolist() == [0.0, 0.0, 0.5]
    assert knn_shapley(*data, k=1)[0] > 0
