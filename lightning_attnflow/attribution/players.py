"""Who plays: tokens, words or the user's spans, as groups of positions of one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attribution.text import EncodedText
from lightning_attnflow.errors import InputError

SPECIAL_POLICIES = ("present", "players")
PlayersArgument = str | Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Players:
    """n groups of the T positions of a sentence; positions in no group are always present.

    Args:
        kind: ``tokens``, ``words`` or ``spans``.
        special_tokens: ``present`` (special tokens never leave) or ``players`` (each is a player of its own).
        names: (n,) what a person reads.
        positions: (n,) groups of positions, in the order of the sentence.
        is_special: bool (n,), True on special tokens that play.
    """

    kind: str
    special_tokens: str
    names: tuple[str, ...]
    positions: tuple[tuple[int, ...], ...]
    is_special: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)

    def owners(self, n_positions: int) -> NDArray[np.intp]:
        """Return intp (T,): the player that a position belongs to, -1 for none."""
        owner = np.full(n_positions, -1, dtype=np.intp)
        for player, group in enumerate(self.positions):
            owner[list(group)] = player
        return owner


def make_players(encoded: EncodedText, players: PlayersArgument, special_tokens: str) -> Players:
    """Group the positions of a sentence into players.

    Args:
        encoded: the tokenised sentence.
        players: ``tokens``; ``words`` (the tokenizer's pre-split, where a mark of punctuation is a word; white space if
            it has none);
            or spans, pairs (first character, one past the last) that cover every token once.
        special_tokens: ``present`` or ``players``.

    Returns:
        The players, in the order of their first positions.

    Raises:
        InputError: an unknown kind or policy; spans that overlap, are empty or leave a token out.
    """
    if special_tokens not in SPECIAL_POLICIES:
        raise InputError(
            "special_tokens", got=repr(special_tokens), expected=" or ".join(SPECIAL_POLICIES), remedy="Pick one."
        )
    owner = _owners(encoded, players)  # (T,) the key of the group a position is in, None on special tokens
    groups: dict[int, list[int]] = {}
    for position, key in enumerate(owner):
        if key is not None:
            groups.setdefault(key, []).append(position)
        elif special_tokens == "players":
            groups[-1 - position] = [position]
    ordered = sorted((tuple(group) for group in groups.values()), key=lambda group: group[0])
    kind = players if isinstance(players, str) else "spans"
    return Players(
        kind=kind,
        special_tokens=special_tokens,
        names=tuple(_name(encoded, group, kind) for group in ordered),
        positions=tuple(ordered),
        is_special=np.array([bool(encoded.is_special[group[0]]) for group in ordered]),
    )


def _owners(encoded: EncodedText, players: PlayersArgument) -> list[int | None]:
    if isinstance(players, str):
        if players == "tokens":
            return [None if special else position for position, special in enumerate(encoded.is_special)]
        if players == "words":
            return list(encoded.words)
    if isinstance(players, str) or not _are_pairs(players):
        raise InputError(
            "players",
            got=repr(players),
            expected="'tokens', 'words' or pairs of character offsets",
            remedy="For spans pass e.g. players=[(0, 4), (5, 11)].",
        )
    return _span_owners(encoded, players)


def _are_pairs(spans: object) -> bool:
    return isinstance(spans, (Sequence, np.ndarray)) and all(
        isinstance(span, (Sequence, np.ndarray))
        and len(span) == 2
        and all(isinstance(offset, (int, np.integer)) for offset in span)
        for span in spans
    )


def _span_owners(encoded: EncodedText, spans: Sequence[tuple[int, int]]) -> list[int | None]:
    owner: list[int | None] = []
    for special, (start, end) in zip(encoded.is_special, encoded.spans, strict=True):
        touching = [key for key, (first, last) in enumerate(spans) if first < end and start < last]
        if not special and len(touching) != 1:
            raise InputError(
                "players",
                got=f"{len(touching)} spans that touch characters {start}:{end} ({encoded.text[start:end]!r})",
                expected="spans that hold every token exactly once",
                remedy="Let the spans partition the text; whitespace may lie anywhere.",
            )
        owner.append(None if special else touching[0])
    empty = [tuple(span) for key, span in enumerate(spans) if key not in owner]
    if empty:
        raise InputError("players", got=f"spans {empty} without a token", expected="a token each", remedy="Drop them.")
    return owner


def _name(encoded: EncodedText, group: tuple[int, ...], kind: str) -> str:
    if kind == "tokens" or encoded.is_special[group[0]]:
        return encoded.tokens[group[0]]
    start, end = encoded.spans[group[0]][0], encoded.spans[group[-1]][1]
    return encoded.text[start:end].strip() or encoded.tokens[group[0]]
