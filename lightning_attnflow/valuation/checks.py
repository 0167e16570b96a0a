"""Checks of what users pass to the utilities and estimators of this package."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._checks import is_integer
from lightning_attnflow.errors import InputError


def check_features(name: str, features: Any) -> NDArray[np.float64]:
    """``features`` as finite float64 (n, d), n > 0 and d > 0; torch tensors are taken too."""
    if hasattr(features, "detach"):
        features = features.detach().cpu().numpy()
    try:
        array = np.ascontiguousarray(features, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(name, got=f"{error}", expected="numbers (n, d)", remedy="Pass one row a sentence.") from error
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            name, got=f"shape {array.shape}", expected="(n, d), neither 0", remedy="Pass one row a sentence."
        )
    broken = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(broken):
        raise InputError(
            name,
            got=f"NaN or infinity in {len(broken)} rows, first in row {broken[0]}",
            expected="finite numbers",
            remedy="Remove these rows or mend the encoder.",
        )
    return array


def check_labels(name: str, labels: ArrayLike | Any, length: int) -> NDArray[np.int64]:
    """``labels`` as int64 (length,), classes 0, 1, ..., at least two of them."""
    if hasattr(labels, "detach"):
        labels = labels.detach().cpu().numpy()
    array = np.asarray(labels)
    if array.shape != (length,):
        raise InputError(
            name,
            got=f"shape {array.shape}",
            expected=f"({length},), one label a row of the features",
            remedy="Align features and labels.",
        )
    whole = array.astype(np.int64) if array.dtype.kind in "biuf" and np.isfinite(array).all() else None
    if whole is None or (whole != array).any() or whole.min() < 0:
        raise InputError(
            name, got=f"{array.dtype} {array[:5]}", expected="integers 0, 1, ...", remedy="Number the classes from 0."
        )
    if whole.min() == whole.max():
        raise InputError(
            name,
            got=f"{length} sentences of class {whole[0]} only",
            expected="at least two classes",
            remedy="Add sentences of another class; without them there is nothing to learn or to score.",
        )
    return whole


def positive_integer(name: str, value: object) -> int:
    """``value`` if it is an integer >= 1."""
    if not is_integer(value) or value < 1:
        raise InputError(name, got=repr(value), expected="an integer >= 1", remedy=f"Pass {name}=10.")
    return int(value)


def positive_number(name: str, value: object) -> float:
    """``value`` if it is a finite number > 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 < float(value) < math.inf:
        raise InputError(name, got=repr(value), expected="a number > 0", remedy=f"Pass {name}=1.0.")
    return float(value)
