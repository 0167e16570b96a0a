"""A model of the values of coalitions from one maximum flow of each player alone.

Let x_i(t) be the flow of player i alone into position t of the layer that the sink reads, and r_t the capacity from
there to the sink. A coalition S has the value

    m(S) = sum over t of min(r_t, sum of x_i(t) over S)

if only the capacities to the sink limit the sum of the flows of its players. In networks with many layers this is
often exact, because the flow has many ways to any position of the last layer. In general it is neither an upper nor a
lower bound. Therefore the upper bound U(S) from cuts is moved towards m(S), by a share for each size of S that is
fitted to exact values, to U(S) - share * max(U(S) - m(S), 0). The game of these values is sampled instead of that of
the upper bounds; its difference from the exact values has less variance.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.control_variates import Prefixes, SizeRanges
from lightning_attnflow.flow.engine.permutations import FlowModel, fill, flow_to_sink
from lightning_attnflow.flow.engine.solve import Flags, Ints
from lightning_attnflow.flow.solvers.dinic import Residual, supply_flow, undo
from lightning_attnflow.flow.solvers.jit import compiled

Floats = NDArray[np.float64]
_MIN_GAIN = 1.5  # of variance, for which the model is used


def fit_model(
    net: Residual, first: int, sent: Ints, alone: Ints, prefixes: Prefixes, ranges: SizeRanges, stop: Flags
) -> FlowModel | None:
    """Return the model whose difference from the exact values has the least variance, or None if it is not much less.

    Args:
        net: residual network.
        first: the layer above the players.
        sent: (n, T), the capacity from each player to each position of the layer ``first``.
        alone: (n,), v({i}).
        prefixes: with the excess of upper bounds.
        ranges: of their sizes.
        stop: (1,), set to 1 by another thread to stop.
    """
    sizes = np.arange(len(alone) + 1)
    outflows = _outflows_alone(net, first, sent, alone, stop)
    model = FlowModel(outflows, np.ascontiguousarray(net.edges[-1, :, 0]), np.zeros(len(sizes)))
    shortfall = np.maximum(prefixes.upper - _flows_to_sink(model, prefixes.permutations, prefixes.sizes), 0.0)
    shortfall, excess = shortfall - shortfall.mean(axis=0), prefixes.excess - prefixes.excess.mean(axis=0)
    squares, products = (shortfall**2).sum(axis=0), (shortfall * excess).sum(axis=0)
    shares = np.clip(np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0), 0.0, 1.0)
    if (excess**2).sum() < _MIN_GAIN * ((excess - shares * shortfall) ** 2).sum():
        return None
    middle = ranges.starts + (ranges.widths - 1) / 2
    return model._replace(shares=np.interp(sizes, middle, shares))


@compiled
def _outflows_alone(net: Residual, first: int, sent: Ints, alone: Ints, stop: Flags) -> Ints:
    """Return the flow to the sink through each position of the last layer, (n, T), of each player alone."""
    outflows = np.zeros(sent.shape, dtype=np.int64)
    last = len(net.edges) - 1
    for player in range(len(sent)):
        if stop[0]:
            break
        undo(net)
        supply_flow(net, first, sent[player], alone[player])
        for t in range(sent.shape[1]):
            outflows[player, t] = net.edges[last, t, 0] - net.left[last, t, 0]
    undo(net)
    return outflows


@compiled
def _flows_to_sink(model: FlowModel, permutations: Ints, sizes: Ints) -> Floats:
    """Return `flow_to_sink` of prefixes, (m, R)."""
    flows, outflows = np.zeros(sizes.shape), np.empty(len(model.capacities), dtype=np.int64)
    for row in range(len(permutations)):
        fill(outflows, 0, 0)
        at = 0
        for size in range(1, sizes[row, -1] + 1):
            for t in range(len(outflows)):
                outflows[t] += model.outflows[permutations[row, size - 1], t]
            if sizes[row, at] == size:
                flows[row, at] = flow_to_sink(model, outflows)
                at += 1
    return flows
