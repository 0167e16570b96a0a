"""KNN-Shapley: exact Data Shapley of a nearest-neighbour classifier, in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import FunctionGame
from lightning_attnflow.valuation.checks import check_features, check_labels, positive_integer

FloatArray = NDArray[np.float64]

_BLOCK_DISTANCES = 2**22  # distances held at once: 32 MB


def knn_shapley(
    features: Any, labels: ArrayLike, validation_features: Any, validation_labels: ArrayLike, *, k: int = 5
) -> FloatArray:
    """Exact Shapley values of the training examples for a k-nearest-neighbour classifier.

    The payoff of a coalition S is the mean over the validation examples of ``1/k`` times the number of the
    ``min(k, |S|)`` nearest members of S (Euclidean; of equal distances the lower index) that have the right label.

    Args:
        features: float (n, d).
        labels: int (n,).
        validation_features: float (m, d).
        validation_labels: int (m,).
        k: number of neighbours.

    Returns:
        float64 (n,).

    Raises:
        InputError: as for ``FrozenEncoderUtility``, or if k is not an integer >= 1.

    Source: Jia et al. (2019), Efficient task-specific data valuation for nearest neighbor algorithms, theorem 1. The
    values for k > n follow from the payoff above, as they add up to v(N).

    Example:
        >>> knn_shapley([[0.0], [1.0], [5.0]], [0, 0, 1], [[0.2], [4.0]], [0, 1], k=1).round(4).tolist()
        [0.25, 0.25, 0.5]
    """
    n, matches = _sorted_matches(features, labels, validation_features, validation_labels)
    positive_integer("k", k)
    # From far to near (theorem 1): s_n = match_n min(k, n) / (k n),
    # s_i = s_(i+1) + (match_i - match_(i+1)) min(k, i) / (k i), places i counted from 1.
    place = np.arange(1, n + 1)
    weight = np.minimum(k, place) / (k * place)  # (n,)
    values, n_validation = np.zeros(n), 0
    for order, match in matches:
        steps = weight * match
        steps[:, :-1] -= weight[:-1] * match[:, 1:]
        by_place = np.cumsum(steps[:, ::-1], axis=1)[:, ::-1]  # (block, n)
        values += np.bincount(order.ravel(), weights=by_place.ravel(), minlength=n)
        n_validation += len(order)
    return values / n_validation


def knn_game(
    features: Any, labels: ArrayLike, validation_features: Any, validation_labels: ArrayLike, *, k: int = 5
) -> FunctionGame:
    """The game whose Shapley values :func:`knn_shapley` gives, to test estimators on; the arguments are the same.

    Example:
        >>> game = knn_game([[0.0], [1.0], [5.0]], [0, 0, 1], [[0.2], [4.0]], [0, 1], k=1)
        >>> game(np.array([[True, False, False], [True, True, True]])).tolist()
        [0.5, 1.0]
    """
    n, matches = _sorted_matches(features, labels, validation_features, validation_labels)
    positive_integer("k", k)
    blocks = list(matches)

    def payoff(coalitions: NDArray[np.bool_]) -> FloatArray:
        total, count = np.zeros(len(coalitions)), 0
        for order, match in blocks:
            for row, matched in zip(order, match, strict=True):
                there = coalitions[:, row]  # (coalitions, n) from near to far
                near = there & (np.cumsum(there, axis=1) <= k)
                total += near @ matched / k
            count += len(order)
        return total / count

    return FunctionGame(payoff, n)


def _sorted_matches(
    features: Any, labels: ArrayLike, validation_features: Any, validation_labels: ArrayLike
) -> tuple[int, Iterator[tuple[NDArray[np.intp], FloatArray]]]:
    """n, and for blocks of validation examples the training examples from near to far and whether labels agree."""
    train, held_out = check_features("features", features), check_features("validation_features", validation_features)
    if train.shape[1] != held_out.shape[1]:
        raise InputError(
            "validation_features",
            got=f"{held_out.shape[1]} features",
            expected=f"{train.shape[1]}, as in training",
            remedy="Encode both sets with one model.",
        )
    own = check_labels("labels", labels, len(train))
    truth = check_labels("validation_labels", validation_labels, len(held_out))
    rows = max(1, _BLOCK_DISTANCES // len(train))

    def blocks() -> Iterator[tuple[NDArray[np.intp], FloatArray]]:
        squares = (train**2).sum(axis=1)
        for start in range(0, len(held_out), rows):
            distances = squares - 2 * held_out[start : start + rows] @ train.T  # up to a constant a row
            order = np.argsort(distances, axis=1, kind="stable")
            yield order, (own[order] == truth[start : start + rows, None]).astype(np.float64)

    return len(train), blocks()
