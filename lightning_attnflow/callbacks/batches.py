"""Sentences for the monitor, from validation batches and probe texts."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lightning_attnflow._checks import check_text
from lightning_attnflow.attention.limits import check_length, length_limit
from lightning_attnflow.attention.tokens import check_tokens
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

InputReader = Callable[[Any], Mapping[str, Any]]

MODEL_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
"""Keys of a batch that are passed to the model if its forward accepts them."""

_REMEDY = "Pass inputs=, a function from the batch to the model's keyword arguments, such as inputs=lambda batch: {}."
_OF_SEQUENCE = '{"input_ids": batch[0], "attention_mask": batch[1]}'


def encode_probe(tokenizer: PreTrainedTokenizerBase, text: str, name: str) -> dict[str, list[int]]:
    """Tokenise one probe sentence, with special tokens and without truncation."""
    check_text(name, text)
    encoding = tokenizer(text, return_special_tokens_mask=True, verbose=False)
    check_tokens(name, text, encoding.pop("special_tokens_mask"))
    check_length(name, len(encoding["input_ids"]), length_limit(tokenizer.model_max_length))
    return {key: list(values) for key, values in encoding.items()}


def model_inputs(batch: Any, transformer: PreTrainedModel, reader: InputReader | None) -> dict[str, Any]:
    """Return the keyword arguments of the model from a validation batch.

    Raises:
        InputError: no usable ``input_ids``, or padding without an attention mask.
    """
    if reader is not None:
        found = reader(batch)
        if not isinstance(found, Mapping):
            raise InputError("result of inputs=", got=type(found).__name__, expected="a mapping", remedy=_remedy(batch))
        inputs = dict(found)
    elif isinstance(batch, Mapping):
        known = inspect.signature(transformer.forward).parameters
        inputs = {key: batch[key] for key in MODEL_INPUTS if key in batch and key in known}
    else:
        raise InputError(
            "validation batch",
            got=f"a {type(batch).__name__}",
            expected="a mapping with input_ids and attention_mask",
            remedy=_remedy(batch),
        )
    tokens = inputs.get("input_ids")
    if not isinstance(tokens, Tensor) or tokens.ndim != 2:
        shape = f", input_ids of shape {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else ""
        raise InputError(
            "validation batch",
            got=f"keys {list(batch if isinstance(batch, Mapping) else inputs)}{shape}",
            expected="input_ids of shape (B, T), and attention_mask if there is padding",
            remedy=_remedy(batch),
        )
    _check_padding(inputs, transformer)
    return inputs


def _remedy(batch: Any) -> str:
    """Return how to pass the inputs of a batch, by the key of its nested mapping that has them."""
    nested = batch.items() if isinstance(batch, Mapping) else ()
    keys = [key for key, part in nested if isinstance(part, Mapping) and "input_ids" in part]
    return _REMEDY.format(f"batch[{keys[0]!r}]" if keys else _OF_SEQUENCE)


def batch_labels(batch: Any, n_sentences: int) -> list[int] | None:
    """Return the class of every sentence of a batch; None without integer labels of shape (B,)."""
    if not isinstance(batch, Mapping):
        return None
    labels = next((batch[key] for key in ("labels", "label") if key in batch), None)
    if not isinstance(labels, Tensor) or labels.shape != (n_sentences,) or labels.is_floating_point():
        return None
    return [int(label) for label in labels]


def sentence_keys(inputs: Mapping[str, Any]) -> list[str]:
    """Return a key of each sentence, equal for equal tokens without padding."""
    return [
        hashlib.blake2b(ids[mask].numpy().astype("<i8").tobytes(), digest_size=12).hexdigest()
        for ids, mask in zip(inputs["input_ids"].cpu(), real_tokens(inputs), strict=True)
    ]


def first_sentences(inputs: Mapping[str, Any], n_sentences: int) -> dict[str, Any]:
    """Return copies of the first rows of every tensor with one row per sentence.

    Trailing columns that contain only padding are dropped if all tensors have shape (B, T).
    """
    tokens, mask = inputs["input_ids"], inputs.get("attention_mask")
    n_columns = tokens.shape[1]
    if isinstance(mask, Tensor) and all(isinstance(v, Tensor) and v.shape == tokens.shape for v in inputs.values()):
        used = mask[:n_sentences].any(dim=0).nonzero()
        n_columns = int(used.max()) + 1 if len(used) else n_columns
    return {
        key: (value[:n_sentences, :n_columns] if value.shape == tokens.shape else value[:n_sentences]).detach().clone()
        if isinstance(value, Tensor) and value.ndim and len(value) == len(tokens)
        else value
        for key, value in inputs.items()
    }


def take(batches: Sequence[dict[str, Any]], n_sentences: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Split batches into the first n sentences and the others.

    Example:
        >>> first, rest = take([{"input_ids": torch.tensor([[1], [2]])}, {"input_ids": torch.tensor([[3]])}], 1)
        >>> [len(batch["input_ids"]) for batch in first + rest]
        [1, 1, 1]
    """
    first: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for batch in batches:
        n_rows = len(batch["input_ids"])
        n = min(n_rows, n_sentences - sum(len(taken["input_ids"]) for taken in first))
        for part, rows in ((first, slice(0, n)), (rest, slice(n, n_rows))):
            if rows.stop > rows.start:
                part.append(
                    {
                        key: value[rows] if isinstance(value, Tensor) and value.ndim and len(value) == n_rows else value
                        for key, value in batch.items()
                    }
                )
    return first, rest


def part_of(total: int, n_parts: int, index: int) -> int:
    """Return the size of part ``index`` when ``total`` is split as evenly as possible.

    Example:
        >>> [part_of(8, 3, index) for index in range(3)]
        [3, 3, 2]
    """
    return total // n_parts + (index < total % n_parts)


def real_tokens(inputs: Mapping[str, Any]) -> Tensor:
    """Return the bool mask (B, T) of the tokens that are not padding, on the CPU."""
    mask = inputs.get("attention_mask")
    if mask is None:
        return torch.ones(inputs["input_ids"].shape, dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.shape != inputs["input_ids"].shape:
        raise InputError(
            "attention_mask",
            got=f"shape {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__,
            expected=f"shape {tuple(inputs['input_ids'].shape)}, 1 on real tokens",
            remedy=_remedy(inputs),
        )
    return mask.bool().cpu()


def padded(
    encodings: Sequence[Mapping[str, Sequence[int]]], padding: int, transformer: PreTrainedModel
) -> dict[str, Any]:
    """Return one batch of tokenised sentences, padded on the right, on the device of the model."""
    known = inspect.signature(transformer.forward).parameters
    longest = max(len(encoding["input_ids"]) for encoding in encodings)
    filled = {"input_ids": padding}  # all other inputs are 0 on padding
    rows = [
        {"attention_mask": [1] * len(encoding["input_ids"])} | {key: list(row) for key, row in encoding.items()}
        for encoding in encodings
    ]
    return {
        key: torch.tensor([row[key] + [filled.get(key, 0)] * (longest - len(row[key])) for row in rows]).to(
            transformer.device
        )
        for key in MODEL_INPUTS
        if key in known and all(key in row for row in rows)
    }


def _check_padding(inputs: Mapping[str, Any], transformer: PreTrainedModel) -> None:
    """Raise if there is padding without an attention mask, because the model would attend to it."""
    config: Any = transformer.config.get_text_config()  # of a model of text and images
    padding = getattr(config, "pad_token_id", None)
    if inputs.get("attention_mask") is not None or padding is None or padding == getattr(config, "eos_token_id", None):
        return
    if bool((inputs["input_ids"][:, [0, -1]] == padding).any()):
        raise InputError(
            "validation batch",
            got="padding but no attention_mask",
            expected="an attention_mask, 1 on real tokens; without it the model attends to padding",
            remedy="Add the tokenizer's attention_mask to the batch, and pass it to the model in training too.",
        )
