"""Lower bounds on the values of coalitions from maximum flows that have been computed.

Let x be the outflow of the positions of the layer above in some flow to the sink. Less outflow is possible too, so a
coalition with capacities s into these positions has a value of at least sum_j min(s_j, x_j). Coalitions of many players
have nearly proportional capacities; therefore the flows are those of 2, 4, 8 ... times the mean capacities of a player,
continued to flows from all positions. Few of them prove the value of most large coalitions.
"""

from __future__ import annotations

import numpy as np

from lightning_attnflow.flow.engine.solve import Flags, Ints
from lightning_attnflow.flow.solvers.dinic import UNBOUNDED, Residual, supply_flow, undo
from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner


def outflows(net: Residual, first: int, sent: Ints, total: int, stop: Flags) -> Ints:
    """Return the outflow of each position in some flows of value v(N), int64 (K, T).

    Args:
        net: residual network.
        first: the layer above the players.
        sent: (n, T), the capacity from each player to each position of the layer ``first``.
        total: v(N).
        stop: (1,), set to 1 by another thread to stop.
    """
    n_sizes = max(1, int(np.log2(len(sent))))
    supplies: Ints = sent.sum(axis=0) // len(sent) * (2 ** np.arange(1, n_sizes + 1))[:, None]
    n_outflows = _outflows(net, first, supplies, total, stop)
    return supplies[:n_outflows]


@compiled
def _outflows(net: Residual, first: int, supplies: Ints, total: int, stop: Flags) -> int:
    """Replace each of ``supplies`` (K, T) by an outflow; return their number up to the first that reaches ``total``."""
    supply = np.empty(supplies.shape[1], dtype=np.int64)
    for row in range(len(supplies)):
        if stop[0]:
            return row
        undo(net)
        value = supply_flow(net, first, supplies[row], total)
        for j in range(len(supply)):
            supply[j] = UNBOUNDED
        supply_flow(net, first, supply, total)
        for j in range(len(supply)):
            supplies[row, j] = net.taken[j]
        if value == total:
            return row + 1
    return len(supplies)


@compiled_inner
def outflow_bound(outflows: Ints, sent: Ints) -> int:
    """Return the largest lower bound from ``outflows`` (K, T) for one coalition with capacities ``sent`` (T,)."""
    best = 0
    for row in range(len(outflows)):
        value = 0
        for j in range(len(sent)):
            value += min(sent[j], outflows[row, j])
        best = max(best, value)
    return int(best)
