"""How many positions a model can read."""

from __future__ import annotations

from typing import Any

from torch import nn


def position_limit(model: nn.Module) -> int | None:
    """Return how many tokens ``model`` can read, or None where its config names no limit.

    Models after RoBERTa count positions from ``padding_idx + 1``; the rows of the embedding below no token gets.

    Args:
        model: a Hugging Face model.

    Example:
        >>> from transformers import BertConfig, BertModel
        >>> size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
        >>> position_limit(BertModel(BertConfig(max_position_embeddings=40, **size)))
        40
    """
    config: Any = model.config
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if limit is None:
        return None
    for name, module in model.named_modules():
        padding = getattr(module, "padding_idx", None)
        if name.split(".")[-1] == "position_embeddings" and padding is not None:
            return int(limit) - int(padding) - 1
    return int(limit)
