"""Check of records, which come from files and event files that may be damaged or written by other programs."""

from __future__ import annotations

import base64
import binascii
import math
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer.packing import unpack

Test = Callable[[Any], bool]
_ITEM_BYTES = {"f4": 4, "f2": 2, "u2": 2, "u1": 1}


def check_record(record: Mapping[str, Any], source: str) -> None:
    """Raise unless a record has every entry that the page and the verdicts use; unknown entries are allowed.

    Args:
        record: of a step or a sentence.
        source: file and line, for the error.

    Raises:
        InputError: an entry is missing or has another type, or arrays do not fit the words.

    Example:
        >>> check_record({"type": "step", "step": 5}, "run.jsonl, line 1")
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: run.jsonl, line 1: got no 'epoch'; expected the record of a step.
    """
    kind = record.get("type")
    if kind not in ("step", "sentence"):
        raise InputError(source, got=f"a record of type {reprlib.repr(kind)}", expected="'step' or 'sentence'")
    required, optional = (_STEP, {}) if kind == "step" else (_SENTENCE, _OF_SENTENCE)
    whole = f"the record of a {kind}"
    _check_entries(record, {"step": _is_count, **required}, optional, source, whole)
    if kind == "sentence":
        n = len(record["words"])
        if len(record["special"]) != n:
            raise InputError(source, got=f"{len(record['special'])} flags 'special'", expected=f"{n}, one per word")
        for name, flow in record["flows"].items():
            _check_flow(flow, n, source, f"the flow {name!r} of {n} words")


def _check_entries(
    entries: Mapping[str, Any], required: Mapping[str, Test], optional: Mapping[str, Test], source: str, whole: str
) -> None:
    for name, test in (required | optional).items():  # type: ignore[operator]
        if name not in entries and name in required:
            raise InputError(source, got=f"no {name!r}", expected=whole)
        if name in entries and not test(entries[name]):
            raise InputError(source, got=f"{name!r}: {reprlib.repr(entries[name])}", expected=whole)


def _check_flow(flow: Any, n: int, source: str, whole: str) -> None:
    if not isinstance(flow, dict):
        raise InputError(source, got=reprlib.repr(flow), expected=whole)
    _check_entries(flow, _FLOW, _OF_FLOW, source, whole)
    rows = len(flow["layers"])
    fits = {
        **{name: _has_shape(flow[name], rows, n) for name in ("values", "lower", "upper") if name in flow},
        **{name: len(flow[name]) == rows for name in ("error", "saturation") if name in flow},
        **({"edges": _edges_fit(flow["edges"], n)} if "edges" in flow else {}),
        **({"heads": _heads_fit(flow["heads"], n)} if "heads" in flow else {}),
    }
    wrong = [name for name, fit in fits.items() if not fit]
    if wrong:
        raise InputError(source, got=f"{wrong[0]!r} of other sizes", expected=whole)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_integer(value) and 0 <= value < 2**53  # the largest integer that JavaScript has exactly


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, float) or _is_integer(value)
    return is_number and abs(value) < 1e308 and math.isfinite(value)


def _or_none(test: Test) -> Test:
    return lambda value: value is None or test(value)


def _list_of(test: Test) -> Test:
    return lambda value: isinstance(value, list) and all(map(test, value))


def _dict_of(test: Test) -> Test:
    return lambda value: isinstance(value, dict) and all(map(test, value.values()))


def _is_verdict(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    required = all(_is_text(value.get(name)) for name in ("name", "text", "rule", "level"))
    return required and all(_is_text(value.get(name, "")) for name in ("causes", "sentence"))


def _is_prediction(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("class"), str)
        and _or_none(_is_number)(value.get("probability"))
        and _dict_of(_or_none(_is_number))(value.get("classes", {}))
    )


def _is_packed(value: Any) -> bool:
    """Whether a value is an array of `pack` whose data have the size of its shape."""
    if not isinstance(value, dict) or not _list_of(_is_count)(value.get("shape")):
        return False
    dtype, data = value.get("dtype"), value.get("data")
    if not isinstance(dtype, str) or dtype not in _ITEM_BYTES or not isinstance(data, str):
        return False
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(content) == _ITEM_BYTES[dtype] * math.prod(value["shape"])


def _has_shape(packed: Any, *shape: int) -> bool:
    return bool(packed["shape"] == list(shape))


def _is_edges(value: Any) -> bool:
    if not isinstance(value, dict) or not _list_of(_is_number)(value.get("coverage")):
        return False
    if "dense" in value:
        return _is_packed(value["dense"])
    return _list_of(_is_count)(value.get("n")) and all(
        _is_packed(value.get(name)) for name in ("query", "key", "value")
    )


def _edges_fit(edges: Any, n: int) -> bool:
    n_layers = len(edges["coverage"])
    if "dense" in edges:
        return _has_shape(edges["dense"], n_layers, n, n)
    ends = [edges[name] for name in ("query", "key", "value")]
    if len(edges["n"]) != n_layers or not all(_has_shape(one, sum(edges["n"])) for one in ends):
        return False
    return all(one["dtype"] == "u2" and bool((unpack(one) < n).all()) for one in ends[:2])


def _is_heads(value: Any) -> bool:
    return isinstance(value, dict) and all(
        test(value.get(name))
        for name, test in (
            ("shape", _list_of(_is_count)),
            ("coverage", _is_number),
            ("mask", _is_packed),
            ("value", _is_packed),
        )
    )


def _heads_fit(heads: Any, n: int) -> bool:
    shape, mask = heads["shape"], heads["mask"]
    if len(shape) != 3 or shape[2] != n or mask["dtype"] != "u1" or heads["value"]["dtype"] != "u1":
        return False
    if not _has_shape(mask, (math.prod(shape) * n + 7) // 8):
        return False
    return _has_shape(heads["value"], int(np.unpackbits(unpack(mask)).sum()))


_NUMBERS = _dict_of(_or_none(_is_number))
_STEP: dict[str, Test] = {
    "epoch": _or_none(_is_count),
    "scalars": _NUMBERS,
    "layers": _dict_of(_list_of(_or_none(_is_number))),
    "verdicts": _list_of(_is_verdict),
    "progress": _or_none(_is_number),
}
_SENTENCE: dict[str, Test] = {
    "name": _is_text,
    "text": _is_text,
    "words": _list_of(_is_text),
    "special": _list_of(lambda value: value in (0, 1)),
    "flows": lambda value: isinstance(value, dict),
    "numbers": _NUMBERS,
}
_OF_SENTENCE: dict[str, Test] = {"prediction": _is_prediction, "label": _is_text}
_FLOW: dict[str, Test] = {
    "signed": _is_bool,
    "unit": _is_text,
    "layers": _list_of(_is_integer),
    "values": _is_packed,
}
_OF_FLOW: dict[str, Test] = {
    "lower": _is_packed,
    "upper": _is_packed,
    "range_name": _is_text,
    "edges": _is_edges,
    "heads": _is_heads,
    "without_heads": _is_text,
    "error": _list_of(_or_none(_is_number)),
    "saturation": _list_of(_or_none(_is_number)),
    "edge_error": _or_none(_is_number),
    "total": _or_none(_is_number),
    "target": _is_text,
}
