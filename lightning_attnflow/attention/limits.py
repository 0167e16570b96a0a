"""The largest number of tokens of a model and of a tokenizer."""

from __future__ import annotations

from typing import Any

from torch import nn

from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError

_NO_LIMIT = 10**9  # tokenizers without a limit report a huge number (1e30)


def check_length(name: str, n_tokens: int, limit: int | None, *, remedy: str = "Shorten it.") -> None:
    """Raise if a sentence has more tokens than the model has positions."""
    if limit is not None and n_tokens > limit:
        raise InputError(
            name,
            got=counted(n_tokens, "token"),
            expected=f"at most {counted(limit, 'token')}, the limit of the model",
            remedy=remedy,
        )


def length_limit(limit: float | None) -> int | None:
    """Return the largest number of tokens that a config or tokenizer states; None if it states none, as -1 or 1e30.

    Example:
        >>> length_limit(512), length_limit(-1), length_limit(1e30)
        (512, None, None)
    """
    return int(limit) if limit is not None and 0 < limit < _NO_LIMIT else None


def position_limit(model: nn.Module) -> int | None:
    """Return the largest number of tokens of a Hugging Face model, or None if its config states none.

    RoBERTa and its descendants number positions from ``padding_idx + 1``, which leaves fewer than the config states.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> position_limit(BertModel(BertConfig(max_position_embeddings=40, **size)))
        40
    """
    config: Any = model.config
    limit = length_limit(getattr(config.get_text_config(), "max_position_embeddings", None))
    if limit is None:
        return None
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.split(".")[-1] == "position_embeddings" and padding is not None:
            return limit - int(padding) - 1
    return limit
