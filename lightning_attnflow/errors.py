"""The exceptions of the package. Every message says what was got, what was expected and how to mend it."""

from __future__ import annotations

from collections.abc import Sequence


class AttnFlowError(Exception):
    """Base of every error this package raises.

    Args:
        what: the thing that is wrong, as a short clause.
        got: what was passed or found.
        expected: what would have been right.
        remedy: what the user can do about it.

    Example:
        >>> str(InputError("tolerance", got=-1, expected="a number > 0", remedy="Pass tolerance=5e-3."))
        'tolerance: got -1; expected a number > 0. Pass tolerance=5e-3.'
    """

    def __init__(self, what: str, *, got: object, expected: str, remedy: str) -> None:
        self.what, self.got, self.expected, self.remedy = what, got, expected, remedy
        super().__init__(f"{what}: got {got}; expected {expected}. {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.got, self.expected, self.remedy)


class InputError(AttnFlowError, ValueError):
    """An argument, a file or a tensor that cannot be used."""


class CaptureError(AttnFlowError, RuntimeError):
    """A model that does not hand out usable attention probabilities."""


class MissingDependencyError(AttnFlowError, ImportError):
    """An optional package that is not installed; the remedy is the pip command."""


class GameError(AttnFlowError, RuntimeError):
    """A payoff that raised, or that returned NaN or the wrong shape.

    Attributes:
        coalition: indices of the players present in the coalition that caused it (of payoffs of the wrong shape, in the
            first that was asked for), or None if no single one did.
    """

    coalition: tuple[int, ...] | None = None

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"coalition": self.coalition})

    @classmethod
    def of_coalition(cls, what: str, coalition: Sequence[int], *, got: object, expected: str, remedy: str) -> GameError:
        """Build the error for one coalition, which is named in the message and kept as ``coalition``."""
        members = tuple(int(player) for player in coalition)
        error = cls(f"{what} (coalition {members})", got=got, expected=expected, remedy=remedy)
        error.coalition = members
        return error


class LedgerError(AttnFlowError, RuntimeError):
    """A ledger of finished permutations that is damaged, cannot be written, or belongs to another configuration."""


def _rebuild(kind: type[AttnFlowError], what: str, got: object, expected: str, remedy: str) -> AttnFlowError:
    return kind(what, got=got, expected=expected, remedy=remedy)
