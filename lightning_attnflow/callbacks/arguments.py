"""Checks of plain arguments: one of some names, or within a range."""

from __future__ import annotations

from lightning_attnflow.errors import InputError


def check_choice(name: str, got: object, choices: tuple[str, ...], or_number: str = "") -> None:
    """Raise unless `got` is one of `choices`, or an int >= 0 where `or_number` says what a number means.

    Example:
        >>> check_choice("heads", 3, ("mean", "max"), "a head")
        >>> check_choice("heads", "median", ("mean", "max"), "a head")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        lightning_attnflow.errors.InputError: heads: got 'median'; expected 'mean', 'max' or a head. ...
    """
    if or_number and isinstance(got, int) and not isinstance(got, bool) and got >= 0:
        return
    if got not in choices:
        expected = ", ".join(map(repr, choices)) + (f" or {or_number}" if or_number else "")
        raise InputError(name, got=repr(got), expected=expected, remedy=f"Leave {name} at its default.")


def check_range(name: str, got: object, holds: bool, expected: str) -> None:
    """Raise unless the condition on `got` holds."""
    if not holds:
        raise InputError(name, got=got, expected=expected, remedy=f"Leave {name} at its default.")
