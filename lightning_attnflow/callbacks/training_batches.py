"""Statistics of the training batches of an epoch, on their device, with the keys that identify the examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lightning_attnflow._checks import check_choice, check_items
from lightning_attnflow._state import preserve_rng
from lightning_attnflow._words import counted
from lightning_attnflow.attention.module_calls import logits_in
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.dynamics_recorder import Key
from lightning_attnflow.valuation.example_statistics import (
    TASKS,
    as_arrays,
    content_hash,
    example_statistics,
    find_task,
)

_LABEL_KEYS = ("labels", "label")


class TrainingBatches:
    """Collects the columns "statistics", "index" or "hashes", and "tokens", one part for each batch.

    Args:
        index: key of a batch, or function of it, for the identifiers of the examples; None: hashes of their content.
        labels: key of a batch, or function of it; None: the known keys of a batch.
        task: see ``example_statistics``, or "auto".
    """

    def __init__(
        self, index: str | Callable[[Any], Any] | None, labels: str | Callable[[Any], Tensor] | None, task: str
    ) -> None:
        check_choice("task", task, TASKS)
        self.index, self.labels, self.task = index, labels, task
        self.is_causal = False  # of the model, for task "auto"
        self.problem_type: str | None = None  # of its configuration
        self._parts: dict[str, list[Any]] = {}

    def __bool__(self) -> bool:
        return bool(self._parts)

    def clear(self) -> None:
        """Drop the batches."""
        self._parts = {}

    def labels_of(self, batch: Any) -> Tensor | None:
        """Labels of a batch; None if it has none."""
        if self.labels is not None:
            found: Tensor = _read("labels", self.labels, batch)
            return found
        if isinstance(batch, Mapping):
            return next((batch[key] for key in _LABEL_KEYS if key in batch), None)
        if isinstance(batch, (list, tuple)) and len(batch) > 1 and isinstance(batch[1], Tensor):
            return batch[1]
        return None

    def add(
        self, batch: Any, logits: Tensor, labels: Tensor | None, tokens: Any, mask: Any, *, keep_tokens: bool
    ) -> None:
        """Append the statistics and the keys of a batch, without waiting for its device.

        Args:
            batch: of the training step.
            logits: see ``example_statistics``.
            labels: see ``example_statistics``.
            tokens: input ids (B, T), or another tensor whose rows identify the examples.
            mask: attention mask (B, T), or None.
            keep_tokens: keep the input ids, to show texts.
        """
        if not isinstance(labels, Tensor):
            raise InputError("labels of a training batch", got="none", expected="a tensor", remedy="Pass labels=.")
        with torch.no_grad(), torch.autocast(logits.device.type, enabled=False):
            logits, labels = logits.detach(), labels.detach().to(logits.device)
            if self.task == "auto":
                self.task = find_task(logits, labels, is_causal=self.is_causal, problem_type=self.problem_type)
            columns = {"statistics": example_statistics(logits, labels, self.task)}  # type: ignore[arg-type]
            columns |= self._keys(batch, logits, labels, tokens, mask)
            if keep_tokens:
                columns["tokens"] = _present_tokens(tokens, mask, logits)
        for name, column in columns.items():
            self._parts.setdefault(name, []).append(column)

    def _keys(self, batch: Any, logits: Tensor, labels: Tensor, tokens: Any, mask: Any) -> dict[str, Any]:
        if self.index is not None:
            values = check_items("index", _read("index", self.index, batch), "a sequence of integers or strings")
            wrong = next((value for value in values if not isinstance(value, int | str)), None)
            if wrong is not None:
                raise InputError("index", got=repr(wrong), expected="integers or strings")
            if len(values) != len(logits):
                raise InputError("index", got=len(values), expected=f"{len(logits)}, one for each example")
            return {"index": values}
        if not isinstance(tokens, Tensor) or len(tokens) != len(logits):
            raise InputError(
                "inputs of a training batch",
                got=type(tokens).__name__,
                expected=f"a tensor with {counted(len(logits), 'row')}, to recognise examples",
                remedy="Pass index=, the key of the examples' numbers in the batch.",
            )
        hashes = content_hash(tokens, mask), content_hash(labels)
        return {"hashes": torch.stack([column.to(logits.device) for column in hashes], dim=1)}

    def arrays(self) -> tuple[list[Key], Any, list[Any] | None] | None:
        """Keys, statistics and token ids (or None) of the examples; None without batches."""
        if not self._parts:
            return None
        if self.index is not None:
            keys: list[Key] = [(value,) for part in self._parts["index"] for value in part]
        else:
            keys = [tuple(row) for row in as_arrays(self._parts["hashes"]).tolist()]
        tokens = None
        if "tokens" in self._parts:
            rows = [row for part in self._parts["tokens"] for row in part.cpu().numpy()]
            tokens = [row[row >= 0] for row in rows]
        return keys, as_arrays(self._parts["statistics"]), tokens

    def state_dict(self) -> dict[str, list[Any]]:
        """The columns on the CPU."""
        return {
            name: [part.cpu() if isinstance(part, Tensor) else part for part in column]
            for name, column in self._parts.items()
        }

    def load_state_dict(self, state: dict[str, list[Any]]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._parts = {name: list(column) for name, column in state.items()}


def _read(name: str, reader: str | Callable[[Any], Any], batch: Any) -> Any:
    """Apply a function to the batch, or read its key."""
    if callable(reader):
        with preserve_rng():
            return reader(batch)
    if not isinstance(batch, Mapping) or reader not in batch:
        keys = sorted(map(str, batch)) if isinstance(batch, Mapping) else type(batch).__name__
        raise InputError(name, got=f"a batch with {keys}", expected=f"a batch with the key {reader!r}")
    return batch[reader]


def forward_logits(model: Any, output: Any) -> Tensor:
    """Return the logits in the output of a forward pass."""
    logits = logits_in(output)
    if logits is None or not logits.ndim:
        raise InputError(
            f"output of {type(model).__name__}",
            got=type(output).__name__,
            expected="an output with logits",
            remedy="Pass outputs=, or the path of the model with the head as model=.",
        )
    return logits


def returned_logits(outputs: Callable[[Any, Any], Any] | None, batch: Any, step: Any, *, name: str) -> Tensor:
    """Return the logits that ``outputs`` reads from the result of a training step of a module with this name."""
    what = f"training step of {name}"
    if not step:  # automatic optimisation replaces None by an empty dictionary
        expected = "a forward pass of its Hugging Face model" if outputs is None else "the logits that outputs= reads"
        raise InputError(what, got="None", expected=expected)
    if outputs is None:
        raise InputError(
            what,
            got="a loss without a forward pass of its Hugging Face model",
            expected="a forward pass",
            remedy="If another model computes the logits, return them from the step and pass outputs=.",
        )
    with preserve_rng():
        logits = outputs(batch, step)
    if not isinstance(logits, Tensor):
        raise InputError("result of outputs=", got=type(logits).__name__, expected="a tensor of logits")
    return logits


def tokens_and_mask(args: tuple[Any, ...], kwargs: Mapping[str, Any], batch: Any) -> tuple[Any, Any]:
    """Return the input ids and the attention mask of a forward, or those of the batch where it is not given them."""
    of_batch = batch if isinstance(batch, Mapping) else {}
    tokens, mask = kwargs.get("input_ids", args[0] if args else None), kwargs.get("attention_mask")
    if not isinstance(tokens, Tensor):
        tokens = of_batch.get("input_ids")
    of_batch_mask = of_batch.get("attention_mask")
    if mask is None and isinstance(of_batch_mask, Tensor) and of_batch_mask.shape == getattr(tokens, "shape", None):
        mask = of_batch_mask
    return tokens, mask


def first_tensor(batch: Any) -> Tensor | None:
    """Return the first tensor of a batch that is a sequence."""
    return (
        next((part for part in batch if isinstance(part, Tensor)), None) if isinstance(batch, (list, tuple)) else None
    )


def _present_tokens(tokens: Any, mask: Any, logits: Tensor) -> Tensor:
    """Return input ids (B, T) with -1 for padding; (B, 0) if the batch has none, so that rows stay aligned."""
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or len(tokens) != len(logits) or tokens.is_floating_point():
        return torch.zeros(len(logits), 0, dtype=torch.int32, device=logits.device)
    present = torch.ones_like(tokens) if mask is None else mask
    return torch.where(present.bool(), tokens, -1).int()
