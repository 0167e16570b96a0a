"""Predictions of a model for batches of sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from lightning_attnflow._state import eval_mode
from lightning_attnflow.attention.merged import row_inputs
from lightning_attnflow.attribution.target import LogitReader, class_probabilities
from lightning_attnflow.callbacks.batches import real_tokens
from lightning_attnflow.errors import AttnFlowError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MOST_CLASSES = 20  # whose probabilities are kept
_MAX_POSITIONS = 1024  # in a forward pass, to save memory beside the flows


class TopPrediction(NamedTuple):
    """The predicted class or token, its name and probability, those of few classes, and the logits (C,)."""

    target: int | None
    name: str
    probability: float
    classes: dict[str, float]
    logits: torch.Tensor | None


def predictions_of(
    reader: LogitReader,
    batches: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase | None,
    notes: dict[str, str],
    *,
    required: bool,
) -> list[TopPrediction]:
    """Return the prediction for every sentence."""
    try:
        with eval_mode(reader.model), torch.no_grad():
            logits = [reader(**part) for batch in batches for part in _parts(batch, reader.device)]
    except AttnFlowError as error:
        if required:
            raise
        notes["prediction"] = f"no prediction and no conductance flow: {error}"
        return [TopPrediction(None, "", float("nan"), {}, None)] * sum(len(batch["input_ids"]) for batch in batches)
    rows = torch.cat(logits)
    probabilities = class_probabilities(rows, reader.problem)
    best = probabilities.max(dim=-1)
    n_classes = probabilities.shape[-1]
    few = reader.problem != "score" and not reader.is_causal_lm and n_classes <= _MOST_CLASSES
    names = [reader.name_of(target, tokenizer) for target in range(n_classes if few else 0)]
    return [
        TopPrediction(
            target,
            reader.name_of(target, tokenizer),
            probability,
            dict(zip(names, row.tolist(), strict=True)) if few else {},
            own,
        )
        for target, probability, row, own in zip(
            best.indices.tolist(), best.values.tolist(), probabilities, rows.cpu(), strict=True
        )
    ]


def _parts(batch: Mapping[str, Any], device: torch.device) -> Iterator[dict[str, Any]]:
    """Yield the inputs of as many sentences of a batch as are run together."""
    inputs = {"attention_mask": real_tokens(batch).to(device), **batch}
    n_rows, length = batch["input_ids"].shape
    at_once = max(1, _MAX_POSITIONS // length)
    for start in range(0, n_rows, at_once):
        yield row_inputs(inputs, slice(start, start + at_once), n_rows)
