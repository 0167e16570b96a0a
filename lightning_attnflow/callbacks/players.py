"""Who plays in a sentence: its words (or tokens), each with the positions it covers and a name to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attribution.text import word_numbers
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Players:
    """The players of one sentence without its padding.

    Args:
        labels: a name for each player.
        special: true on special tokens, which are players of their own.
        groups: the positions of each player; a partition of the sentence.
        text: the sentence, if it is known.
        by_word: whether tokens are joined into words.
    """

    labels: tuple[str, ...]
    special: NDArray[np.bool_]
    groups: tuple[tuple[int, ...], ...]
    text: str = ""
    by_word: bool = False


def encode_probe(tokenizer: PreTrainedTokenizerBase, text: str, name: str) -> dict[str, list[int]]:
    """Tokenise one probe sentence, with special tokens and without truncating it.

    Raises:
        InputError: no token but special ones, or more tokens than the tokenizer says the model takes.
    """
    encoding = tokenizer(text, return_special_tokens_mask=True)
    if all(encoding.pop("special_tokens_mask")):
        raise InputError(
            name,
            got=repr(text),
            expected="a sentence with at least one token of its own",
            remedy="Remove it from probes.",
        )
    check_length(len(encoding["input_ids"]), tokenizer.model_max_length, name)
    return {key: list(values) for key, values in encoding.items()}


def check_length(n_tokens: int, limit: int | None, name: str) -> None:
    """Raise an InputError if a probe is longer than the model can read."""
    if limit is not None and n_tokens > limit:
        raise InputError(
            name,
            got=f"{n_tokens} tokens",
            expected=f"at most {limit}, the model's limit",
            remedy="Shorten the probe; it is not cut silently.",
        )


def players_of(
    ids: Sequence[int], tokenizer: PreTrainedTokenizerBase | None, *, words: bool, known_text: str | None = None
) -> Players:
    """Name the tokens `ids` of one sentence, joined into words if the tokenizer can tell them.

    A text that is not known is decoded. It is tokenised again: only if that gives the very same ids are its words
    trusted, otherwise every token plays for itself.

    Args:
        ids: token ids of the sentence, special tokens included, padding not.
        tokenizer: None names tokens by their ids.
        words: join the tokens of a word.
        known_text: what the tokens were made of.
    """
    ids = [int(token) for token in ids]
    if tokenizer is None:
        return Players(tuple(map(str, ids)), np.zeros(len(ids), dtype=bool), _singletons(ids))
    ordinary = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    text = known_text or str(tokenizer.decode([token for token in ids if token not in ordinary]))
    if tokenizer.is_fast:
        encoding = tokenizer(text, return_offsets_mapping=True, return_special_tokens_mask=True)
        if list(encoding["input_ids"]) == ids:
            return _from_encoding(encoding, text, tokenizer, words)
    special = np.array([token in ordinary for token in ids])
    labels = [_token_label(tokenizer, token, bool(mark)) for token, mark in zip(ids, special, strict=True)]
    return Players(tuple(labels), special, _singletons(ids), text.strip())


def _from_encoding(encoding: Any, text: str, tokenizer: PreTrainedTokenizerBase, words: bool) -> Players:
    """Group positions by word; special tokens have none and stay alone."""
    groups: list[list[int]] = []
    previous = None
    for position, word in enumerate(word_numbers(encoding, text)):
        if words and word is not None and word == previous:
            groups[-1].append(position)
        else:
            groups.append([position])
        previous = word
    marks = encoding["special_tokens_mask"]
    special = np.array([bool(marks[group[0]]) for group in groups])
    labels = []
    for group, mark in zip(groups, special, strict=True):
        start, end = encoding["offset_mapping"][group[0]][0], encoding["offset_mapping"][group[-1]][1]
        written = text[start:end].strip()
        token = encoding["input_ids"][group[0]]
        labels.append(written if written and not mark else _token_label(tokenizer, token, bool(mark)))
    return Players(tuple(labels), special, tuple(map(tuple, groups)), text.strip(), by_word=words)


def _token_label(tokenizer: PreTrainedTokenizerBase, token: int, special: bool) -> str:
    name = str(tokenizer.convert_ids_to_tokens(token))
    if special:
        return name if name[:1] in "[<" else f"[{name}]"
    return str(tokenizer.decode([token])).strip() or name


def _singletons(ids: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    return tuple((position,) for position in range(len(ids)))
