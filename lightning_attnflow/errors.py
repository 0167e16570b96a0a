"""Exceptions. Every message states what was passed, what was expected and, where it helps, what to do."""

from __future__ import annotations

from collections.abc import Sequence


class AttnFlowError(Exception):
    """Base class of all errors raised by this package.

    Args:
        what: name of the argument, file or tensor that is wrong.
        got: what was passed or found.
        expected: what is accepted.
        remedy: what the user can do about it, if that is not obvious.

    Example:
        >>> str(InputError("tolerance", got=-1, expected="a number > 0", remedy="Pass tolerance=5e-3."))
        'tolerance: got -1; expected a number > 0. Pass tolerance=5e-3.'
    """

    def __init__(self, what: str, *, got: object, expected: str, remedy: str | None = None) -> None:
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        super().__init__(f"{what}: got {got}; expected {expected}." + (f" {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.got, self.expected, self.remedy)


class InputError(AttnFlowError, ValueError):
    """Invalid argument, file or tensor."""


class CaptureError(AttnFlowError, RuntimeError):
    """The model returns no usable attention probabilities."""


class MissingDependencyError(AttnFlowError, ImportError):
    """An optional package is not installed; the message contains the pip command."""


class GameError(AttnFlowError, RuntimeError):
    """A game raised an exception, or returned NaN, infinity or an array of the wrong shape.

    Attributes:
        coalition: indices of the players in the coalition that caused the error (for a wrong shape: the first coalition
            of the batch), or None if it cannot be attributed to one coalition.
    """

    coalition: tuple[int, ...] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"coalition": self.coalition})

    @classmethod
    def of_coalition(
        cls, what: str, coalition: Sequence[int], *, got: object, expected: str, remedy: str | None = None
    ) -> GameError:
        """Create the error for one coalition, which is part of the message and stored as ``coalition``."""
        members = tuple(int(player) for player in coalition)
        error = cls(f"{what} (coalition {members})", got=got, expected=expected, remedy=remedy)
        error.coalition = members
        return error


class LedgerError(AttnFlowError, RuntimeError):
    """A ledger of completed permutations is damaged, cannot be written, or belongs to another configuration."""


def _rebuild(kind: type[AttnFlowError], what: str, got: object, expected: str, remedy: str | None) -> AttnFlowError:
    return kind(what, got=got, expected=expected, remedy=remedy)
