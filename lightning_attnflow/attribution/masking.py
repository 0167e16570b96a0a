"""Token masking strategies: mask token, zero embedding, or exclusion from attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from lightning_attnflow._checks import check_choice
from lightning_attnflow.errors import InputError

MASKINGS = ("mask", "zero_embedding", "drop")


def resolve_masking(masking: str | None, tokenizer: Any) -> str:
    """Return the masking strategy.

    Args:
        masking: ``mask`` (replace by the mask token), ``zero_embedding`` (replace the word embedding by zeros),
            ``drop`` (exclude from attention), or None: ``mask`` if the tokenizer has a mask token, else
            ``zero_embedding``.
        tokenizer: its ``mask_token_id`` is read.
    """
    mask_id = getattr(tokenizer, "mask_token_id", None)
    if masking is None:
        return "zero_embedding" if mask_id is None else "mask"
    check_choice("masking", masking, MASKINGS)
    if masking == "mask" and mask_id is None:
        raise InputError(
            "masking",
            got=f"'mask' with {type(tokenizer).__name__}, which has no mask token",
            expected="'zero_embedding' or 'drop'",
        )
    return masking


def masked_inputs(
    present: torch.Tensor,
    input_ids: torch.Tensor,
    *,
    masking: str,
    token: int | None,
    embedding: Callable[[torch.Tensor], torch.Tensor],
) -> dict[str, torch.Tensor]:
    """Return the model inputs of m coalitions, keyword -> tensor of m rows.

    Args:
        present: bool (m, T), False on masked positions.
        input_ids: (1, T), the whole sentence.
        masking: ``zero_embedding``, ``drop``, or any other name for a token.
        token: its id.
        embedding: maps ids to word embeddings, for ``zero_embedding``.
    """
    everywhere = torch.ones_like(present, dtype=torch.long)
    ids = input_ids.expand(len(present), -1)
    if token is not None:
        return {"input_ids": ids.masked_fill(~present, token), "attention_mask": everywhere}
    if masking == "zero_embedding":
        vectors = embedding(input_ids) * present.unsqueeze(-1)  # (m, T, D)
        return {"inputs_embeds": vectors, "attention_mask": everywhere}
    return {"input_ids": ids, "attention_mask": present.long()}
