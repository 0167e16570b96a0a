"""A callback that treats a test like a validation."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from lightning_attnflow.callbacks.guarded import GuardedCallback


class EvaluationCallback(GuardedCallback):
    """Calls the hooks of validation in ``trainer.test`` too."""

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Like a validation."""
        self.on_validation_epoch_start(trainer, pl_module)

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Like a validation."""
        self.on_validation_batch_start(trainer, pl_module, *batch)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Like a validation."""
        self.on_validation_batch_end(trainer, pl_module, *batch)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Like a validation."""
        self.on_validation_epoch_end(trainer, pl_module)
