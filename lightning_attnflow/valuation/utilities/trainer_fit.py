"""One ``Trainer.fit`` without logging, checkpoints, progress output or validation."""

from __future__ import annotations

import logging
import math
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, TensorDataset

from lightning_attnflow.errors import InputError

_TRAINER_DEFAULTS: dict[str, Any] = {
    "accelerator": "auto",
    "devices": 1,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "limit_val_batches": 0,
    "logger": False,
    "num_sanity_val_steps": 0,
}
# Training uses the global random number generators, which threads share, so that only one thread may train at a time.
TRAINING_LOCK = threading.RLock()


def training_loader(
    train: Dataset[Any], members: NDArray[np.intp], batch_size: int, collate_fn: Callable[[list[Any]], Any] | None
) -> DataLoader[Any]:
    """Shuffling loader of the items ``members``; rows of a TensorDataset are indexed by the batch."""
    if type(train) is TensorDataset and collate_fn is None:
        rows = _TensorRows(train, members)
        return DataLoader(rows, None, sampler=_ShuffledBatches(len(rows), batch_size), collate_fn=_identity)
    return DataLoader(Subset(train, members.tolist()), batch_size, shuffle=True, collate_fn=collate_fn)


class _TensorRows(Dataset[Any]):
    """Rows of tensors, indexed by the batch: to collate single items costs more than a step of a small model."""

    def __init__(self, whole: TensorDataset, members: NDArray[np.intp]) -> None:
        self._columns = [column[torch.from_numpy(members)] for column in whole.tensors]

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitem__(self, index: torch.Tensor) -> list[torch.Tensor]:
        return [column.index_select(0, index) for column in self._columns]


class _ShuffledBatches(Sampler[torch.Tensor]):
    """The batches of ``DataLoader(shuffle=True)``, from the same random numbers, as tensors of indices."""

    def __init__(self, n: int, batch_size: int) -> None:
        self._n, self._batch_size = n, batch_size

    def __len__(self) -> int:
        return math.ceil(self._n / self._batch_size)

    def __iter__(self) -> Iterator[torch.Tensor]:
        seed = int(torch.empty((), dtype=torch.int64).random_())  # as torch.utils.data.RandomSampler
        shuffled = torch.randperm(self._n, generator=torch.Generator().manual_seed(seed))
        yield from torch.split(shuffled, self._batch_size)


def _identity(batch: list[torch.Tensor]) -> list[torch.Tensor]:
    return batch


def fit(trainer: pl.Trainer, module: pl.LightningModule, loader: DataLoader[Any]) -> None:
    """Train the module; raise KeyboardInterrupt on Ctrl-C, where Lightning would raise SystemExit."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main else None
    try:
        trainer.fit(module, loader)
    except SystemExit as exit_error:
        if isinstance(exit_error.__context__, KeyboardInterrupt):
            if in_main:
                signal.signal(signal.SIGINT, handler)  # Lightning ignores the signal from then on
            raise KeyboardInterrupt from exit_error
        raise


def make_trainer(options: Mapping[str, Any]) -> pl.Trainer:
    """Create a Trainer without logging, checkpoints and validation."""
    clash = sorted(set(options) & {"logger", "enable_checkpointing", "num_sanity_val_steps", "limit_val_batches"})
    if clash:
        raise InputError(
            "trainer",
            got=", ".join(clash),
            expected="no options of logging, checkpoints or validation",
            remedy="The validation set is scored after training.",
        )
    try:
        with quiet():
            return pl.Trainer(**{**_TRAINER_DEFAULTS, **options})
    except Exception as error:  # Lightning raises several kinds of errors for invalid options
        raise InputError(
            "trainer", got=str(error), expected="valid keyword arguments of lightning.pytorch.Trainer"
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress the log messages and warnings of Lightning, which every training would repeat."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    loggers += [logging.getLogger(f"lightning.pytorch.utilities.{part}") for part in ("rank_zero",)]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            warnings.filterwarnings("ignore", message=r".*(many workers|log_every_n_steps|GPU available).*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
