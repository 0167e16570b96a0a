"""A callback whose failures disable it instead of ending the fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities import rank_zero_warn

from lightning_attnflow._checks import check_choice
from lightning_attnflow.errors import AttnFlowError

T = TypeVar("T")


class GuardedCallback(pl.Callback):
    """Runs steps of which a failure warns and disables it, or raises.

    Several processes disable it together, when they next exchange results.

    Args:
        on_error: "warn" warns and disables the callback; "raise" raises.
    """

    def __init__(self, on_error: Literal["warn", "raise"]) -> None:
        super().__init__()
        check_choice("on_error", on_error, ("warn", "raise"))
        self.on_error = on_error
        self._failure: Exception | None = None
        self._disabled = False

    def attempt(self, trainer: pl.Trainer, step: Callable[[], T]) -> T | None:
        """Run a step; return None if it failed."""
        try:
            return step()
        except Exception as error:
            self.fail(trainer, error)
            return None

    def fail(self, trainer: pl.Trainer, error: Exception) -> None:
        """Raise the error, or remember it and disable the callback."""
        if self.on_error == "raise":
            raise error
        self._failure = error
        if trainer.world_size == 1:
            self._disable(trainer, _describe(error))

    def gather(self, trainer: pl.Trainer, result: T) -> list[T] | None:
        """Return the results of all processes by rank; None if one of them failed. All processes must call it."""
        if self._disabled:
            return None
        own: tuple[str | None, Any] = (None, result) if self._failure is None else (_describe(self._failure), None)
        everywhere = [own] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(everywhere, own)
        failures = [text for text, _ in everywhere if text is not None]
        if failures:
            self._disable(trainer, failures[0])
            return None
        return [part for _, part in everywhere]

    def on_disabled(self, trainer: pl.Trainer) -> str:  # noqa: ARG002
        """Release what the callback holds; return what else the warning says."""
        return ""

    def _disable(self, trainer: pl.Trainer, reason: str) -> None:
        self._disabled = True
        more = self.on_disabled(trainer)
        name = type(self).__name__
        if self.on_error == "raise":  # the failure was in another process
            raise AttnFlowError(name, got=reason, expected="no failure in another process")
        rank_zero_warn(f"{name} is disabled, training continues. {reason}{more}")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
