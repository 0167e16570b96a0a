"""Validation and hashing of training data."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import real_array
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.labels import encode_labels

_LARGEST = 1e100  # absolute value of a feature


def check_features(name: str, features: Any) -> NDArray[np.float64]:
    """Return features, an array, tensor or table of real numbers, as finite float64 (n, d) with n > 0 and d > 0."""
    first = features[0] if isinstance(features, (list, tuple)) and features else None
    remedy = "Encode texts with encode_texts, or use find_text_label_errors or rank_texts."
    array = real_array(
        name, features, "numbers of shape (n, d)", booleans=False, remedy=remedy if isinstance(first, str) else None
    )
    array = np.require(array, np.float64, ["C", "W"])  # torch warns of read-only arrays
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(name, got=f"shape {array.shape}", expected="shape (n, d) with n > 0 and d > 0")
    invalid = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(invalid):
        raise InputError(
            name,
            got=f"NaN or infinity in {counted(len(invalid), 'row')}, first in row {invalid[0]}",
            expected="finite numbers",
        )
    largest = max(float(array.max()), -float(array.min()))
    if largest > _LARGEST or 0 < largest < 1 / _LARGEST:  # their squares overflow or vanish
        raise InputError(
            name,
            got=f"numbers of up to {largest:.3g} in absolute value",
            expected=f"a largest one between {1 / _LARGEST:g} and {_LARGEST:g}",
            remedy="Rescale the features.",
        )
    return array


def check_classification_data(
    features: Any, labels: Any, validation_features: Any, validation_labels: Any
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64], tuple[Any, ...]]:
    """Return features (n, d), labels (n,), validation features (m, d), validation labels (m,), and the classes.

    Labels are indices of the classes. Both sets have at least two of them.
    """
    train = check_features("features", features)
    given, classes = encode_labels("labels", labels, len(train))
    validation, truth = check_validation(validation_features, validation_labels, train.shape[1], classes)
    return train, given, validation, truth, classes


def check_validation(
    features: Any, labels: Any, n_features: int, classes: tuple[Any, ...]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return validation features (m, d) and indices of at least two of the classes (m,)."""
    validation = check_validation_features(features, n_features)
    return validation, check_validation_labels(labels, len(validation), classes)


def check_validation_features(features: Any, n_features: int) -> NDArray[np.float64]:
    """Return validation features (m, d) with as many columns as the training features."""
    validation = check_features("validation_features", features)
    if validation.shape[1] != n_features:
        raise InputError(
            "validation_features",
            got=counted(validation.shape[1], "feature"),
            expected=f"{n_features}, as in the training set",
            remedy="Encode both sets with the same model.",
        )
    return validation


def check_validation_labels(labels: Any, m: int, classes: tuple[Any, ...]) -> NDArray[np.int64]:
    """Return indices of at least two of the classes (m,)."""
    truth, _ = encode_labels("validation_labels", labels, m, classes=classes)
    if truth.min() == truth.max():
        raise InputError(
            "validation_labels",
            got=f"{len(truth)} of class {classes[truth[0]]!r} only",
            expected="at least two classes",
        )
    return truth


def fingerprint(value: Any) -> str:
    """SHA-256 of the content of a value; equal contents give equal hashes in every process.

    Args:
        value: tensors, arrays, numbers, strings, None, mappings, sequences, or an object with ``__len__`` and
            ``__getitem__``, which is read item by item; other objects are pickled.

    Example:
        >>> fingerprint([np.ones(2), "a"]) == fingerprint([np.ones(2), "a"])
        True
        >>> fingerprint(np.ones(2)) == fingerprint(np.ones((2, 1)))
        False
    """
    digest = hashlib.sha256()
    _update(digest, value)
    return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    digest.update(f"<{type(value).__qualname__}>".encode())
    torch = sys.modules.get("torch")  # if it is not imported, the value holds no tensors
    if torch is not None and isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().view(-1)
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    elif isinstance(value, np.ndarray) and value.dtype != object:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif value is None or isinstance(value, (str, bytes, bool, int, float)):
        digest.update(repr(value).encode())
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            _update(digest, key)
            _update(digest, value[key])
    elif hasattr(value, "__len__") and hasattr(value, "__getitem__"):
        digest.update(f"{len(value)}".encode())
        for index in range(len(value)):
            _update(digest, value[index])
    else:
        digest.update(pickle.dumps(value, protocol=4))


def function_name(function: Any) -> str:
    """Qualified name of a function or of the class of a callable object, for the configuration of a ledger."""
    owner = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(owner, '__module__', '?')}.{owner.__qualname__}"
