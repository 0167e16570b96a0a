"""Class labels of any kind: one rule for what a label is, and labels as integers 0, 1, ..."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_items, check_text
from lightning_attnflow.errors import InputError

_MISSING = ("nan", "<na>")  # how pandas writes a missing value as text
_OUTER_SPACE = re.compile(r"^[\s\u200b\ufeff]+|[\s\u200b\ufeff]+$")  # with zero-width spaces and byte order marks
_WHOLE_NUMBER = re.compile(r"([+-]?\d+)\.0+")

Place = Callable[[int], str]  # name of a label by its index, for error messages


def clean_labels(name: str, labels: Any, place: Place | None = None) -> list[Any]:
    """Return n labels as Python strings, integers, floats or booleans.

    Strings are normalised (NFC) and stripped of surrounding white space; whole floats become integers.

    Raises:
        InputError: a label is blank, None, NaN, infinite, a string that stands for a missing value, or of another
            type; or booleans and numbers are mixed.

    Example:
        >>> clean_labels("labels", ["pos ", 2.0, "\\ufeffpos"])
        ['pos', 2, 'pos']
        >>> clean_labels("labels", ["pos", "nan"])
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: labels, index 1: got 'nan'; expected a label. Label this row, or drop it.
    """
    shape = getattr(labels, "shape", (0,))
    if len(shape) > 1:
        raise InputError(name, got=f"shape {tuple(shape)}", expected="shape (n,), one label for each example")
    place = place or (lambda index: f"{name}, index {index}")
    has_list = hasattr(labels, "tolist") and len(shape) == 1  # faster for tensors
    given = check_items(name, labels.tolist() if has_list else labels, "n labels")
    cleaned = [_cleaned(label) for label in given]
    refused = [index for index, label in enumerate(cleaned) if label is None]
    if refused:
        first, more = given[refused[0]], len(refused) - 1
        is_missing = isinstance(first, str | float) or first is None or type(first).__name__ in ("NAType", "NaTType")
        raise InputError(
            place(refused[0]),
            got=repr(first) + (f", and {more} more without a label" if more and is_missing else ""),
            expected="a label" if is_missing else "a label that is a string, a number or a boolean",
            remedy="Label this row, or drop it." if is_missing else None,
        )
    for label in dict.fromkeys(cleaned):
        if isinstance(label, str) and not label.isascii():
            check_text(place(cleaned.index(label)), label)
    _check_one_type(cleaned, place)
    return cleaned


def label_names(name: str, labels: Any, place: Place | None = None) -> tuple[list[str], tuple[str, ...]]:
    """Return n labels as text, with "1.0" as "1" where both occur, and notes about what was merged.

    Example:
        >>> label_names("labels", [1, 0, "1.0"])
        (['1', '0', '1'], ('labels 1.0 read as 1',))
    """
    names = [str(label) for label in clean_labels(name, labels, place)]
    whole = _whole_numbers(names)
    notes = (f"labels {', '.join(whole)} read as {', '.join(whole.values())}",) if whole else ()
    return [whole.get(label, label) for label in names], notes


def encode_labels(
    name: str, labels: Any, length: int, *, classes: Sequence[Any] | None = None
) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Return the class indices, int64 (length,), and the sorted classes; or the indices in the given ``classes``.

    Raises:
        InputError: a wrong number of labels, a label that ``clean_labels`` refuses or that is a fraction, fewer than
            two classes, or a label that is none of ``classes``.

    Example:
        >>> encode_labels("labels", ["pos", "neg", "pos"], 3)
        (array([1, 0, 1]), ('neg', 'pos'))
    """
    shape = getattr(labels, "shape", None)
    if shape is not None and tuple(shape) != (length,):
        raise InputError(
            name,
            got=f"shape {tuple(shape)}",
            expected=f"shape ({length},), one label for each row of the features",
            remedy="For multi-label data, use FrozenEncoderUtility with task='multilabel'."
            if len(shape) == 2 and shape[1] > 1
            else None,
        )
    values = clean_labels(name, labels)
    if len(values) != length:
        raise InputError(name, got=len(values), expected=f"{length}, one label for each row of the features")
    fractions = [value for value in values if isinstance(value, float)]
    if fractions:
        raise InputError(
            name,
            got=f"{fractions[0]!r}",
            expected="strings, integers or booleans",
            remedy="For a regression, use FrozenEncoderUtility with task='regression'.",
        )
    whole = _whole_numbers(value for value in (*values, *(classes or ())) if isinstance(value, str))
    values = [whole.get(value, value) for value in values]
    classes = _sorted_classes(name, values) if classes is None else classes
    index = {value: place for place, value in enumerate(classes)}
    unknown = [value for value in dict.fromkeys(values) if value not in index]
    if unknown:
        raise InputError(
            name, got=f"{unknown[0]!r}", expected=f"one of the classes {shown_classes(classes)} of the labels"
        )
    return np.array([index[value] for value in values], dtype=np.int64), tuple(classes)


def shown_classes(classes: Sequence[Any]) -> str:
    """The first ten classes, for error messages."""
    return ", ".join(map(repr, classes[:10])) + (", ..." if len(classes) > 10 else "")


def _cleaned(label: object) -> str | int | float | None:
    """Return a label as ``clean_labels`` does; None for what is no label."""
    if isinstance(label, str):
        text = _OUTER_SPACE.sub("", str.__str__(label))
        text = text if text.isascii() else unicodedata.normalize("NFC", text)
        return None if not text or text.lower() in _MISSING else text
    if isinstance(label, bool):
        return label
    if isinstance(label, int):
        return int(label)  # of an IntEnum
    if not isinstance(label, float) or not math.isfinite(label):
        return None
    return int(label) if label.is_integer() else label


def _check_one_type(labels: list[Any], place: Place) -> None:
    """Raise if booleans and numbers are mixed, of which True and 1 would be one class."""
    booleans = [index for index, label in enumerate(labels) if isinstance(label, bool)]
    numbers = [index for index, label in enumerate(labels) if type(label) in (int, float)]
    if booleans and numbers:
        earlier, later = sorted((booleans[0], numbers[0]))
        raise InputError(
            place(later),
            got=f"{labels[later]!r}, after {labels[earlier]!r}",
            expected="either booleans or numbers",
            remedy="Convert them, as in [int(label) for label in labels].",
        )


def _whole_numbers(labels: Iterable[str]) -> dict[str, str]:
    """Return {"1.0": "1"} where both are among the labels, sorted."""
    found = set(labels)
    matches = {label: _WHOLE_NUMBER.fullmatch(label) for label in sorted(found)}
    return {label: match[1] for label, match in matches.items() if match and match[1] in found}


def _sorted_classes(name: str, values: list[Any]) -> list[Any]:
    """Return the sorted classes; raise if there is one only, or if two look the same."""
    classes = sorted(set(values), key=lambda value: (isinstance(value, str), value))
    numbers = {str(value): value for value in classes if not isinstance(value, str)}
    same = next((value for value in classes if isinstance(value, str) and value in numbers), None)
    if same is not None:
        raise InputError(
            name,
            got=f"both {numbers[same]!r} and {same!r}",
            expected="labels of one type",
            remedy="Convert them, as in [str(label) for label in labels].",
        )
    if len(classes) < 2:
        raise InputError(name, got=f"{len(values)} of class {classes[0]!r} only", expected="at least two classes")
    return classes
