"""When the monitor runs, and which callbacks of the trainer depend on what it logs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lightning_attnflow._checks import check_integer

if TYPE_CHECKING:
    import lightning.pytorch as pl


class ValidationSchedule:
    """Counts the validations of a fit: the first is due, and every n-th after it.

    Example:
        >>> schedule = ValidationSchedule(3)
        >>> due = []
        >>> for _ in range(7):
        ...     schedule.advance()
        ...     due.append(schedule.is_due)
        >>> due
        [True, False, False, True, False, False, True]
    """

    def __init__(self, every_n_validations: int) -> None:
        self.every_n = check_integer("every_n_validations", every_n_validations)
        self.n_validations = 0
        self.is_watched = False

    def advance(self) -> None:
        """Count a validation."""
        self.n_validations += 1

    @property
    def is_due(self) -> bool:
        """Whether the counted validation is to be logged; all are, while callbacks watch the metrics."""
        return self.is_watched or (self.n_validations - 1) % self.every_n == 0


class Watchers:
    """Callbacks and schedulers of a trainer that monitor metrics of the monitor.

    Args:
        trainer: the trainer.
        prefix: prefix of the metrics, such as ``attnflow/``.
    """

    def __init__(self, trainer: pl.Trainer, prefix: str) -> None:
        schedulers = [config for config in getattr(trainer, "lr_scheduler_configs", ()) if config.reduce_on_plateau]
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        found = [(callback, getattr(callback, "monitor", None)) for callback in callbacks]
        found += [(config.scheduler, config.monitor) for config in schedulers]
        watching = [(one, metric) for one, metric in found if isinstance(metric, str) and metric.startswith(prefix)]
        self.metrics = {metric for _, metric in watching}
        self.names = [f"{type(one).__name__}(monitor={metric!r})" for one, metric in watching]
        self._watching = [one for one, _ in watching]

    def hold(self) -> None:
        """Keep EarlyStopping and ReduceLROnPlateau from acting on a metric that is no longer logged.

        They count the validations without improvement, and compare the count with their patience, which is >= 0.
        """
        for one in self._watching:
            for count in ("wait_count", "num_bad_epochs"):
                if hasattr(one, count):
                    setattr(one, count, -2)


def start_messages(
    trainer: pl.Trainer, watchers: Watchers, schedule: ValidationSchedule, *, has_probes: bool
) -> tuple[dict[str, str], str]:
    """Return notes by topic, and a warning or "", about when a fit will be logged other than expected."""
    notes, warning = {}, ""
    if watchers.metrics and schedule.every_n > 1:
        notes["watched"] = f"every validation is logged, because of {', '.join(watchers.names)}."
    if not trainer.enable_validation and has_probes:
        notes["training"] = "there is no validation; probes are logged at the end of training epochs."
    elif not has_validation(trainer):
        warning = (
            "will log nothing: the fit has no validation. Add a validation loader and validation_step, check "
            "limit_val_batches and check_val_every_n_epoch, or pass probes=."
        )
    if any("MultiProcessing" in kind.__name__ for kind in type(trainer.strategy.launcher).__mro__):
        notes["latest"] = (
            "this process ends with the fit, so monitor.latest stays empty in the main process; the loggers and "
            "trainer.callback_metrics have the results."
        )
    return notes, warning


def has_validation(trainer: pl.Trainer) -> bool:
    """Whether the fit has a validation loop that is reached before the fit ends."""
    return bool(trainer.enable_validation) and not _ends_before_validation(trainer)


def _ends_before_validation(trainer: pl.Trainer) -> bool:
    if trainer.global_step:  # resumed: the first validation may be close
        return False
    batches: Any = trainer.num_training_batches
    every = trainer.check_val_every_n_epoch
    first: Any = trainer.val_check_batch
    if every is not None and every > 1:
        first += batches * (every - 1)
    limits = [math.inf]
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        limits.append(batches * trainer.max_epochs)
    if trainer.max_steps >= 0:
        limits.append(trainer.max_steps * trainer.accumulate_grad_batches)
    return bool(min(limits) < first < math.inf)
