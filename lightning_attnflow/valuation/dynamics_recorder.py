"""Accumulates the statistics of training examples over epochs; examples are recognised by their keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow.valuation.training_dynamics import TrainingDynamics

_FLOATS = ("loss", "margin", "confidence", "error_norm")
Key = tuple[Any, ...]  # (hash of the input, hash of the label), or (index of the user,)


class DynamicsRecorder:
    """Statistics by epoch, 20 bytes for each example and epoch."""

    def __init__(self) -> None:
        self.epochs: list[int] = []
        self._position: dict[Key, int] = {}
        self._values: list[dict[str, NDArray[Any]]] = []
        self._labels: list[int] = []
        self._most_seen: list[int] = []  # smallest number of occurrences in an epoch so far
        self._tokens: list[NDArray[np.int32]] = []

    def __len__(self) -> int:
        return len(self._position)

    def forget_from(self, epoch: int) -> None:
        """Drop the epochs from this one on; they are about to be trained again."""
        kept = [index for index, number in enumerate(self.epochs) if number < epoch]
        self.epochs, self._values = [self.epochs[index] for index in kept], [self._values[index] for index in kept]
        if not kept:
            self.__init__()  # type: ignore[misc]

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
            statistics: float64 (rows, 6), see ``example_statistics``; rows of one key are averaged.
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
                self._most_seen.append(np.iinfo(np.int32).max)
                if tokens is not None:
                    self._tokens.append(tokens[row])
        n = len(self)
        count = np.bincount(rows, minlength=n)
        values: dict[str, NDArray[Any]] = {}
        for column, name in enumerate(_FLOATS):
            total = np.bincount(rows, weights=statistics[:, column], minlength=n)
            with np.errstate(invalid="ignore", divide="ignore"):
                values[name] = (total / count).astype(np.float32)  # 0 / 0 = NaN: not in this epoch
        prediction = np.full(n, -1, dtype=np.int32)
        known = ~np.isnan(statistics[:, 4])
        prediction[rows[known]] = statistics[known, 4]
        values["prediction"] = prediction
        for position in np.flatnonzero(count).tolist():
            self._most_seen[position] = min(self._most_seen[position], int(count[position]))
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
            occurrences=self._most_seen,
            conflicting=[len(inputs[key[0]]) > 1 for key in keys],
            keys=[key[0] if len(key) == 1 else f"{key[0] & (2**64 - 1):016x}{key[1] & 0xFFFF:04x}" for key in keys],
            texts=texts,
            classes=classes,
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
            "values": {name: torch.from_numpy(self._padded(name, n)) for name in (*_FLOATS, "prediction")},
            "labels": list(self._labels),
            "most_seen": list(self._most_seen),
            "lengths": lengths,
            "tokens": torch.from_numpy(np.concatenate(self._tokens)) if lengths else torch.zeros(0, dtype=torch.int32),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self.epochs = list(state["epochs"])
        self._position = {tuple(key): place for place, key in enumerate(state["keys"])}
        arrays = {name: tensor.cpu().numpy() for name, tensor in state["values"].items()}
        self._values = [{name: array[row] for name, array in arrays.items()} for row in range(len(self.epochs))]
        self._labels, self._most_seen = list(state["labels"]), list(state["most_seen"])
        ends = np.cumsum(state["lengths"]).astype(int)
        self._tokens = np.split(state["tokens"].cpu().numpy(), ends[:-1]) if len(ends) else []

    def _padded(self, name: str, n: int) -> NDArray[Any]:
        """Float32 or int32 (epochs, n), filled for examples that came after an epoch."""
        missing = np.int32(-1) if name == "prediction" else np.float32(np.nan)
        rows = np.full((len(self._values), n), missing)
        for row, values in zip(rows, self._values, strict=True):
            row[: len(values[name])] = values[name]
        return rows
