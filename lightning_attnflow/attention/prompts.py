"""Texts given as chat messages or token ids, and the special tokens inside a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from lightning_attnflow._checks import check_text, is_integer
from lightning_attnflow.errors import InputError

Message = Mapping[str, Any]
_USED_KEYS = ("input_ids", "attention_mask", "token_type_ids")
_UNUSED_KEYS = ("special_tokens_mask", "offset_mapping", "assistant_masks", "length")


def special_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the special tokens, without those of unknown and of masked words."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    special = {*tokenizer.all_special_ids, *(token for token, content in added.items() if content.special)}
    other = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "cls", "sep", "pad")}
    return special - ({tokenizer.unk_token_id, tokenizer.mask_token_id} - other)  # GPT-2 has one token for all of them


def is_messages(text: object) -> bool:
    """Whether a text is a list of chat messages."""
    return isinstance(text, Sequence) and len(text) > 0 and all(isinstance(message, Mapping) for message in text)


def chat_prompt(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Return the prompt of chat messages, after which the model writes.

    As in the text-generation pipeline of transformers, a last message of the assistant is continued; after any other
    one the header of the assistant's answer follows.

    Raises:
        InputError: a message without role or content, or the tokenizer has no chat template that accepts the messages.
    """
    for number, message in enumerate(messages):
        if not isinstance(message.get("role"), str) or "content" not in message:
            raise InputError(f"messages[{number}]", got=f"the keys {sorted(message)}", expected="role and content")
        if isinstance(message["content"], str):
            check_text(f"messages[{number}]", message["content"])
    continued = messages[-1]["role"] == "assistant"
    try:
        return str(
            tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tokenize=False,
                add_generation_prompt=not continued,
                continue_final_message=continued,
            )
        )
    except Exception as error:  # a template raises whatever its author chose
        raise InputError(
            "messages",
            got=f"a chat template that fails ({type(error).__name__}: {' '.join(str(error).split())[:160]})",
            expected="a tokenizer whose chat_template accepts these messages",
        ) from error


def given_ids(text: object, n_ids: int) -> dict[str, list[int]]:
    """Return token ids without padding, and token type ids where there are any.

    Args:
        text: a sequence, array or tensor of ids, (T,) or (1, T), or the output of a tokenizer.
        n_ids: number of ids of the tokenizer.

    Raises:
        InputError: anything else, or an id out of range.
    """
    found = dict(text) if isinstance(text, Mapping) else {"input_ids": text}
    unknown = sorted(set(map(str, found)) - {*_USED_KEYS, *_UNUSED_KEYS})
    if "input_ids" not in found or unknown:
        raise InputError("text", got=f"a mapping with the keys {sorted(map(str, found))}", expected="input_ids")
    rows = {key: _row(key, found[key]) for key in _USED_KEYS if key in found}
    if len({len(row) for row in rows.values()}) > 1:
        raise InputError("text", got={key: len(row) for key, row in rows.items()}, expected="rows of equal length")
    ids, kept = rows["input_ids"], rows.pop("attention_mask", None)
    if not ids or not all(0 <= token < n_ids for token in ids):
        got = f"ids in {min(ids)}..{max(ids)}" if ids else "no ids"
        raise InputError("text", got=got, expected=f"token ids in 0..{n_ids - 1}, those of the tokenizer")
    return rows if kept is None else {k: [i for i, use in zip(v, kept, strict=True) if use] for k, v in rows.items()}


def _row(key: str, ids: Any) -> list[int]:
    if isinstance(ids, (torch.Tensor, np.ndarray)):
        ids = ids.tolist()
    if isinstance(ids, Sequence) and len(ids) == 1 and isinstance(ids[0], Sequence) and not isinstance(ids[0], str):
        ids = ids[0]
    if isinstance(ids, (str, bytes)) or not isinstance(ids, Sequence) or not all(map(is_integer, ids)):
        is_list = isinstance(ids, Sequence) and not isinstance(ids, (str, bytes))
        is_pair = is_list and len(ids) == 2 and all(isinstance(part, str) for part in ids)
        raise InputError(
            "text" if key == "input_ids" else key,
            got=f"{ids[:3]!r}{' ...' if len(ids) > 3 else ''}" if is_list else type(ids).__name__,
            expected="one string, the token ids of one text, or a list of chat messages",
            remedy="For a pair of texts pass tokenizer(first, second)." if is_pair else None,
        )
    return [int(token) for token in ids]


def spans_of_ids(tokenizer: Any, ids: Sequence[int]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Return the text of token ids and the characters of each, for ids that no text is tokenised to."""
    prefixes = [_decoded(tokenizer, ids[: n + 1]) for n in range(len(ids))]
    text = prefixes[-1]
    ends = np.maximum.accumulate([min(len(prefix), len(text)) for prefix in prefixes]).tolist()
    return text, tuple(zip([0, *ends[:-1]], ends, strict=True))


def text_of_ids(tokenizer: Any, ids: Sequence[int], special: set[int]) -> tuple[str, bool] | None:
    """Return a text that is tokenised to the ids and whether special tokens are added to it, or None."""
    ordinary = [position for position, token in enumerate(ids) if token not in special]
    if not ordinary:
        return None
    for text, adds in (
        (_decoded(tokenizer, ids[ordinary[0] : ordinary[-1] + 1]), True),
        (_decoded(tokenizer, ids), False),
    ):
        if list(tokenizer(text, add_special_tokens=adds, verbose=False)["input_ids"]) == list(ids):
            return text, adds
    return None


def n_doubled(ids: Sequence[int], special: set[int]) -> tuple[int, int]:
    """Return how many special tokens at the start and at the end of the ids are repeated."""
    return _n_repeated(ids, special), _n_repeated(ids[::-1], special)


def _n_repeated(ids: Sequence[int], special: set[int]) -> int:
    for n in (1, 2):  # some tokenizers add two tokens
        if len(ids) >= 2 * n and ids[:n] == ids[n : 2 * n] and set(ids[:n]) <= special:
            return n
    return 0


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False))
