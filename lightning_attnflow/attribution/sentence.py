"""What every explanation method starts from: one model, one sentence, and who plays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.attention.capture import capture_attention
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.readout import choose_readout, is_causal
from lightning_attnflow.attention.tokens import EncodedText, Players, PlayersArgument, encode_text, position_limit
from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.payoff import Payoff
from lightning_attnflow.attribution.reader import LogitReader
from lightning_attnflow.attribution.token_game import TokenGame
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import CachedGame

Heads = Literal["mean", "max", "min"] | int


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence, the model that reads it and the players; attention is captured once, when first asked for.

    Args:
        model: a Hugging Face sequence classifier or causal LM.
        tokenizer: its fast tokenizer.
        text: the sentence.
        players: ``tokens``, ``words`` or spans.
        special_tokens: ``present``, ``players``, or None: the policy usual for the method.
        truncate: cut a text that is too long.
        seed: of everything random.

    Raises:
        InputError: no Hugging Face model, or a seed that is no integer >= 0.
    """

    model: torch.nn.Module
    tokenizer: Any
    text: str
    players: PlayersArgument = "tokens"
    special_tokens: str | None = None
    truncate: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        LogitReader(self.model)  # refuses what no method can read
        check_seed(self.seed)

    @cached_property
    def encoded(self) -> EncodedText:
        """The tokenised sentence."""
        limit = position_limit(self.model)
        return encode_text(self.tokenizer, self.text, max_length=limit, truncate=self.truncate)

    @cached_property
    def attentions(self) -> list[NDArray[np.float64]]:
        """L arrays (heads, T, T), ``[head, query, key]``."""
        device = next(self.model.parameters()).device
        inputs = {key: value.to(device) for key, value in self.encoded.inputs.items()}
        return [layer[0].double().cpu().numpy() for layer in capture_attention(self.model, inputs)]

    def network(self, *, heads: Heads = "mean", residual: float = 0.5, readout: Any = "auto") -> AttentionNetwork:
        """Return the attention network; for ``readout="auto"`` see `choose_readout`."""
        if isinstance(readout, str) and readout == "auto":
            readout, _ = choose_readout(self.model, causal=is_causal(self.attentions))
        return AttentionNetwork.from_attentions(self.attentions, heads=heads, residual=residual, readout=readout)

    def game(
        self,
        *,
        players: PlayersArgument | None = None,
        target: int | None = None,
        payoff: str | Payoff = "log_probability",
        absent: str | None = None,
        batch_size: int = 32,
    ) -> TokenGame:
        """Return the token game; special tokens are present and do not play unless the user says so."""
        return TokenGame(
            self.model,
            self.tokenizer,
            self.text,
            target=target,
            payoff=payoff,
            players=self.players if players is None else players,
            absent=absent,
            special_tokens=self.special_tokens or "present",
            batch_size=batch_size,
            truncate=self.truncate,
        )

    def remembered_game(self, payoff: str | Payoff = "log_probability") -> CachedGame:
        """Return the token game of a payoff, the same object each time, which asks the model once a coalition."""
        if payoff not in self._games:
            self._games[payoff] = CachedGame(self.game(payoff=payoff))
        return self._games[payoff]

    @cached_property
    def _games(self) -> dict[str | Payoff, CachedGame]:
        return {}

    def groups(self, default_policy: str) -> Players:
        """Return the players, with the method's usual policy for special tokens if the user named none."""
        return Players.of_text(self.encoded, self.players, self.special_tokens or default_policy)

    def summed(self, attribution: TokenAttribution, groups: Players) -> TokenAttribution:
        """Return the values of words or spans as sums of the values of their tokens."""
        row_of = {positions[0]: row for row, positions in enumerate(attribution.positions)}
        rows = [[row_of[position] for position in group] for group in groups.positions]
        return attribution.grouped(rows, groups.names, groups.kind)

    def by_position(
        self, values: NDArray[np.float64], method: str, default_policy: str, **facts: Any
    ) -> TokenAttribution:
        """Return the attribution of values (T,), one a position, summed over the positions of a player."""
        tokens = Players.of_text(self.encoded, "tokens", "players")
        attribution = self._of_players(tokens, values, method, **facts)
        groups = self.groups(default_policy)
        if groups.kind != "tokens":
            return replace(self.summed(attribution, groups), special_tokens=groups.special_tokens)
        kept = attribution if groups.special_tokens == "players" else attribution.without_special()
        return replace(kept, special_tokens=groups.special_tokens)

    def by_player(self, groups: Players, values: NDArray[np.float64], method: str, **facts: Any) -> TokenAttribution:
        """Return the attribution of values (n,), one a player."""
        grouping = None if groups.kind == "tokens" else "quotient"
        return self._of_players(groups, values, method, grouping=grouping, **facts)

    def _of_players(
        self,
        groups: Players,
        values: NDArray[np.float64],
        method: str,
        *,
        details: Mapping[str, float] = MappingProxyType({}),
        **facts: Any,
    ) -> TokenAttribution:
        kept, in_all = len(self.encoded), self.encoded.n_uncut
        cut = {"tokens_kept": float(kept), "tokens_in_all": float(in_all)} if kept < in_all else {}
        return TokenAttribution(
            tokens=groups.names,
            values=values,
            method=method,
            positions=groups.positions,
            is_special=groups.is_special,
            players=groups.kind,
            special_tokens=groups.special_tokens,
            text=self.text,
            details={**details, **cut},
            **facts,
        )


def check_grouping(grouping: str) -> str:
    """Return ``sum`` or ``quotient``, or raise."""
    if grouping not in ("sum", "quotient"):
        raise InputError(
            "grouping",
            got=repr(grouping),
            expected="'quotient' (words play) or 'sum' (tokens play, their values are added up)",
            remedy="Pick one.",
        )
    return grouping
