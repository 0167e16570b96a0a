"""One result type for every explanation method: values of tokens, words or spans, and where they come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attribution.html import colour_tokens
from lightning_attnflow.errors import InputError

FloatArray = NDArray[np.float64]
_ARRAYS = ("values", "stderr", "low", "high")
MAXIMUM_FLOWS, BOUNDS_ON_MAXIMUM_FLOWS = "maximum flows", "bounds on maximum flows"


@dataclass(frozen=True, eq=False)
class TokenAttribution:
    """What a method says about the n players of one sentence.

    Args:
        tokens: (n,) names of the players, in the order of the sentence.
        values: float (n,), one value a player, in the unit of the payoff (nats, probability, share of a flow of 1).
        method: name of the method.
        positions: (n,) groups of positions in the tokenised sentence.
        is_special: bool (n,), True on special tokens such as [CLS].
        players: ``tokens``, ``words`` or ``spans``.
        special_tokens: ``present`` (always there, no players) or ``players``.
        text: the sentence.
        payoff, target, absent: what the values are about, None for methods that take none.
        layer: the layer of an attention method, else None.
        grouping: how several tokens became one player, ``sum`` or ``quotient``; None where every token plays alone.
        stderr: float (n,) of sampled methods, else None.
        low, high: float (n,) or None; what they bound is said by ``interval``.
        interval: ``confidence 0.95``; ``maximum flows`` (all values that some maximum flow attains); ``bounds on
            maximum flows`` (sums of those of several tokens: no maximum flow is outside, not all inside are attained,
            since the tokens of a word need not have their least or most flow at once); or None.
        v_empty, v_full: payoff of nobody and of everybody, None for methods without a game.
        details: further numbers of the method, by name (evaluations, saturation, ambiguity).

    Raises:
        InputError: arrays that are not of one length.

    Example:
        >>> attribution = TokenAttribution(("fine", "film"), np.array([0.5, -0.1]), "leave_one_out", ((1,), (2,)))
        >>> round(attribution.total, 4), attribution.top(1)
        (0.4, [('fine', 0.5)])
        >>> print(attribution)
        leave_one_out of 2 tokens
            +0.5000  fine
            -0.1000  film
    """

    tokens: tuple[str, ...]
    values: FloatArray
    method: str
    positions: tuple[tuple[int, ...], ...]
    is_special: NDArray[np.bool_] | None = None
    players: str = "tokens"
    special_tokens: str = "present"
    text: str = ""
    payoff: str | None = None
    target: int | None = None
    absent: str | None = None
    layer: int | None = None
    grouping: str | None = None
    stderr: FloatArray | None = None
    low: FloatArray | None = None
    high: FloatArray | None = None
    interval: str | None = None
    v_empty: float | None = None
    v_full: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        special = np.zeros(len(self.tokens), dtype=bool) if self.is_special is None else self.is_special
        object.__setattr__(self, "is_special", np.array(special, dtype=bool))
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        for name in (*_ARRAYS, "is_special", "positions"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.tokens):
                raise InputError(
                    name,
                    got=f"{len(column)} entries",
                    expected=f"{len(self.tokens)}, one a token",
                    remedy="Align them.",
                )
            if isinstance(column, np.ndarray):
                column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def total(self) -> float:
        """Sum of the values."""
        return float(self.values.sum())

    @property
    def efficiency_gap(self) -> float | None:
        """``v(N) - v(empty) - sum(values)``, or None for a method without a game."""
        if self.v_full is None or self.v_empty is None:
            return None
        return self.v_full - self.v_empty - self.total

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the k players of the largest absolute values, largest first."""
        order = np.argsort(-np.abs(self.values), kind="stable")[:k]
        return [(self.tokens[player], float(self.values[player])) for player in order]

    def without_special(self) -> TokenAttribution:
        """Return the attribution of the players that are no special tokens; nothing is rescaled."""
        return self._rows(np.flatnonzero(~self.special))

    def grouped(self, groups: Sequence[Sequence[int]], names: Sequence[str], kind: str) -> TokenAttribution:
        """Return one value a group of players, the sum of its players' values.

        Standard errors and intervals are added up too, which is safe whatever the correlation of the errors. Ranges
        over maximum flows become bounds on them.

        Args:
            groups: player indices, each in one group; a player in none is dropped.
            names: the name of each group.
            kind: ``words`` or ``spans``.
        """
        summed = self._columns(lambda column: np.array([column[list(group)].sum() for group in groups]))
        joined = any(len(group) > 1 for group in groups)
        return replace(
            self,
            interval=BOUNDS_ON_MAXIMUM_FLOWS if joined and self.interval == MAXIMUM_FLOWS else self.interval,
            tokens=tuple(names),
            positions=tuple(tuple(p for player in g for p in self.positions[player]) for g in groups),
            is_special=np.array([bool(self.special[list(g)].all()) for g in groups], dtype=bool),
            players=kind,
            grouping="sum",
            **summed,
        )

    @property
    def special(self) -> NDArray[np.bool_]:
        """``is_special``, bool (n,), whose default of None has been filled in."""
        assert self.is_special is not None  # __post_init__ fills it
        return self.is_special

    def _columns(self, change: Callable[[FloatArray], FloatArray]) -> dict[str, Any]:
        columns = {name: getattr(self, name) for name in _ARRAYS}
        return {name: None if column is None else change(column) for name, column in columns.items()}

    def _rows(self, rows: NDArray[np.intp]) -> TokenAttribution:
        taken = self._columns(lambda column: column[rows])
        return replace(
            self,
            tokens=tuple(self.tokens[row] for row in rows),
            positions=tuple(self.positions[row] for row in rows),
            is_special=self.special[rows],
            **taken,
        )

    def caption(self) -> str:
        """Return one line that says what the values are."""
        facts = [f"{self.method} of {len(self)} {self.players}"]
        facts += [f"layer {self.layer}"] if self.layer is not None else []
        facts += [f"{self.payoff} of class {self.target}"] if self.payoff is not None else []
        facts += [f"absent: {self.absent}"] if self.absent is not None else []
        facts += [f"interval: {self.interval}"] if self.interval is not None else []
        if "tokens_in_all" in self.details:
            facts += [f"text cut: {self.details['tokens_kept']:.0f} of {self.details['tokens_in_all']:.0f} tokens"]
        return ", ".join(facts)

    def __str__(self) -> str:
        rows = [f"{value:+11.4f}  {token}" for token, value in zip(self.tokens, self.values, strict=True)]
        return "\n".join([self.caption(), *rows])

    def _repr_html_(self) -> str:
        return colour_tokens(self.tokens, self.values, caption=self.caption(), is_special=self.special)
