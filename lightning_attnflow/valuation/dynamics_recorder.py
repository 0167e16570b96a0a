"""Accumulates the statistics of training examples over epochs; examples are recognised by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow.valuation.training_dynamics import TrainingDynamics

_FLOATS = ("loss", "margin", "confidence", "error_norm")
_MISSING = {name: np.float32(np.nan) for name in _FLOATS} | {"prediction": np.int32(-1), "count": np.int32(0)}
Key = tuple[Any, ...]  # (hash of the input, hash of the label), or (index of the user,)


class DynamicsRecorder:
    """Statistics by epoch, 24 bytes for each example and epoch."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self.left_out: dict[int, int] = {}  # batches that were not recorded, by epoch
        self._position: dict[Key, int] = {}
        self._values: list[dict[str, NDArray[Any]]] = []
        self._labels: list[int] = []
        self._tokens: list[NDArray[np.int32]] = []

    def __len__(self) -> int:
        return len(self._position)

    def forget_from(self, epoch: int) -> None:
        """Drop the epochs from this one on; they are about to be trained again."""
        kept = [index for index, number in enumerate(self.epochs) if number < epoch]
        self.epochs, self._values = [self.epochs[index] for index in kept], [self._values[index] for index in kept]
        left_out = {number: count for number, count in self.left_out.items() if number < epoch}
        if not kept:
            self.__init__()  # type: ignore[misc]
        self.left_out = left_out

    def add_epoch(
        self,
        epoch: int,
        keys: Sequence[Key],
        statistics: NDArray[np.float64],
        tokens: Sequence[NDArray[np.int32]] | None = None,
    ) -> int:
        """Add an epoch and return how many of its examples were known before.

        Args:
            epoch: its number.
            keys: key of each row.
            statistics: float64 (rows, 6), see ``example_statistics``; known values of one key are averaged.
            tokens: token ids of each row, or None.
        """
        n_known = len(self)
        rows = np.empty(len(keys), dtype=np.intp)
        for row, key in enumerate(keys):
            position = self._position.setdefault(key, len(self._position))
            rows[row] = position
            if position == len(self._labels):
                label = statistics[row, 5]
                self._labels.append(-1 if np.isnan(label) else int(label))
                if tokens is not None:
                    self._tokens.append(tokens[row])
        n = len(self)
        count = np.bincount(rows, minlength=n)
        values: dict[str, NDArray[Any]] = {"count": count.astype(np.int32)}
        for column, name in enumerate(_FLOATS):
            known = ~np.isnan(statistics[:, column])
            total = np.bincount(rows[known], weights=statistics[known, column], minlength=n)
            with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 = NaN: not in this epoch
                values[name] = (total / np.bincount(rows[known], minlength=n)).astype(np.float32)
        prediction = np.full(n, -1, dtype=np.int32)
        known = ~np.isnan(statistics[:, 4])
        prediction[rows[known]] = statistics[known, 4]
        values["prediction"] = prediction
        self.epochs.append(epoch)
        self._values.append(values)
        return int((count[:n_known] > 0).sum())

    def result(self, texts: Sequence[str] = (), classes: Sequence[str] = ()) -> TrainingDynamics:
        """The dynamics of all epochs; NaN for examples that an epoch did not contain."""
        n = len(self)
        inputs: dict[Any, set[Key]] = {}
        for key in self._position:
            inputs.setdefault(key[0], set()).add(key)
        keys = list(self._position)
        return TrainingDynamics.of(
            **{name: self._padded(name, n) for name in (*_FLOATS, "prediction")},
            labels=self._labels,
            occurrences=self._occurrences(n),
            conflicting=[len(inputs[key[0]]) > 1 for key in keys],
            keys=[key[0] if len(key) == 1 else f"{key[0] & (2**64 - 1):016x}{key[1] & 0xFFFF:04x}" for key in keys],
            texts=texts,
            classes=classes,
            left_out_batches=sum(self.left_out.values()),
        )

    def tokens(self) -> list[NDArray[np.int32]]:
        """Token ids of the examples; empty if they were not recorded."""
        return self._tokens

    def keys(self) -> list[Key]:
        """Keys of the examples."""
        return list(self._position)

    def state_dict(self) -> dict[str, Any]:
        """Everything, as tensors, lists and numbers."""
        n = len(self)
        lengths = [len(row) for row in self._tokens]
        return {
            "epochs": list(self.epochs),
            "keys": [list(key) for key in self._position],
            "left_out": dict(self.left_out),
            "values": {name: torch.from_numpy(self._padded(name, n)) for name in _MISSING},
            "labels": list(self._labels),
            "lengths": lengths,
            "tokens": torch.from_numpy(np.concatenate(self._tokens)) if lengths else torch.zeros(0, dtype=torch.int32),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.epochs, self.left_out = list(state["epochs"]), dict(state["left_out"])
        self._position = {tuple(key): place for place, key in enumerate(state["keys"])}
        arrays = {name: tensor.cpu().numpy() for name, tensor in state["values"].items()}
        self._values = [{name: array[row] for name, array in arrays.items()} for row in range(len(self.epochs))]
        self._labels = list(state["labels"])
        ends = np.cumsum(state["lengths"]).astype(int)
        self._tokens = np.split(state["tokens"].cpu().numpy(), ends[:-1]) if len(ends) else []

    def _occurrences(self, n: int) -> NDArray[np.int32]:
        """How often an epoch has each example, int32 (n,): the smallest number of the epochs that have it.

        Epochs with left-out batches count for examples of no other epoch only.
        """
        counts = self._padded("count", n)
        is_complete = np.array([not self.left_out.get(epoch) for epoch in self.epochs])
        largest = np.iinfo(np.int32).max
        smallest = np.where((counts > 0) & is_complete[:, None], counts, largest).min(axis=0)
        found: NDArray[np.int32] = np.where(smallest < largest, smallest, counts.max(axis=0))
        return found

    def _padded(self, name: str, n: int) -> NDArray[Any]:
        """Float32 or int32 (epochs, n), filled for examples that came after an epoch."""
        rows = np.full((len(self._values), n), _MISSING[name])
        for row, values in zip(rows, self._values, strict=True):
            row[: len(values[name])] = values[name]
        return rows
