"""Training batches that cannot be recorded: counted, and each reason is warned of once."""

from __future__ import annotations

import traceback
from collections.abc import Iterable

from lightning.pytorch.utilities import rank_zero_warn

from lightning_attnflow.errors import AttnFlowError

Reasons = dict[str, tuple[int, str]]  # key of a reason -> number of batches, description of the first


class LeftOutBatches:
    """Counts the batches of the current epoch that were left out, by reason.

    Args:
        name: name of the callback, for warnings.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.reasons: Reasons = {}
        self._warned: set[str] = set()

    @property
    def count(self) -> int:
        """Number of left-out batches in this epoch and process."""
        return sum(count for count, _ in self.reasons.values())

    def add(self, error: Exception, place: str) -> None:
        """Count a batch, and warn if it is the first with this reason.

        Args:
            error: why the batch cannot be recorded.
            place: which batch it is.
        """
        key = _key(error)
        count, description = self.reasons.get(key, (0, f"{place} is left out. {type(error).__name__}: {error}"))
        self.reasons[key] = count + 1, description
        self._warn(self.reasons)

    def end_epoch(self, parts: Iterable[Reasons]) -> int:
        """Warn of new reasons of other processes, start a new epoch, and return the number of left-out batches.

        Args:
            parts: ``reasons`` of all processes.
        """
        total = 0
        for reasons in parts:
            self._warn(reasons)
            total += sum(count for count, _ in reasons.values())
        self.reasons = {}
        return total

    def _warn(self, reasons: Reasons) -> None:
        for key in reasons.keys() - self._warned:
            self._warned.add(key)
            rank_zero_warn(
                f"{self.name}: {reasons[key][1]} Further batches left out for this reason are counted in "
                "dynamics/left_out_batches without a warning."
            )


def _key(error: Exception) -> str:
    """Type, subject and line of an error, which are equal for all batches with the same problem."""
    frames = traceback.extract_tb(error.__traceback__)
    line = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__} {error.what if isinstance(error, AttnFlowError) else ''} {line}"
