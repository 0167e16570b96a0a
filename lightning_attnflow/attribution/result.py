"""The result of every explanation method: values of the tokens, words or spans of one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._figures import NEUTRAL, OPPOSES, SUPPORTS, value_bars
from lightning_attnflow._results import SavedResult, explained, to_dataframe
from lightning_attnflow._words import counted
from lightning_attnflow.attribution.html import colour_tokens
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]
_ARRAYS = ("values", "stderr", "low", "high")
MAXIMUM_FLOWS, BOUNDS_ON_MAXIMUM_FLOWS = "range over maximum flows", "bounds of the range over maximum flows"


@dataclass(frozen=True, eq=False, repr=False)
class TokenAttribution(SavedResult):
    """Values of the n players of one sentence.

    Args:
        tokens: (n,) names of the players, in the order of the sentence.
        values: float (n,), in the unit of the payoff (nats, probability, share of a flow of 1).
        method: name of the method.
        positions: (n,) groups of positions in the tokenised sentence.
        is_special: bool (n,), True on special tokens such as [CLS].
        players: ``tokens``, ``words`` or ``spans``.
        special_tokens: ``present`` (never masked, no players) or ``players``.
        text: the sentence.
        payoff, target, masking: of methods that have them, else None.
        layer: of attention methods, else None.
        grouping: how tokens were combined into a player, ``sum`` or ``quotient``; None for tokens.
        stderr: float (n,), standard errors of sampled methods, else None.
        low, high: float (n,) or None; ``interval`` describes them.
        interval: ``95% interval``, ``range over maximum flows``, ``bounds of the range over maximum flows`` (sums
            of the ranges of several tokens, which contain the range of the word but may be wider), or None.
        v_empty, v_full: value of the empty and the full coalition, None for methods without a game.
        details: further numbers by name (evaluations, saturation, ambiguity).
        target_name: name of the class in the config of the model, or text of the tokens; empty if unknown.

    Raises:
        InputError: arrays of different lengths.

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
    target: int | tuple[int, ...] | None = None
    masking: str | None = None
    layer: int | None = None
    grouping: str | None = None
    stderr: FloatArray | None = None
    low: FloatArray | None = None
    high: FloatArray | None = None
    interval: str | None = None
    v_empty: float | None = None
    v_full: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)
    target_name: str = ""

    def __post_init__(self) -> None:
        special = np.zeros(len(self.tokens), dtype=bool) if self.is_special is None else self.is_special
        object.__setattr__(self, "is_special", np.array(special, dtype=bool))
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64))
        for name in (*_ARRAYS, "is_special", "positions"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.tokens):
                raise InputError(name, got=counted(len(column), "entry"), expected=f"{len(self.tokens)}, one per token")
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

    @property
    def special(self) -> NDArray[np.bool_]:
        """``is_special``, never None."""
        assert self.is_special is not None  # set by __post_init__
        return self.is_special

    def top(self, k: int) -> list[tuple[str, float]]:
        """Return the k players with the largest absolute values, in descending order."""
        order = np.argsort(-np.abs(self.values), kind="stable")[:k]
        return [(self.tokens[player], float(self.values[player])) for player in order]

    def without_special(self) -> TokenAttribution:
        """Return the attribution without special tokens; values are not rescaled."""
        rows = np.flatnonzero(~self.special)
        return replace(
            self,
            tokens=tuple(self.tokens[row] for row in rows),
            positions=tuple(self.positions[row] for row in rows),
            is_special=self.special[rows],
            **self._columns(lambda column: column[rows]),
        )

    def grouped(self, groups: Sequence[Sequence[int]], names: Sequence[str], kind: str) -> TokenAttribution:
        """Return one value per group, the sum of the values of its players.

        Standard errors and intervals are summed as well, which is valid for any correlation of the errors.

        Args:
            groups: player indices, each in at most one group.
            names: of the groups.
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

    def caption(self) -> str:
        """Return one line that describes the values."""
        parts = [f"{self.method} of {len(self)} {self.players}"]
        parts += [f"layer {self.layer}"] if self.layer is not None else []
        parts += [explained(self.payoff, self.target, self.target_name)] if self.payoff is not None else []
        parts += [f"masking: {self.masking}"] if self.masking is not None else []
        parts += [self.interval] if self.interval is not None else []
        if "tokens_in_all" in self.details:
            parts += [f"truncated: {self.details['tokens_kept']:.0f} of {self.details['tokens_in_all']:.0f} tokens"]
        return ", ".join(parts)

    def to_pandas(self) -> Any:
        """Return a DataFrame with one row per player.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        numbers = {name: getattr(self, name) for name in _ARRAYS if getattr(self, name) is not None}
        return to_dataframe({"token": list(self.tokens), "is_special": self.special, **numbers})

    def plot(self, *, ax: Axes | None = None) -> Axes:
        """Draw the values as horizontal bars in the order of the text, special tokens in grey.

        Args:
            ax: axes to draw on; default: those of a new figure.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        return value_bars(
            self.values,
            labels=self.tokens,
            low=self.low,
            high=self.high,
            colors=np.where(self.special, NEUTRAL, np.where(self.values >= 0, SUPPORTS, OPPOSES)).tolist(),
            xlabel="value" if self.payoff is None else f"value ({self.payoff.replace('_', ' ')})",
            title=self.caption(),
            ax=ax,
        )

    def to_html(self, path: str | Path) -> Path:
        """Write a page with the coloured sentence and its values, without network requests, and return its path.

        Args:
            path: file to write, in UTF-8.
        """
        from lightning_attnflow.viewer import attribution_log, write_page

        return write_page(path, {"result": attribution_log(self)}, title=self.text or self.caption())

    def _repr_html_(self) -> str:
        return colour_tokens(self.tokens, self.values, caption=self.caption(), is_special=self.special)

    def __str__(self) -> str:
        rows = [f"{value:+11.4f}  {token}" for token, value in zip(self.tokens, self.values, strict=True)]
        return "\n".join([self.caption(), *rows])

    def _columns(self, change: Callable[[FloatArray], FloatArray]) -> dict[str, Any]:
        columns = {name: getattr(self, name) for name in _ARRAYS}
        return {name: None if column is None else change(column) for name, column in columns.items()}
