"""What it means that a token is absent: masked, zeroed, or dropped from everybody's attention."""

from __future__ import annotations

from typing import Any

import torch

from lightning_attnflow.errors import InputError

ABSENT_MODES = ("mask", "zero_embedding", "drop")


def resolve_absent(absent: str | None, tokenizer: Any) -> str:
    """Choose how absent tokens look to the model.

    Args:
        absent: ``mask`` (the mask token in their place), ``zero_embedding`` (a word embedding of zeros), ``drop``
            (no position may attend to them), or None: the mask token if the tokenizer has one, else zeros.
        tokenizer: its ``mask_token_id`` decides.

    Returns:
        The mode, by name.

    Raises:
        InputError: an unknown mode, or ``mask`` without a mask token.
    """
    mask_id = getattr(tokenizer, "mask_token_id", None)
    if absent is None:
        return "zero_embedding" if mask_id is None else "mask"
    if absent not in ABSENT_MODES:
        raise InputError("absent", got=repr(absent), expected=f"one of {', '.join(ABSENT_MODES)}", remedy="Pick one.")
    if absent == "mask" and mask_id is None:
        raise InputError(
            "absent",
            got=f"'mask' with {type(tokenizer).__name__}, which has no mask token",
            expected="a tokenizer with a mask token",
            remedy="Pass absent='zero_embedding' or absent='drop'.",
        )
    return absent


def absent_inputs(
    present: torch.Tensor, input_ids: torch.Tensor, *, mode: str, mask_id: int | None, embedding: torch.nn.Module
) -> dict[str, torch.Tensor]:
    """Write the model inputs of m coalitions.

    Args:
        present: bool (m, T), True where a position is present.
        input_ids: (1, T) of the whole sentence.
        mode: ``mask``, ``zero_embedding`` or ``drop``.
        mask_id: id of the mask token, for ``mask``.
        embedding: the word embedding of the model, for ``zero_embedding``.

    Returns:
        Keyword arguments of the model, each with m rows of T positions: none is padded.
    """
    everywhere = torch.ones_like(present, dtype=torch.long)
    ids = input_ids.expand(len(present), -1)
    if mode == "mask":
        assert mask_id is not None  # resolve_absent has checked it
        return {"input_ids": ids.masked_fill(~present, mask_id), "attention_mask": everywhere}
    if mode == "zero_embedding":
        vectors = embedding(input_ids) * present.unsqueeze(-1)  # (m, T, D)
        return {"inputs_embeds": vectors, "attention_mask": everywhere}
    return {"input_ids": ids, "attention_mask": present.long()}
