"""KNN-Shapley: exact Data Shapley values of a nearest-neighbour classifier in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._checks import check_integer
from lightning_attnflow.shapley import FunctionGame
from lightning_attnflow.valuation.data import check_classification_data

FloatArray = NDArray[np.float64]

_BLOCK_DISTANCES = 2**22  # distances in memory at the same time: 32 MB


def knn_shapley(
    features: Any, labels: ArrayLike, validation_features: Any, validation_labels: ArrayLike, *, k: int = 5
) -> FloatArray:
    """Exact Shapley values of the training examples of a k-nearest-neighbour classifier.

    The value of a coalition S is the mean over the validation examples of ``1/k`` times the number of the
    ``min(k, |S|)`` nearest members of S (Euclidean distance; ties by index) with the correct label.

    Args:
        features: float (n, d).
        labels: n labels: strings, numbers or booleans.
        validation_features: float (m, d).
        validation_labels: m labels, of the classes of ``labels``.
        k: number of neighbours.

    Returns:
        float64 (n,).

    Raises:
        InputError: as in ``FrozenEncoderUtility``, or if k is not an integer >= 1.

    Source: Jia et al. (2019), Efficient task-specific data valuation for nearest neighbor algorithms, theorem 1,
    extended to k > n by efficiency.

    Example:
        >>> knn_shapley([[0.0], [1.0], [5.0]], [0, 0, 1], [[0.2], [4.0]], [0, 1], k=1).round(4).tolist()
        [0.25, 0.25, 0.5]
    """
    n, blocks = _sorted_matches(features, labels, validation_features, validation_labels)
    check_integer("k", k)
    # Recursion from the farthest to the nearest (theorem 1), positions i counted from 1:
    # s_n = match_n min(k, n) / (k n),  s_i = s_(i+1) + (match_i - match_(i+1)) min(k, i) / (k i)
    position = np.arange(1, n + 1)
    weight = np.minimum(k, position) / (k * position)  # (n,)
    values, n_validation = np.zeros(n), 0
    for nearest, match in blocks:
        steps = weight * match
        steps[:, :-1] -= weight[:-1] * match[:, 1:]
        by_position = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]  # (block, n)
        values += np.bincount(nearest.ravel(), weights=by_position.ravel(), minlength=n)
        n_validation += len(nearest)
    return values / n_validation


def knn_game(
    features: Any, labels: ArrayLike, validation_features: Any, validation_labels: ArrayLike, *, k: int = 5
) -> FunctionGame:
    """Return the game whose Shapley values :func:`knn_shapley` computes, for tests of estimators.

    Args:
        features, labels, validation_features, validation_labels, k: as for :func:`knn_shapley`.

    Example:
        >>> game = knn_game([[0.0], [1.0], [5.0]], [0, 0, 1], [[0.2], [4.0]], [0, 1], k=1)
        >>> game(np.array([[True, False, False], [True, True, True]])).tolist()
        [0.5, 1.0]
    """
    n, matches = _sorted_matches(features, labels, validation_features, validation_labels)
    check_integer("k", k)
    blocks = list(matches)

    def payoff(coalitions: NDArray[np.bool_]) -> FloatArray:
        total, count = np.zeros(len(coalitions)), 0
        for nearest, match in blocks:
            for row, matched in zip(nearest, match, strict=True):
                present = coalitions[:, row]  # (coalitions, n), nearest first
                neighbours = present & (np.cumsum(present, axis=1) <= k)
                total += neighbours @ matched / k
            count += len(nearest)
        return total / count

    return FunctionGame(payoff, n)


def _sorted_matches(
    features: Any, labels: ArrayLike, validation_features: Any, validation_labels: ArrayLike
) -> tuple[int, Iterator[tuple[NDArray[np.intp], FloatArray]]]:
    """Return n and, for blocks of validation examples, the training examples nearest first and whether labels match."""
    train, train_labels, validation, truth, _ = check_classification_data(
        features, labels, validation_features, validation_labels
    )
    centre = train.mean(axis=0)  # distances are computed from squares, which would lose digits under a large offset
    train, validation = train - centre, validation - centre
    rows = max(1, _BLOCK_DISTANCES // len(train))

    def blocks() -> Iterator[tuple[NDArray[np.intp], FloatArray]]:
        squares = (train**2).sum(axis=1)
        for start in range(0, len(validation), rows):
            distances = squares - 2 * validation[start : start + rows] @ train.T  # up to a constant in each row
            nearest = np.argsort(distances, axis=1, kind="stable")
            yield nearest, (train_labels[nearest] == truth[start : start + rows, None]).astype(np.float64)

    return len(train), blocks()
