"""Training without ``Trainer.fit``, for modules and options that need none of its hooks."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch.optim import Optimizer
from torch.utils.data import DataLoader

_OPTIONS = {
    "accelerator",
    "accumulate_grad_batches",
    "callbacks",
    "default_root_dir",
    "devices",
    "enable_model_summary",
    "enable_progress_bar",
    "gradient_clip_algorithm",
    "gradient_clip_val",
    "log_every_n_steps",
    "max_epochs",
    "max_steps",
    "precision",
}
_STEPS = {"training_step", "configure_optimizers"}
# Methods that Trainer.fit does not call without validation
_UNUSED = ("test", "val", "validation", "predict", "on_test", "on_validation", "on_predict", "on_save", "on_load")


class NeedsTrainerError(Exception):
    """The module uses something that only a Trainer provides."""


def can_train_directly(trainer: pl.Trainer, options: Mapping[str, Any], module: pl.LightningModule) -> bool:
    """Whether the Trainer has only options, and the module only methods, that ``train_directly`` knows."""
    plugin = trainer.precision_plugin
    is_known_precision = type(plugin) is Precision or (type(plugin) is MixedPrecision and plugin.scaler is None)
    parents = type(module).__mro__
    defined = {name for parent in parents[: parents.index(pl.LightningModule)] for name in vars(parent)}
    overridden = {name for name in defined if hasattr(pl.LightningModule, name) and not hasattr(torch.nn.Module, name)}
    return (
        set(options) <= _OPTIONS
        and is_known_precision
        and type(trainer.strategy) is SingleDeviceStrategy
        and not trainer.callbacks  # type: ignore[attr-defined]  # a progress bar is one
        and (trainer.max_epochs is not None or trainer.max_steps != -1)
        and module.automatic_optimization
        and all(name in _STEPS or name.startswith(_UNUSED) for name in overridden)
    )


def train_directly(trainer: pl.Trainer, module: pl.LightningModule, loader: DataLoader[Any]) -> None:
    """Train a module as ``trainer.fit(module, loader)`` would, to the same weights; ``self.log`` does nothing.

    Raises:
        NeedsTrainerError: the module asks for its Trainer, a schedule or several optimizers, or skips a step.
    """
    progress, device = _Progress(), trainer.strategy.root_device
    is_moved = device.type != "cpu"
    if is_moved:
        module.to(device)
    module.trainer = progress  # type: ignore[assignment]
    module.log = module.log_dict = _ignore  # type: ignore[method-assign]
    optimizer = _single_optimizer(module.configure_optimizers())
    step = _Step(trainer, module, optimizer)
    while not (_is_reached(progress.current_epoch, trainer.max_epochs) or step.is_last(progress)):
        for index, batch in enumerate(loader):
            is_update = (index + 1) % step.every == 0 or index + 1 == len(loader)
            step(move_data_to_device(batch, device) if is_moved else batch, index, is_update)
            progress.global_step += is_update
            if step.is_last(progress):
                break
        progress.current_epoch += 1
    del module.log, module.log_dict
    module.trainer = None
    if is_moved:
        module.cpu()


class _Step:
    """One step of automatic optimization: forward pass, backward pass and, at an update, the optimizer."""

    def __init__(self, trainer: pl.Trainer, module: pl.LightningModule, optimizer: Optimizer) -> None:
        self._trainer, self._module, self._optimizer = trainer, module, optimizer
        self._plugin, self.every = trainer.precision_plugin, trainer.accumulate_grad_batches
        self._clip = trainer.gradient_clip_val or 0.0
        self._algorithm = trainer.gradient_clip_algorithm or GradClipAlgorithmType.NORM
        self._takes_index = len(inspect.signature(module.training_step).parameters) > 1

    def is_last(self, progress: _Progress) -> bool:
        """Whether the number of steps has reached the limit of the Trainer."""
        return _is_reached(progress.global_step, self._trainer.max_steps)

    def __call__(self, batch: Any, index: int, is_update: bool) -> None:
        def closure() -> torch.Tensor:
            with torch.enable_grad():
                with self._plugin.train_step_context():
                    arguments = (batch, index) if self._takes_index else (batch,)
                    output = self._module.training_step(*arguments)
                loss = output["loss"] if isinstance(output, Mapping) else output
                if not isinstance(loss, torch.Tensor):
                    raise NeedsTrainerError
                loss = loss / self.every if self.every > 1 else loss
                if index % self.every == 0:
                    self._optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
            if is_update and self._clip:
                self._plugin.clip_gradients(self._optimizer, self._clip, self._algorithm)
            return loss

        if is_update:
            self._optimizer.step(closure)  # type: ignore[arg-type]
        else:
            closure()


class _Progress:
    """In place of the Trainer of a module: its counters, and an error for everything else."""

    __slots__ = ("current_epoch", "global_step")

    def __init__(self) -> None:
        self.current_epoch = self.global_step = 0

    def __getattr__(self, name: str) -> Any:
        raise NeedsTrainerError(name)


def _single_optimizer(configured: Any) -> Optimizer:
    if isinstance(configured, Mapping) and set(configured) == {"optimizer"}:
        configured = configured["optimizer"]
    if isinstance(configured, (list, tuple)) and len(configured) == 1:
        configured = configured[0]
    if not isinstance(configured, Optimizer):
        raise NeedsTrainerError("learning rate schedules and several optimizers")
    return configured


def _is_reached(number: int, limit: int | None) -> bool:
    return limit is not None and limit != -1 and number >= limit


def _ignore(*_: Any, **__: Any) -> None:
    """Stand in for ``log``: nothing is logged."""
