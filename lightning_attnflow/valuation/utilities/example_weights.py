"""Weights of training examples: those of the user, and balanced classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._checks import check_numbers
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.labels import clean_labels


def sample_weights(sample_weight: ArrayLike | None, n: int) -> NDArray[np.float64]:
    """Return positive, finite weights of n examples, float64 (n,); None: 1."""
    return np.ones(n) if sample_weight is None else _positive("sample_weight", sample_weight, n)


def class_weights(
    class_weight: str | Mapping[Any, float] | None, labels: NDArray[np.int64], classes: Sequence[Any]
) -> NDArray[np.float64]:
    """Return the weight of the class of each example, float64 (n,).

    Args:
        class_weight: "balanced", weights by class, or None.
        labels: int64 (n,), indices of the classes.
        classes: the classes.

    Raises:
        InputError: weights are not positive and finite, or a class has no weight.

    Example:
        >>> class_weights("balanced", np.array([0, 0, 0, 1]), ("neg", "pos")).round(3).tolist()
        [0.667, 0.667, 0.667, 2.0]
    """
    n, n_classes = len(labels), len(classes)
    if class_weight is None:
        return np.ones(n)
    if isinstance(class_weight, Mapping):
        keys = clean_labels("class_weight", list(class_weight))
        if sorted(map(repr, keys)) != sorted(map(repr, classes)):
            got = f"weights of {list(class_weight)}"
            raise InputError("class_weight", got=got, expected=f"one for each of the classes {list(classes)}")
        weights = dict(zip(keys, class_weight.values(), strict=True))
        by_class = _positive("class_weight", [weights[value] for value in classes], n_classes)
    elif class_weight == "balanced":
        by_class = n / (n_classes * np.bincount(labels, minlength=n_classes))
    else:
        raise InputError("class_weight", got=repr(class_weight), expected="'balanced', a dictionary or None")
    return by_class[labels]


def _positive(name: str, values: ArrayLike, length: int) -> NDArray[np.float64]:
    array = check_numbers(name, values, "positive numbers")
    if array.shape != (length,):
        raise InputError(name, got=f"shape {array.shape}", expected=f"shape ({length},)")
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise InputError(name, got=f"a smallest value of {array.min()}", expected="positive, finite numbers")
    return array
