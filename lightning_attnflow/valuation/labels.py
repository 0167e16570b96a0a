"""Class labels of any kind as integers 0, 1, ..."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_items
from lightning_attnflow.errors import InputError


def encode_labels(
    name: str, labels: Any, length: int, *, classes: Sequence[Hashable] | None = None
) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Return the class indices, int64 (length,), and the sorted classes; or the indices in the given ``classes``.

    Raises:
        InputError: a wrong number of labels, a missing, unhashable or fractional label, fewer than two classes, or a
            label that is none of ``classes``.

    Example:
        >>> encode_labels("labels", ["pos", "neg", "pos"], 3)
        (array([1, 0, 1]), ('neg', 'pos'))
    """
    if hasattr(labels, "detach"):
        labels = labels.detach().cpu().numpy()
    shape = getattr(labels, "shape", None)
    if shape is not None and tuple(shape) != (length,):
        raise InputError(
            name,
            got=f"shape {tuple(shape)}",
            expected=f"shape ({length},), one label for each row of the features",
            remedy="For multi-label data, use FrozenEncoderUtility with task='multilabel'."
            if len(shape) == 2
            else None,
        )
    values = labels.tolist() if hasattr(labels, "tolist") else check_items(name, labels, "n labels")
    if len(values) != length:
        raise InputError(name, got=len(values), expected=f"{length}, one label for each row of the features")
    invalid = [index for index, value in enumerate(values) if _is_missing(value)]
    if invalid:
        raise InputError(
            name,
            got=f"{len(invalid)} missing or of type list, dict or set; first at index {invalid[0]}: "
            f"{values[invalid[0]]!r}",
            expected="strings or numbers",
        )
    fractions = [value for value in values if isinstance(value, float) and not value.is_integer()]
    if fractions:
        raise InputError(
            name,
            got=f"{fractions[0]!r}",
            expected="strings, integers or booleans",
            remedy="For a regression, use FrozenEncoderUtility with task='regression'.",
        )
    if classes is None:
        distinct = set(values)
        try:
            classes = sorted(distinct)
        except TypeError:  # strings and numbers are mixed
            classes = sorted(distinct, key=lambda value: (type(value).__name__, value))
        shown: dict[str, Any] = {}
        for value in classes:
            if shown.setdefault(str(value), value) != value:
                raise InputError(
                    name,
                    got=f"both {shown[str(value)]!r} and {value!r}",
                    expected="labels of one type",
                    remedy="Convert them, as in [str(label) for label in labels].",
                )
        if len(classes) < 2:
            raise InputError(name, got=f"{length} of class {classes[0]!r} only", expected="at least two classes")
    index = {value: place for place, value in enumerate(classes)}
    unknown = [value for value in dict.fromkeys(values) if value not in index]
    if unknown:
        raise InputError(
            name, got=f"{unknown[0]!r}", expected=f"one of the classes {shown_classes(classes)} of the labels"
        )
    return np.array([index[value] for value in values], dtype=np.int64), tuple(classes)


def _is_missing(value: object) -> bool:
    """Whether a label is None, NaN, pandas.NA or not hashable."""
    if value is None or not isinstance(value, Hashable) or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, float) and value != value


def shown_classes(classes: Sequence[Any]) -> str:
    """The first ten classes, for error messages."""
    return ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")
