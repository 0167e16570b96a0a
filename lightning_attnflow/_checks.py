"""Argument checks shared by all subpackages."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set, Sized
from os import PathLike
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError


def is_integer(value: object) -> TypeGuard[int]:
    """Whether ``value`` is a Python or NumPy integer (bool excluded)."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether ``value`` is a finite real Python or NumPy number (bool excluded)."""
    is_real = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return is_real and math.isfinite(value)  # type: ignore[arg-type]


def check_integer(
    name: str, value: object, *, minimum: int = 1, maximum: int | None = None, remedy: str | None = None
) -> int:
    """Return an integer in ``[minimum, maximum]``.

    Example:
        >>> check_integer("batch_size", 2.5)
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: batch_size: got 2.5; expected an integer >= 1.
    """
    if not is_integer(value) or value < minimum or (maximum is not None and value > maximum):
        expected = f"an integer >= {minimum}" if maximum is None else f"an integer in {minimum}..{maximum}"
        raise InputError(name, got=repr(value), expected=expected, remedy=remedy)
    return int(value)


def check_seed(seed: object) -> int:
    """Return the seed as an integer >= 0."""
    return check_integer("seed", seed, minimum=0)


def check_number(name: str, value: object) -> float:
    """Return a finite number as float."""
    if not is_number(value):
        raise InputError(name, got=repr(value), expected="a finite number")
    return float(value)


def check_positive(name: str, value: object, *, remedy: str | None = None) -> float:
    """Return a finite number > 0."""
    if not is_number(value) or value <= 0:
        raise InputError(name, got=repr(value), expected="a number > 0", remedy=remedy)
    return float(value)


def check_nonnegative(name: str, value: object, *, remedy: str | None = None) -> float:
    """Return a finite number >= 0."""
    if not is_number(value) or value < 0:
        raise InputError(name, got=repr(value), expected="a number >= 0", remedy=remedy)
    return float(value)


def check_confidence(confidence: object) -> float:
    """Return a confidence level strictly between 0 and 1."""
    if not is_number(confidence) or not 0 < confidence < 1:
        raise InputError("confidence", got=repr(confidence), expected="a number between 0 and 1")
    return float(confidence)


def check_bool(name: str, value: object) -> bool:
    """Return a Python or NumPy bool as bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(name, got=repr(value), expected="True or False")
    return bool(value)


def check_residual(residual: object) -> float:
    """Return the share of the residual stream in attention, in [0, 1)."""
    if not is_number(residual) or not 0.0 <= residual < 1.0:
        raise InputError("residual", got=repr(residual), expected="a share in [0, 1)")
    return float(residual)


def check_items(name: str, values: object, expected: str) -> list[Any]:
    """Return the items of a sequence, array, column or tensor as a list; scalars of libraries become Python objects.

    A string is no sequence here, nor is a set, which has no order, or a table, whose items are its columns.
    """
    try:
        if isinstance(values, (str, bytes, Mapping, Set)) or hasattr(values, "columns"):
            raise TypeError
        return [to_python(value) for value in values]  # type: ignore[attr-defined]
    except TypeError:  # also of an array without dimensions
        raise InputError(name, got=type(values).__name__, expected=expected) from None


def to_python(value: Any) -> Any:
    """Return a scalar of NumPy, torch or pyarrow as a Python object; other objects as they are."""
    if isinstance(value, np.generic) or getattr(value, "ndim", None) == 0:
        return value.item()
    return value.as_py() if hasattr(value, "as_py") else value


def real_array(
    name: str, values: Any, expected: str, *, booleans: bool = True, remedy: str | None = None
) -> NDArray[Any]:
    """Return real numbers as an array of at least one dimension; missing values of pandas columns are NaN.

    Types that NumPy lacks, such as bfloat16, become float64.

    Args:
        name: name of the argument.
        values: an array, a tensor, a table of pandas or polars, or a nested sequence of numbers or tensors.
        expected: what is accepted.
        booleans: accept booleans, as 0 and 1.
        remedy: for values that are no array of numbers.

    Example:
        >>> import torch
        >>> real_array("features", torch.tensor([0.5], dtype=torch.bfloat16), "numbers")
        array([0.5])
        >>> real_array("features", [1j], "numbers")
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: features: got list of dtype complex128; expected numbers.
    """
    kinds = "biuf" if booleans else "iuf"
    try:
        array = _as_array(values, kinds)
    except (TypeError, ValueError) as error:  # rows of different lengths
        raise InputError(name, got=f"{type(values).__name__} ({error})", expected=expected, remedy=remedy) from None
    if array.ndim == 0 or (array.dtype.kind not in kinds and array.size):
        if hasattr(values, "toarray"):
            remedy = f"Pass {name}.toarray()."
        elif remedy is None and array.dtype.kind in "bO":
            remedy = "Convert it to numbers, as by numpy.asarray(..., dtype=float)."
        raise InputError(name, got=f"{type(values).__name__} of dtype {array.dtype}", expected=expected, remedy=remedy)
    return array


def _as_array(values: Any, kinds: str) -> NDArray[Any]:
    """Return an array of tensors, nullable columns, columns of rows and whatever NumPy reads."""
    if hasattr(values, "detach"):
        tensor = values.detach().cpu()
        tensor = tensor.to_dense() if "sparse" in str(tensor.layout) else tensor
        return np.asarray(tensor.double() if tensor.is_floating_point() else tensor)
    if isinstance(values, (list, tuple)) and any(hasattr(row, "detach") for row in values):
        return np.asarray([_as_array(row, kinds) for row in values])
    dtypes = getattr(values, "dtypes", None)  # a column of pandas has one, a table one for each column
    if dtypes is not None and hasattr(values, "to_numpy") and hasattr(values, "isna"):
        dtypes = list(dtypes) if values.ndim == 2 else [dtypes]
        if all(dtype.kind in kinds for dtype in dtypes):
            table: NDArray[Any] = values.to_numpy(dtype=np.float64, na_value=np.nan)
            return table
    if isinstance(values, np.ma.MaskedArray) and values.dtype.kind in "iuf":
        return np.where(np.ma.getmaskarray(values), np.nan, values.data)
    array = np.asarray(values)
    if array.dtype == object and array.ndim == 1 and all(isinstance(row, Sized) for row in array):
        return np.asarray([_as_array(row, kinds) for row in array])  # a column whose cells are rows
    return array


def check_numbers(name: str, values: object, expected: str) -> NDArray[np.float64]:
    """Return real numbers as a new float64 array of at least one dimension."""
    return real_array(name, values, expected).astype(np.float64)


def check_path(name: str, path: object) -> Path:
    """Return a path given as a string or path object."""
    if not isinstance(path, (str, PathLike)):
        raise InputError(name, got=type(path).__name__, expected="a path")
    try:
        return Path(path)
    except TypeError:  # of bytes
        raise InputError(name, got=repr(path), expected="a path") from None


def check_string(name: str, value: object) -> str:
    """Return a string, valid Unicode or not."""
    if not isinstance(value, str):
        raise InputError(name, got=type(value).__name__, expected="a string")
    return value


def check_text(name: str, text: object) -> str:
    """Return a string that can be encoded in UTF-8, which half a surrogate pair cannot.

    Example:
        >>> check_text("text", "caf\\ud800")
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: text: got the lone surrogate '\\ud800' at character 3; expected valid \
Unicode. Repair it: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').
    """
    text = check_string(name, text)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            name,
            got=f"the lone surrogate {text[error.start]!r} at character {error.start}",
            expected="valid Unicode",
            remedy="Repair it: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace').",
        ) from None
    return text


def check_texts(name: str, texts: object, n: int) -> list[str]:
    """Return n strings that can be encoded in UTF-8.

    Example:
        >>> check_texts("texts", ["a film", None], 2)
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: texts[1]: got NoneType; expected a string.
    """
    return [check_text(f"{name}[{index}]", text) for index, text in enumerate(_n_items(name, texts, n))]


def check_rows(rows: object, n: int) -> list[int]:
    """Return n row numbers, which are integers."""
    found = _n_items("rows", rows, n)
    wrong = next((index for index, row in enumerate(found) if not is_integer(row)), None)
    if wrong is not None:
        raise InputError("rows", got=f"{found[wrong]!r} at index {wrong}", expected="integers")
    return found


def check_ids(ids: object, n: int) -> list[Any]:
    """Return n different identifiers."""
    seen: set[Any] = set()
    found = _n_items("ids", ids, n)
    for index, value in enumerate(found):
        if not isinstance(value, Hashable):
            raise InputError("ids", got=f"{value!r} at index {index}", expected="strings or numbers")
        if value in seen:
            raise InputError("ids", got=f"{value!r} more than once", expected="a different id for each example")
        seen.add(value)
    return found


def _n_items(name: str, values: object, n: int) -> list[Any]:
    items = check_items(name, values, "a sequence with one item for each example")
    if len(items) != n:
        raise InputError(name, got=len(items), expected=f"{n}, one for each example")
    return items


def check_instance(name: str, value: object, *kinds: type, remedy: str | None = None) -> None:
    """Raise unless ``value`` is an instance of one of the classes.

    Example:
        >>> check_instance("flow", 3, dict, list, remedy="dict() makes one.")
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: flow: got int; expected a dict or list. dict() makes one.
    """
    if not isinstance(value, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        article = "an" if names[0] in "AEIOU" else "a"
        raise InputError(name, got=type(value).__name__, expected=f"{article} {names}", remedy=remedy)


def check_unicode(name: str, values: Iterable[object]) -> None:
    """Raise unless all strings among the values can be encoded in UTF-8; other values are allowed."""
    for place, value in enumerate(values):
        if isinstance(value, str):
            check_text(f"{name}[{place}]", value)


def check_choice(name: str, value: object, choices: Sequence[str], *, or_index: str | None = None) -> None:
    """Raise unless ``value`` is one of ``choices`` or, if ``or_index`` describes what an index means, an integer >= 0.

    Example:
        >>> check_choice("heads", 3, ("mean", "max"), or_index="the index of a head")
        >>> check_choice("heads", "median", ("mean", "max"), or_index="the index of a head")
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: heads: got 'median'; expected 'mean', 'max' or the index of a head.
    """
    if or_index is not None and is_integer(value) and value >= 0:
        return
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(map(repr, choices))
        raise InputError(name, got=repr(value), expected=names if or_index is None else f"{names} or {or_index}")
