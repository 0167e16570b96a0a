"""The rows of a padded batch of model inputs as single sentences, without their padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from lightning_attnflow.attention.tokens import EncodedText, encode_text
from lightning_attnflow.errors import InputError


def unpadded_rows(inputs: Mapping[str, Any]) -> list[dict[str, torch.Tensor]]:
    """Return the inputs (1, n) of every row of a batch (B, T), without the positions whose attention mask is 0.

    Raises:
        InputError: no token ids (B, T), or an attention mask of another shape.
    """
    ids = inputs.get("input_ids")
    if not isinstance(ids, torch.Tensor) or ids.ndim != 2:
        got = "none" if ids is None else str(tuple(getattr(ids, "shape", ())) or type(ids).__name__)
        raise InputError("input_ids", got=got, expected="a tensor (B, T)")
    mask = inputs.get("attention_mask")
    mask = torch.ones_like(ids) if mask is None else mask
    if not isinstance(mask, torch.Tensor) or mask.shape != ids.shape:
        raise InputError("attention_mask", got=str(getattr(mask, "shape", mask)), expected=f"shape {tuple(ids.shape)}")
    by_position = {key: x for key, x in inputs.items() if isinstance(x, torch.Tensor) and x.shape == ids.shape}
    with torch.inference_mode(mode=False):  # inference tensors, as in trainer.validate, have no gradients
        return [
            {key: x[row : row + 1, kept.to(x.device)].clone() for key, x in by_position.items()}
            for row, kept in enumerate(mask.bool())
        ]


def encoded_rows(tokenizer: Any, inputs: Mapping[str, Any]) -> list[EncodedText]:
    """Return the rows of a batch with the names of their tokens."""
    model_inputs = {key: tensor for key, tensor in inputs.items() if key != "labels"}
    rows = unpadded_rows(model_inputs)
    return [replace(encode_text(tokenizer, row["input_ids"].cpu()), inputs=row) for row in rows]
