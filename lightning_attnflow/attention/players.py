"""Players of one sentence: groups of its positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_choice, is_integer
from lightning_attnflow._words import counted
from lightning_attnflow.attention.prompts import special_ids
from lightning_attnflow.attention.tokens import EncodedText, encode, encoded_as
from lightning_attnflow.errors import InputError

PlayersArgument = str | Sequence[tuple[int, int]]
SPECIAL_POLICIES = ("present", "players")


@dataclass(frozen=True, eq=False)
class Players:
    """n groups of the T positions of a sentence; positions without a group are always present.

    Args:
        kind: ``tokens``, ``words`` or ``spans``.
        special_tokens: ``present`` (special tokens are no players) or ``players`` (each is a player).
        names: (n,) names for display.
        positions: (n,) groups of positions, sorted by their first position.
        is_special: bool (n,), True on special tokens.
        text: the sentence, empty if unknown.
    """

    kind: str
    special_tokens: str
    names: tuple[str, ...]
    positions: tuple[tuple[int, ...], ...]
    is_special: NDArray[np.bool_]
    text: str = ""

    def __len__(self) -> int:
        return len(self.names)

    def owners(self, n_positions: int) -> NDArray[np.intp]:
        """Return intp (T,): the player of each position, -1 for none."""
        owner = np.full(n_positions, -1, dtype=np.intp)
        for player, group in enumerate(self.positions):
            owner[list(group)] = player
        return owner

    @classmethod
    def of_text(cls, encoded: EncodedText, players: PlayersArgument, special_tokens: str) -> Players:
        """Group the positions of a tokenised sentence.

        Args:
            encoded: the tokenised sentence.
            players: ``tokens``; ``words`` (see `word_numbers`); or spans, pairs (first character, one past the last)
                that contain every token once.
            special_tokens: ``present`` or ``players``.
        """
        check_choice("special_tokens", special_tokens, SPECIAL_POLICIES)
        groups: dict[int, list[int]] = {}
        for position, key in enumerate(_owners(encoded, players)):
            if key is not None:
                groups.setdefault(key, []).append(position)
            elif special_tokens == "players":
                groups[-1 - position] = [position]
        positions = tuple(sorted((tuple(group) for group in groups.values()), key=lambda group: group[0]))
        kind = players if isinstance(players, str) else "spans"
        return cls(
            kind=kind,
            special_tokens=special_tokens,
            names=tuple(_name(encoded, group, kind) for group in positions),
            positions=positions,
            is_special=np.array([bool(encoded.is_special[group[0]]) for group in positions]),
            text=encoded.text,
        )

    @classmethod
    def of_ids(cls, ids: Sequence[int], tokenizer: Any, *, words: bool, known_text: str | None = None) -> Players:
        """Group the token ids of one sentence of a batch; special tokens are players.

        Without a known text the ids are decoded. Words need a text that tokenises to exactly these ids; otherwise every
        token is a player.
        """
        ids = [int(token) for token in ids]
        alone = tuple((position,) for position in range(len(ids)))
        if tokenizer is None:
            return cls("tokens", "players", tuple(map(str, ids)), alone, np.zeros(len(ids), dtype=bool))
        marked = special_ids(tokenizer)
        text = known_text or str(tokenizer.decode([token for token in ids if token not in marked]))
        if tokenizer.is_fast:
            encoding = encode(tokenizer, text)
            if list(encoding["input_ids"]) == ids:
                encoded = encoded_as(tokenizer, text, encoding)
                return cls.of_text(encoded, "words" if words else "tokens", "players")
        pieces = tokenizer.convert_ids_to_tokens(ids)
        special = np.array([token in marked for token in ids])
        names = [
            str(piece) if mark else str(tokenizer.decode([token])).strip() or str(piece)
            for token, piece, mark in zip(ids, pieces, special, strict=True)
        ]
        return cls("tokens", "players", tuple(names), alone, special, text)


def _owners(encoded: EncodedText, players: PlayersArgument) -> list[int | None]:
    """The group of each position, None on special tokens."""
    if isinstance(players, str) and players == "tokens":
        return [None if special else position for position, special in enumerate(encoded.is_special)]
    if isinstance(players, str) and players == "words":
        return list(encoded.words)
    if isinstance(players, str) or not _are_pairs(players):
        raise InputError(
            "players",
            got=repr(players),
            expected="'tokens', 'words' or pairs of character offsets such as [(0, 4), (5, 11)]",
        )
    owner: list[int | None] = []
    for special, span in zip(encoded.is_special, encoded.spans, strict=True):
        start, end = _without_blanks(encoded.text, *span)
        touching = [key for key, (first, last) in enumerate(players) if first < end and start < last]
        if not special and len(touching) != 1:
            raise InputError(
                "players",
                got=f"{counted(len(touching), 'span')} that overlap characters {start}:{end} "
                f"({encoded.text[start:end]!r})",
                expected="spans that contain every token exactly once",
            )
        owner.append(None if special else touching[0])
    empty = [tuple(span) for key, span in enumerate(players) if key not in owner]
    if empty:
        raise InputError("players", got=f"spans {empty} without a token", expected="at least one token in every span")
    return owner


def _without_blanks(text: str, start: int, end: int) -> tuple[int, int]:
    """The characters of a token without the white space around them, all of them if there is nothing else."""
    token = text[start:end]
    if not token.strip():
        return start, end
    return start + len(token) - len(token.lstrip()), end - len(token) + len(token.rstrip())


def _are_pairs(spans: object) -> bool:
    kinds = (Sequence, np.ndarray)
    return (
        isinstance(spans, kinds)
        and getattr(spans, "ndim", 1) > 0
        and all(isinstance(span, kinds) and len(span) == 2 and all(map(is_integer, span)) for span in spans)
    )


def _name(encoded: EncodedText, group: tuple[int, ...], kind: str) -> str:
    if kind == "tokens" or encoded.is_special[group[0]]:
        return encoded.tokens[group[0]]
    start, end = encoded.spans[group[0]][0], encoded.spans[group[-1]][1]
    return encoded.text[start:end].strip() or encoded.tokens[group[0]]
