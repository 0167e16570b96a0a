"""One sentence as a model sees it: ids, the pieces a person reads, special tokens, words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError

# Tokenizers without a limit report a huge number (1e30) instead of none.
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class EncodedText:
    """A tokenised sentence of T positions.

    Args:
        text: the sentence as given.
        inputs: what the tokenizer made of it, keyword -> integer tensor (1, T).
        tokens: (T,) names a person can read: slices of the text, ``##`` kept on continued WordPieces.
        is_special: bool (T,), True on tokens the tokenizer added ([CLS], [SEP], <s>).
        words: (T,) number of the word a position belongs to, None on special tokens.
        spans: (T,) first and one-past-last character of a position in ``text``.
    """

    text: str
    inputs: Mapping[str, torch.Tensor]
    tokens: tuple[str, ...]
    is_special: NDArray[np.bool_]
    words: tuple[int | None, ...]
    spans: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.tokens)


def encode_text(tokenizer: Any, text: str, *, max_length: int | None = None, truncate: bool = False) -> EncodedText:
    """Tokenise one sentence, and refuse what a model could not read whole.

    Args:
        tokenizer: a fast Hugging Face tokenizer (words and spans need its offsets).
        text: the sentence.
        max_length: positions the model can read; the tokenizer's own limit counts too.
        truncate: cut a sentence that is too long instead of refusing it.

    Returns:
        The encoded sentence.

    Raises:
        InputError: no text, nothing but special tokens, more positions than the model has, or a slow tokenizer.
    """
    if not isinstance(text, str):
        raise InputError("text", got=type(text).__name__, expected="one str", remedy="Explain one sentence at a time.")
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            "tokenizer",
            got=type(tokenizer).__name__,
            expected="a fast tokenizer, which knows offsets and words",
            remedy="Load it with AutoTokenizer.from_pretrained(...).",
        )
    limit = min(max_length or _NO_LIMIT, getattr(tokenizer, "model_max_length", _NO_LIMIT))
    cut = {"truncation": True, "max_length": limit} if truncate and limit < _NO_LIMIT else {}
    encoding = tokenizer(text, return_special_tokens_mask=True, return_offsets_mapping=True, verbose=False, **cut)
    is_special = np.asarray(encoding["special_tokens_mask"], dtype=bool)
    _check_length(text, is_special, limit)
    spans = tuple((int(start), int(end)) for start, end in encoding["offset_mapping"])
    pieces = tokenizer.convert_ids_to_tokens(encoding["input_ids"])
    aside = ("special_tokens_mask", "offset_mapping")
    return EncodedText(
        text=text,
        inputs={key: torch.tensor([value]) for key, value in encoding.items() if key not in aside},
        tokens=tuple(_readable(text, piece, *span) for piece, span in zip(pieces, spans, strict=True)),
        is_special=is_special,
        words=tuple(None if special else word for word, special in zip(encoding.word_ids(), is_special, strict=True)),
        spans=spans,
    )


def _check_length(text: str, is_special: NDArray[np.bool_], limit: int) -> None:
    if is_special.all():
        raise InputError(
            "text",
            got=f"{text!r}, which tokenises to nothing but {len(is_special)} special tokens",
            expected="at least one token of its own",
            remedy="Pass a sentence with words in it.",
        )
    if len(is_special) > limit:
        raise InputError(
            "text",
            got=f"{len(is_special)} tokens",
            expected=f"at most the {limit} positions of the model",
            remedy="Shorten the text, or pass truncate=True to explain its beginning only.",
        )


def _readable(text: str, piece: str, start: int, end: int) -> str:
    if piece.startswith("##"):
        return piece
    return text[start:end].strip() or piece
