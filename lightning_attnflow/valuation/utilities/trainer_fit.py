"""One bare ``Trainer.fit``: nothing written or said, the global state left as found, the data read by the batch."""

from __future__ import annotations

import logging
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
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from lightning_attnflow.errors import InputError

_BARE: dict[str, Any] = {  # of a Trainer that only trains
    "accelerator": "cpu",
    "devices": 1,
    "enable_checkpointing": False,
    "enable_model_summary": False,
    "enable_progress_bar": False,
    "limit_val_batches": 0,
    "logger": False,
    "num_sanity_val_steps": 0,
}
# Training draws from the global generators, which threads share: only one trains at a time.
ONE_AT_A_TIME = threading.RLock()


def training_loader(
    train: Dataset[Any], members: NDArray[np.intp], batch_size: int, collate_fn: Callable[[list[Any]], Any] | None
) -> DataLoader[Any]:
    """A shuffling loader of some items; rows of tensors are taken a batch at once, which collates to the same bits."""
    if type(train) is TensorDataset and collate_fn is None:
        return DataLoader(_TensorRows(train, members), batch_size, shuffle=True, collate_fn=_as_it_is)
    return DataLoader(Subset(train, members.tolist()), batch_size, shuffle=True, collate_fn=collate_fn)


class _TensorRows(Dataset[Any]):
    """Some rows of tensors: item by item and then stacked, they cost more than a step of a small model."""

    def __init__(self, whole: TensorDataset, members: NDArray[np.intp]) -> None:
        self._columns = [column[torch.from_numpy(members)] for column in whole.tensors]

    def __len__(self) -> int:
        return len(self._columns[0])

    def __getitems__(self, places: list[int]) -> list[torch.Tensor]:
        index = torch.tensor(places)
        return [column.index_select(0, index) for column in self._columns]


def _as_it_is(batch: list[torch.Tensor]) -> list[torch.Tensor]:
    return batch


def fit(trainer: pl.Trainer, module: pl.LightningModule, loader: DataLoader[Any]) -> None:
    """Train; Ctrl-C, which Lightning turns into the end of the process, stays a KeyboardInterrupt."""
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if in_main else None
    try:
        trainer.fit(module, loader)
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            if in_main:
                signal.signal(signal.SIGINT, handler)  # Lightning has set it to be ignored
            raise KeyboardInterrupt from end
        raise


def make_trainer(options: Mapping[str, Any]) -> pl.Trainer:
    clash = sorted(set(options) & {"logger", "enable_checkpointing", "num_sanity_val_steps", "limit_val_batches"})
    if clash:
        raise InputError(
            "trainer",
            got=f"{', '.join(clash)}",
            expected="a training without logs, checkpoints and validation",
            remedy="Leave these out; the validation set is scored after the training.",
        )
    try:
        with quiet():
            return pl.Trainer(**{**_BARE, **options})
    except TypeError as error:
        raise InputError(
            "trainer", got=f"{error}", expected="keyword arguments of Trainer", remedy="Check their names."
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Lightning's banners and hints, which a thousand trainings would repeat a thousand times."""
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
