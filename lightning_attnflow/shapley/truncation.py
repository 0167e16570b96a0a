"""Truncation of permutations whose prefixes have payoffs close to v(N) (Ghorbani & Zou 2019, algorithm 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer, check_nonnegative
from lightning_attnflow.errors import InputError


@dataclass(frozen=True)
class Truncation:
    """Truncate a permutation after ``patience`` consecutive prefixes within ``tolerance * |v(N) - v(empty)|`` of v(N).

    The remaining players get marginal 0 in this permutation, which biases the estimate; the efficiency gap of the
    result is the sum of the biases.

    Args:
        tolerance: relative to ``|v(N) - v(empty)|``, >= 0.
        patience: number of consecutive prefixes, including the empty one, >= 1.

    Raises:
        InputError: an argument is out of range.

    Source: Ghorbani & Zou (2019), Data Shapley.

    Example:
        >>> state = Truncation(tolerance=0.1, patience=2).begin(n_permutations=1, v_empty=0.0, v_full=1.0)
        >>> [bool(state.step(np.array([payoff]), np.array([0]))[0]) for payoff in (0.5, 0.95, 0.7, 0.95, 1.05)]
        [False, False, False, False, True]
    """

    tolerance: float = 0.01
    patience: int = 2

    def __post_init__(self) -> None:
        check_nonnegative("tolerance", self.tolerance)
        check_integer("patience", self.patience)

    def begin(self, *, n_permutations: int, v_empty: float, v_full: float) -> TruncationState:
        """The state at the start of ``n_permutations`` permutations."""
        return TruncationState(self, n_permutations=n_permutations, v_empty=v_empty, v_full=v_full)


def check_truncation(truncation: object) -> None:
    """Raise InputError unless the argument is a Truncation or None."""
    if truncation is not None and not isinstance(truncation, Truncation):
        raise InputError("truncation", got=repr(truncation), expected="a Truncation or None")


class TruncationState:
    """The number of latest consecutive prefixes close to v(N), for each permutation of a block."""

    def __init__(self, truncation: Truncation, *, n_permutations: int, v_empty: float, v_full: float) -> None:
        self._patience = truncation.patience
        self._v_full = v_full
        self._radius = truncation.tolerance * abs(v_full - v_empty)
        self._close = np.zeros(n_permutations, dtype=np.intp)

    def step(self, payoffs: NDArray[np.float64], rows: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Process the next prefix of some permutations; True where the permutation is to be truncated.

        Args:
            payoffs: float (k,), of the next prefixes.
            rows: intp (k,), indices of the permutations in the block.

        Returns:
            bool (k,).
        """
        close = np.abs(payoffs - self._v_full) <= self._radius
        self._close[rows] = np.where(close, self._close[rows] + 1, 0)
        stopped: NDArray[np.bool_] = self._close[rows] >= self._patience
        return stopped
