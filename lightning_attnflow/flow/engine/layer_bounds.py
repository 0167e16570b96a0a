"""Bounds on the values of coalitions of one layer from the values of the layer above, without a maximum flow.

v(S), the game of a layer, is submodular, and a cut X bounds it from above by a modular function X(S) = b + w(S).

1. *Slack of a cut.* Let X(A) - v(A) = d for a subset A of S, and X(B) - v(B) = D for a superset B of S. With
   T = A + (B - S), submodularity v(S) + v(T) >= v(B) + v(A) and v(T) <= X(T) give

       X(S) - d - D  <=  v(S)  <=  X(S).

   So the slack of a cut at single players and at one large coalition bounds its slack at every coalition between them.
2. *Recursion over layers.* A coalition with capacities s into the positions of layer k + 1 has the value

       v_k = min over sets S of v_{k+1}(S) + s(not S).

   Lower bounds of the form 1. on v_{k+1} lead to a running sum over sorted positions, upper bounds of the form of a cut
   to a sum of minima. If both are equal, the value is exact.
3. *Size of the coalition.* Let g_{k+1}(m) be a lower bound of v_{k+1} over all sets of m positions, and H(s, m) the
   least capacity from any s players without the m largest capacities of each. Then

       g_k(s) >= min over m of g_{k+1}(m) + H(s, m).

   Far below the readout, any two players reach the total flow; this proves it without a maximum flow.

All values are in exact integer units.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner

Ints = NDArray[np.int64]
NO_POSITION = -1


class LayerBounds(NamedTuple):
    """Known values of the game of the positions of one layer, and its inflow cut."""

    alone: Ints  # (T,): v({i})
    total: int  # v(N)
    readout_position: int  # the one position r that the sink reads, or NO_POSITION
    constant: int  # the inflow cut is constant + weights(S) for coalitions S without r
    weights: Ints  # (T,)
    gap: int  # D of the inflow cut: its slack at all positions but r
    by_readout_slack: Ints  # (T,): positions by total - v({i}), ascending
    by_inflow_slack: Ints  # (T,): positions by constant + weights[i] - v({i}), ascending


def make_layer_bounds(
    alone: Ints, total: int, readout_position: int, constant: int, weights: Ints, without_readout: int
) -> LayerBounds:
    """Return the bounds of a layer; ``without_readout`` is v(N - r) or a lower bound of it."""
    gap = 0
    if readout_position >= 0:
        gap = constant + int(weights.sum()) - int(weights[readout_position]) - without_readout
    return LayerBounds(
        alone,
        total,
        readout_position,
        constant,
        weights,
        gap,
        np.argsort(total - alone, kind="stable"),
        np.argsort(weights - alone, kind="stable"),
    )


@compiled
def flow_bounds(supplies: Ints, above: LayerBounds, limit: int) -> Ints:
    """Bound the maximum flow of coalitions.

    Args:
        supplies: (m, T), the capacity from each coalition to each position of the layer above.
        above: bounds of the layer above.
        limit: the sum of the readout.

    Returns:
        (2, m), lower and upper bounds.
    """
    bounds = np.empty((2, len(supplies)), dtype=np.int64)
    for row in range(len(supplies)):
        bounds[0, row], bounds[1, row] = bounds_of_supply(supplies[row], above, limit)
    return bounds


@compiled_inner
def supply_upper_bound(sent: Ints, above: LayerBounds) -> int:
    """Return the upper bound of `flow_bounds` for one coalition with capacities ``sent`` (T,)."""
    upper = 0
    for j in range(len(sent)):
        upper += min(sent[j], above.alone[j])
    if above.readout_position >= 0:
        r = above.readout_position
        inflow = above.constant + sent[r] - min(sent[r], above.weights[r])
        for j in range(len(sent)):
            inflow += min(sent[j], above.weights[j])
        upper = min(upper, inflow)
    return int(min(upper, above.total))


@compiled_inner
def bounds_of_supply(sent: Ints, above: LayerBounds, limit: int) -> tuple[int, int]:
    """Return the lower and upper bound of `flow_bounds` for one coalition with capacities ``sent`` (T,)."""
    upper = min(limit, supply_upper_bound(sent, above))
    lower = _readout_cut_bound(sent, above)
    if above.readout_position >= 0:
        lower = max(lower, _inflow_cut_bound(sent, above))
    return min(lower, upper), upper


@compiled_inner
def _readout_cut_bound(sent: Ints, above: LayerBounds) -> int:
    """Lower bound from the cut X = total, that is v(S) >= max v({j}) over S, minimised over S."""
    before, best = 0, 0
    for j in range(len(sent)):
        best += sent[j]
    for place in range(len(sent)):  # the minimum is at a set of all positions from some slack on
        j = above.by_readout_slack[place]
        best = min(best, before + above.alone[j])
        before += sent[j]
    return int(max(best, 0))


@compiled_inner
def _inflow_cut_bound(sent: Ints, above: LayerBounds) -> int:
    """Lower bound from the inflow cut, minimised over S.

    v(S) >= constant + w(S) - gap - (the least slack in S) for S without r, and v(S) >= v({r}) for S with r.
    """
    r = above.readout_position
    worst = above.constant - above.gap + sent[r]  # of all positions but r, at first without the least slack
    best = sent[r]
    for j in range(len(sent)):
        if j != r:
            worst += min(sent[j], above.weights[j])
            best += sent[j]
    best = min(best, above.alone[r])
    for place in range(len(sent)):
        j = above.by_inflow_slack[place]
        if j == r:
            continue
        slack = above.constant + above.weights[j] - above.alone[j]
        best = min(best, worst - slack)
        worst += sent[j] - min(sent[j], above.weights[j])
    return int(max(best, 0))


class SizeBounds:
    """Lower bounds g(s) of v(S) over all coalitions of s players, computed on first use.

    Args:
        alone: (n,), v({i}).
        sent: (n, T), the capacity from each player to each position of the layer above.
        above: the bounds of the layer above or, where that is the last, the readout (T,).
    """

    def __init__(self, alone: Ints, sent: Ints, above: SizeBounds | Ints) -> None:
        self._alone, self._sent, self._above = alone, sent, above

    @cached_property
    def values(self) -> Ints:
        """int64 (n + 1,), by size, non-decreasing."""
        if isinstance(self._above, SizeBounds):
            by_flow = _by_size(self._sent, self._above.values)
        else:
            by_flow = _by_size_below_readout(self._sent, self._above)
        # Among any s players, one has at least the s-th smallest value alone.
        least = np.maximum(by_flow, np.sort(self._alone))
        return np.concatenate([[0], np.maximum.accumulate(least)])


def _by_size(sent: Ints, above: Ints) -> Ints:
    """Lower bounds 3. by size of the coalition, (n,)."""
    n_open = int(np.searchsorted(above, above[-1]))  # sizes at which the layer above may not reach its total
    if n_open == 0:
        return np.zeros(len(sent), dtype=np.int64)
    n_positions = sent.shape[1]
    largest = np.sort(np.partition(sent, n_positions - n_open, axis=1)[:, n_positions - n_open :], axis=1)[:, ::-1]
    left = sent.sum(axis=1) - np.cumsum(largest, axis=1).T + largest.T  # (n_open, n), without the m largest entries
    by_size = above[:n_open, None] + np.cumsum(np.sort(left, axis=1), axis=1)
    least: Ints = np.minimum(by_size.min(axis=0), above[-1])
    return least


def _by_size_below_readout(sent: Ints, readout: Ints) -> Ints:
    """Lower bounds by size, (n,), of the layer below the last: the s smallest capacities into each position."""
    received = np.cumsum(np.sort(sent, axis=0), axis=0)  # (n, T)
    least: Ints = np.minimum(received, readout).sum(axis=1)
    return least
