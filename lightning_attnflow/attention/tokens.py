"""Tokens and words of one sentence: tokenisation and special tokens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lightning_attnflow._checks import check_bool, check_text
from lightning_attnflow._words import counted
from lightning_attnflow.attention.limits import check_length, length_limit, position_limit
from lightning_attnflow.attention.prompts import (
    Message,
    chat_prompt,
    given_ids,
    is_messages,
    n_doubled,
    spans_of_ids,
    special_ids,
    text_of_ids,
)
from lightning_attnflow.errors import InputError

_FAST, _LOAD_FAST = "a fast tokenizer, which provides words or offsets", "Load it with AutoTokenizer.from_pretrained()."


@dataclass(frozen=True)
class EncodedText:
    """A tokenised sentence of T positions.

    Args:
        text: the sentence.
        inputs: keyword arguments of the model, integer tensors (1, T).
        tokens: (T,) names: slices of the text, the token itself for special tokens and ``##`` word pieces.
        is_special: bool (T,), True on special tokens ([CLS], <s>), added by the tokenizer or part of the text.
        words: (T,) number of the word of a position, None on special tokens; see `word_numbers`.
        spans: (T,) first and one-past-last character of a position in ``text``.
        n_uncut: number of tokens before truncation.
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

    def without(self, n_start: int, n_end: int) -> EncodedText:
        """Return the text without its first and last positions."""
        kept = slice(n_start, len(self) - n_end)
        return replace(
            self,
            inputs={key: value[:, kept] for key, value in self.inputs.items()},
            **{name: getattr(self, name)[kept] for name in ("tokens", "is_special", "words", "spans")},
        )


TextArgument = str | EncodedText | Sequence[int] | Sequence[Message] | Mapping[str, Any] | torch.Tensor


def encode_text(
    tokenizer: Any, text: TextArgument, *, max_length: int | None = None, truncate: bool = False
) -> EncodedText:
    """Tokenise one text.

    Special tokens inside a text, such as those of a chat template, are marked as special. If a text begins or ends with
    the tokens that the tokenizer adds (``<s>`` of a chat template), they are not added a second time.

    Args:
        tokenizer: a fast Hugging Face tokenizer; its offsets are needed for words and spans.
        text: a string; token ids (a sequence, or a tensor or array (T,) or (1, T)) or the output of a tokenizer, which
            are used as they are, without padding; chat messages, mappings with ``role`` and ``content``, to which the
            chat template is applied as in the text-generation pipeline of transformers; or an `EncodedText`.
        max_length: largest number of tokens; the tokenizer's own limit applies as well.
        truncate: cut a string with more tokens instead of raising.

    Raises:
        InputError: none of these, a slow tokenizer, no token other than special ones, too many tokens, or
            a ``truncate`` that is not a bool.

    Warns:
        UserWarning: a special token at the start or the end is doubled.
    """
    check_bool("truncate", truncate)
    if isinstance(text, EncodedText):
        return text
    if not getattr(tokenizer, "is_fast", False):
        raise InputError("tokenizer", got=type(tokenizer).__name__, expected=_FAST, remedy=_LOAD_FAST)
    limits = (length_limit(limit) for limit in (max_length, getattr(tokenizer, "model_max_length", None)))
    limit = min((limit for limit in limits if limit is not None), default=None)
    remedy = "Shorten the text."
    if isinstance(text, str):
        encoded = _encoded_string(tokenizer, check_text("text", text), limit if truncate else None)
        remedy = "Shorten the text, or cut it with truncate=True (--truncate)."
    elif is_messages(text):
        prompt = chat_prompt(tokenizer, text)  # type: ignore[arg-type]
        encoded = encoded_as(tokenizer, prompt, encode(tokenizer, prompt, add_special_tokens=False))
    else:
        encoded = _encoded_ids(tokenizer, given_ids(text, len(tokenizer)))
    check_tokens("text", encoded.text, encoded.is_special.tolist())
    check_length("text", len(encoded), limit, remedy=remedy)
    return encoded


def encode_for_model(model: nn.Module, tokenizer: Any, text: TextArgument, *, truncate: bool = False) -> EncodedText:
    """Tokenise one text within the positions of a Hugging Face model, see `encode_text`.

    Raises:
        InputError: as `encode_text`, or a token that the model has no embedding for.
    """
    encoded = encode_text(tokenizer, text, max_length=position_limit(model), truncate=truncate)
    try:
        embeddings: Any = model.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:  # methods that need embeddings refuse the model
        embeddings = None
    n_embeddings = len(getattr(embeddings, "weight", ())) or len(tokenizer)
    largest = int(encoded.inputs["input_ids"].max())
    if largest >= n_embeddings:
        raise InputError(
            f"token {tokenizer.convert_ids_to_tokens(largest)!r}",
            got=f"id {largest}",
            expected=f"an id in 0..{n_embeddings - 1}, as {type(model).__name__} has "
            f"{counted(n_embeddings, 'embedding')}",
            remedy="Use the tokenizer of the model, or call model.resize_token_embeddings(len(tokenizer)).",
        )
    return encoded


def check_tokens(name: str, text: str, special: Sequence[int]) -> None:
    """Raise if a sentence consists of special tokens only."""
    if all(special):
        raise InputError(name, got=f"{text!r}", expected="a sentence with at least one token that is not special")


def word_numbers(encoding: Any, text: str) -> tuple[int | None, ...]:
    """Return the number of the word of each position, None on special tokens.

    Words are the tokenizer's own pre-tokens. Tokenizers without pre-tokenisation (Llama) report the whole text as one
    word; then words are separated by white space.

    Raises:
        InputError: the tokenizer reports neither a word nor offsets for a token.
    """
    special = [bool(mark) for mark in encoding["special_tokens_mask"]]
    words = [None if mark else word for word, mark in zip(encoding.word_ids(), special, strict=True)]
    ordinary = [word for word, mark in zip(words, special, strict=True) if not mark]
    if None not in ordinary and (len(set(ordinary)) > 1 or len(text.split()) < 2):
        return tuple(words)
    spans = encoding["offset_mapping"]
    if any(end <= start for (start, end), mark in zip(spans, special, strict=True) if not mark):
        raise InputError("tokenizer", got="a token with neither a word nor offsets", expected=_FAST, remedy=_LOAD_FAST)
    return tuple(None if mark else _word_at(text, start) for (start, _), mark in zip(spans, special, strict=True))


def encode(tokenizer: Any, text: str, **options: Any) -> Any:
    """Return the encoding of a text, with all special tokens marked."""
    encoding = tokenizer(text, return_special_tokens_mask=True, return_offsets_mapping=True, verbose=False, **options)
    special, ids = special_ids(tokenizer), encoding["input_ids"]  # the mask of the tokenizer marks added tokens only
    mask = [int(mark or token in special) for mark, token in zip(encoding["special_tokens_mask"], ids, strict=True)]
    encoding["special_tokens_mask"] = mask
    return encoding


def _encoded_string(tokenizer: Any, text: str, limit: int | None) -> EncodedText:
    """Tokenise a string, cut to a number of tokens, without special tokens that it contains already."""
    encoding, special = encode(tokenizer, text), special_ids(tokenizer)
    ids = list(encoding["input_ids"])
    n_start, n_end = n_doubled(ids, special)
    is_added = [tuple(span) == (0, 0) for span in encoding["offset_mapping"]]
    n_start, n_end = n_start * all(is_added[:n_start]), n_end * all(is_added[len(ids) - n_end :])
    n_tokens = len(ids) - n_start - n_end
    if limit is not None and n_tokens > limit:
        cut = encode(tokenizer, text, truncation=True, max_length=limit + n_start)
        encoded, n_end = encoded_as(tokenizer, text, cut, n_tokens), 0
    else:
        encoded = encoded_as(tokenizer, text, encoding, n_tokens)
    if n_start or n_end:
        doubled = tokenizer.convert_ids_to_tokens(ids[:n_start] + ids[len(ids) - n_end :])
        warnings.warn(
            f"the text contains {' and '.join(doubled)}, which {type(tokenizer).__name__} adds as well; it is used "
            "once, as in the text",
            stacklevel=2,
        )
    return encoded.without(n_start, n_end)


def _encoded_ids(tokenizer: Any, given: dict[str, list[int]]) -> EncodedText:
    """Name the tokens of ids, which are used as they are."""
    ids, special = given["input_ids"], special_ids(tokenizer)
    n_start, _ = n_doubled(ids, special)
    if n_start:
        token = tokenizer.convert_ids_to_tokens(ids[0])
        warnings.warn(f"the token ids begin with {token} twice; they are used as they are", stacklevel=2)
    found = text_of_ids(tokenizer, ids, special)
    if found is not None:
        text, adds = found
        encoded = encoded_as(tokenizer, text, encode(tokenizer, text, add_special_tokens=adds), len(ids))
    else:
        text, spans = spans_of_ids(tokenizer, ids)
        is_special = np.array([token in special for token in ids])
        pieces = tokenizer.convert_ids_to_tokens(ids)
        encoded = EncodedText(
            text=text,
            inputs={"input_ids": torch.tensor([ids]), "attention_mask": torch.ones((1, len(ids)), dtype=torch.long)},
            tokens=tuple(text[a:b].strip() or str(piece) for (a, b), piece in zip(spans, pieces, strict=True)),
            is_special=is_special,
            words=tuple(
                None if mark else _word_at(text, start) for (start, _), mark in zip(spans, is_special, strict=True)
            ),
            spans=spans,
            n_uncut=len(ids),
        )
    types = {key: torch.tensor([row]) for key, row in given.items() if key == "token_type_ids"}
    return replace(encoded, inputs={**encoded.inputs, **types})


def encoded_as(tokenizer: Any, text: str, encoding: Any, n_uncut: int | None = None) -> EncodedText:
    """Name the tokens of an encoding."""
    spans = tuple((int(start), int(end)) for start, end in encoding["offset_mapping"])
    pieces = tokenizer.convert_ids_to_tokens(encoding["input_ids"])
    inputs = {key: value for key, value in encoding.items() if key not in ("special_tokens_mask", "offset_mapping")}
    return EncodedText(
        text=text,
        inputs={key: torch.tensor([value]) for key, value in inputs.items()},
        tokens=tuple(
            piece if piece.startswith("##") else text[start:end].strip() or piece
            for piece, (start, end) in zip(pieces, spans, strict=True)
        ),
        is_special=np.asarray(encoding["special_tokens_mask"], dtype=bool),
        words=word_numbers(encoding, text),
        spans=spans,
        n_uncut=len(spans) if n_uncut is None else n_uncut,
    )


def _word_at(text: str, start: int) -> int:
    """Number of the white-space separated word at or after the character ``start``."""
    first = len(text) - len(text[start:].lstrip())
    return len(text[: first + 1].split()) - 1
