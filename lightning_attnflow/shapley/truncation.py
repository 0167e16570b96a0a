"""Truncation of an order whose prefixes have come close to v(N), after Ghorbani & Zou (2019), algorithm 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError


@dataclass(frozen=True)
class Truncation:
    """Stop an order once ``patience`` prefixes in a row pay v(N) up to ``tolerance * |v(N) - v(empty)|``.

    The players left get marginal 0 for this order. This biases the estimate: what is lost shows in the efficiency
    gap of the result.

    Args:
        tolerance: relative to ``|v(N) - v(empty)|``, >= 0.
        patience: consecutive prefixes that have to be that close, >= 1.

    Raises:
        InputError: if either is out of range.

    Source: Ghorbani & Zou (2019), Data Shapley; the patience guards against a prefix that touches v(N) by chance.

    Example:
        >>> walk = Truncation(tolerance=0.1, patience=2).begin(n_permutations=1, v_empty=0.0, v_full=1.0)
        >>> [bool(walk.step(np.array([payoff]), np.array([0]))[0]) for payoff in (0.5, 0.95, 0.7, 0.95, 1.05)]
        [False, False, False, False, True]
    """

    tolerance: float = 0.01
    patience: int = 2

    def __post_init__(self) -> None:
        number = isinstance(self.tolerance, (int, float)) and not isinstance(self.tolerance, bool)
        if not number or not 0 <= self.tolerance < math.inf:
            raise InputError(
                "tolerance",
                got=repr(self.tolerance),
                expected="a number >= 0",
                remedy="Pass Truncation(tolerance=0.01).",
            )
        if isinstance(self.patience, bool) or not isinstance(self.patience, int) or self.patience < 1:
            raise InputError(
                "patience", got=repr(self.patience), expected="an integer >= 1", remedy="Pass Truncation(patience=2)."
            )

    def begin(self, *, n_permutations: int, v_empty: float, v_full: float) -> TruncationState:
        """The state of ``n_permutations`` fresh orders."""
        return TruncationState(self, n_permutations=n_permutations, v_empty=v_empty, v_full=v_full)


def check_truncation(truncation: object) -> None:
    """Refuse what is neither a truncation nor None."""
    if truncation is not None and not isinstance(truncation, Truncation):
        raise InputError(
            "truncation",
            got=repr(truncation),
            expected="Truncation or None",
            remedy="Pass Truncation(tolerance=0.01).",
        )


class TruncationState:
    """How many prefixes in a row have been close to v(N), for each order of a block."""

    def __init__(self, truncation: Truncation, *, n_permutations: int, v_empty: float, v_full: float) -> None:
        self._patience = truncation.patience
        self._v_full = v_full
        self._radius = truncation.tolerance * abs(v_full - v_empty)
        self._close = np.zeros(n_permutations, dtype=np.intp)

    def step(self, payoffs: NDArray[np.float64], orders: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Take in the payoff of the next prefix of some orders; True where the order is to be stopped.

        Args:
            payoffs: float (k,), the payoff of the next prefix of each.
            orders: intp (k,), which orders of the block these are.

        Returns:
            bool (k,).
        """
        close = np.abs(payoffs - self._v_full) <= self._radius
        self._close[orders] = np.where(close, self._close[orders] + 1, 0)
        stopped: NDArray[np.bool_] = self._close[orders] >= self._patience
        return stopped
