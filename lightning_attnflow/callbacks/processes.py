"""Several processes training one model: what each takes, and how all come to hold the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    import lightning.pytorch as pl

T = TypeVar("T")


def gathered(trainer: pl.Trainer, mine: T) -> list[T]:
    """Return what every process holds, in the order of their ranks. All processes must call it."""
    if trainer.world_size == 1:
        return [mine]
    everyone: list[T] = [mine] * trainer.world_size
    torch.distributed.all_gather_object(everyone, mine)
    return everyone


def part_of(total: int, n_parts: int, index: int) -> int:
    """Return the size of part `index` when `total` is split as evenly as it goes.

    Example:
        >>> [part_of(8, 3, index) for index in range(3)]
        [3, 3, 2]
    """
    return total // n_parts + (index < total % n_parts)
