"""How far two explanations of one sentence agree: rank correlations, and sums against quotient games."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.dispatch import explain
from lightning_attnflow.attribution.registry import METHODS, get_method
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lightning_attnflow.attribution.dispatch import Options


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of two attributions over the players they share.

    Args:
        kendall: Kendall's tau-b; NaN if one of them ranks nobody (fewer than two players, or all values equal).
        spearman: Spearman's rho; NaN in the same cases.
        n_players: players compared.
    """

    kendall: float
    spearman: float
    n_players: int


def agreement(first: TokenAttribution, second: TokenAttribution, *, absolute: bool = False) -> Agreement:
    """Return the rank correlations of two explanations of one sentence, special tokens left out.

    Args:
        first, second: attributions of the same players.
        absolute: compare absolute values: right for methods without a sign, as attention is.

    Returns:
        Kendall's tau-b and Spearman's rho, by torchmetrics.

    Raises:
        InputError: attributions of different sentences or players.

    Example:
        >>> one = TokenAttribution(("a", "b", "c"), np.array([1.0, 2.0, -3.0]), "x", ((1,), (2,), (3,)))
        >>> two = TokenAttribution(("a", "b", "c"), np.array([0.1, 0.2, 0.3]), "y", ((1,), (2,), (3,)))
        >>> round(agreement(one, two).spearman, 4), round(agreement(one, two, absolute=True).spearman, 4)
        (-0.5, 1.0)
    """
    from torchmetrics.functional import kendall_rank_corrcoef, spearman_corrcoef

    one, two = first.without_special(), second.without_special()
    if one.text != two.text or one.positions != two.positions:
        raise InputError(
            "attributions",
            got=f"{len(one)} {one.players} of {one.text!r} and {len(two)} {two.players} of {two.text!r}",
            expected="the same players of the same sentence",
            remedy="Pass the same players= to both explanations.",
        )
    left, right = (np.abs(a.values) if absolute else a.values for a in (one, two))
    if len(one) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return Agreement(float("nan"), float("nan"), len(one))
    pair = torch.from_numpy(left.copy()), torch.from_numpy(right.copy())
    kendall: Any = kendall_rank_corrcoef(*pair)  # a tensor, as no p-value is asked for
    return Agreement(float(kendall), float(spearman_corrcoef(*pair)), len(one))


@dataclass(frozen=True)
class GroupingComparison:
    """Values of groups by the two roads: token values added up, and groups that play as a whole.

    Args:
        summed: the tokens play, the values of a group's tokens are added up.
        quotient: the groups play (the quotient game).
    """

    summed: TokenAttribution
    quotient: TokenAttribution

    @property
    def largest_gap(self) -> float:
        """The largest absolute difference of a group's two values; 0 if the method's game is modular."""
        return float(np.abs(self.summed.values - self.quotient.values).max(initial=0.0))

    @property
    def total_gap(self) -> float:
        """Difference of the two totals; 0 for efficient methods, whose totals are v(N) - v(empty) on both roads."""
        return self.summed.total - self.quotient.total


def compare_groupings(
    model: torch.nn.Module,
    tokenizer: Any,
    text: str,
    *,
    method: str,
    players: Any = "words",
    special_tokens: str | None = None,
    truncate: bool = False,
    seed: int = 0,
    **options: Unpack[Options],
) -> GroupingComparison:
    """Explain words (or spans) once as sums of their tokens and once as players of the quotient game.

    Args:
        model, tokenizer, text, special_tokens, truncate, seed, options: as for ``explain``.
        method: one that takes ``grouping``: a game method, ``flow`` or ``flow_pairwise``.
        players: ``words`` or spans.

    Returns:
        Both attributions and their differences.

    Raises:
        InputError: a method that knows one road only, or that is not known.
    """
    if "grouping" not in get_method(method).options:
        able = ", ".join(name for name, known in METHODS.items() if "grouping" in known.options)
        raise InputError("method", got=repr(method), expected=f"one of {able}", remedy="The others only add up.")
    shared: dict[str, Any] = {"method": method, "players": players, "special_tokens": special_tokens}
    shared |= {"truncate": truncate, "seed": seed, **options}
    summed, quotient = (explain(model, tokenizer, text, **shared, grouping=road) for road in ("sum", "quotient"))
    return GroupingComparison(summed, quotient)
