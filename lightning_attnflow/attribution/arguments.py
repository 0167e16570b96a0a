"""Checks of arguments that several methods take."""

from __future__ import annotations

import math

import numpy as np

from lightning_attnflow._checks import is_integer
from lightning_attnflow.errors import InputError


def check_count(name: str, got: object, remedy: str = "The default will do.") -> int:
    """Return an integer >= 1, or raise.

    Example:
        >>> check_count("batch_size", 2.5, "32 suits a CPU.")
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: batch_size: got 2.5; expected an integer >= 1. 32 suits a CPU.
    """
    if not is_integer(got) or got < 1:
        raise InputError(name, got=repr(got), expected="an integer >= 1", remedy=remedy)
    return int(got)


def check_layer(layer: object, last: int, remedy: str) -> int:
    """Return a layer in 0..last, or raise."""
    if not is_integer(layer) or not 0 <= layer <= last:
        raise InputError("layer", got=repr(layer), expected=f"an integer in 0..{last}", remedy=remedy)
    return int(layer)


def check_positive(name: str, got: object, remedy: str) -> float:
    """Return a finite number > 0, or raise."""
    if isinstance(got, bool) or not isinstance(got, (int, float, np.number)) or not 0 < got < math.inf:
        raise InputError(name, got=repr(got), expected="a number > 0", remedy=remedy)
    return float(got)
