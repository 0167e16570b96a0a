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
        words: (T,) number of the word a position belongs to, None on special tokens; see `word_numbers`.
        spans: (T,) first and one-past-last character of a position in ``text``.
        n_uncut: tokens of the whole text; more than T if it was cut.
    """

    text: str
    inputs: Mapping[str, torch.Tensor]
    tokens: tuple[str, ...]
    is_special: NDArray[np.bool_]
    words: tuple[int | None, ...]
    spans: tuple[tuple[int, int], ...]
    n_uncut: int

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
        words=word_numbers(encoding, text),
        spans=spans,
        n_uncut=len(tokenizer(text, verbose=False)["input_ids"]) if len(spans) == limit else len(spans),
    )


def word_numbers(encoding: Any, text: str) -> tuple[int | None, ...]:
    """Return the number of the word that each position belongs to, None on special tokens.

    Words are the tokenizer's own pre-split. Tokenizers of the Llama kind have none and call the whole text one word:
    their words are those between white space.

    Args:
        encoding: of a fast tokenizer, with ``offset_mapping`` and ``special_tokens_mask``.
        text: what was tokenised.

    Raises:
        InputError: a tokenizer that tells no word, and no offsets either, of a token of the text.
    """
    special = [bool(mark) for mark in encoding["special_tokens_mask"]]
    told = [None if mark else word for word, mark in zip(encoding.word_ids(), special, strict=True)]
    own = [word for word, mark in zip(told, special, strict=True) if not mark]
    if None not in own and (len(set(own)) > 1 or len(text.split()) < 2):
        return tuple(told)
    spans = encoding["offset_mapping"]
    if any(end <= start for (start, end), mark in zip(spans, special, strict=True) if not mark):
        raise InputError(
            "tokenizer",
            got="a token of the text with neither a word nor offsets",
            expected="a fast tokenizer that tells the words, or the characters, of its tokens",
            remedy="Load it with AutoTokenizer.from_pretrained(...).",
        )
    return tuple(None if mark else _word_at(text, start) for (start, _), mark in zip(spans, special, strict=True))


def _word_at(text: str, start: int) -> int:
    """Number of the word between white space that has the first character at or after ``start`` which is no space."""
    first = len(text) - len(text[start:].lstrip())
    return len(text[: first + 1].split()) - 1


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
