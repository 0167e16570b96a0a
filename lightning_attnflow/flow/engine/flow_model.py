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
from lightning_attnflow.flow.engine.permutations import FlowModel
from lightning_attnflow.flow.engine.solve import Flags, Ints, empty_pool, solve
from lightning_attnflow.flow.solvers.dinic import Residual, undo

Floats = NDArray[np.float64]
_MIN_GAIN = 3.0  # of variance, for which the model is used


def fit_model(
    net: Residual, first: int, sent: Ints, alone: Ints, prefixes: Prefixes, ranges: SizeRanges, stop: Flags
) -> FlowModel | None:
    """Return the model whose difference from the exact values has the least variance, or None if it is not much less.

    The shares are judged by the half of the prefixes to which they were not fitted.

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
    parts = (shortfall[::2], prefixes.excess[::2]), (shortfall[1::2], prefixes.excess[1::2])
    before = after = 0.0
    for fitted, tested in (parts, parts[::-1]):
        before += _squares(tested[1])
        after += _squares(tested[1] - _shares(*fitted) * tested[0])
    if before <= _MIN_GAIN * after:
        return None
    middle = ranges.starts + (ranges.widths - 1) / 2
    shares: Floats = np.interp(sizes, middle, _shares(shortfall, prefixes.excess))
    return model._replace(shares=shares)


def _shares(shortfall: Floats, excess: Floats) -> Floats:
    """Return the slopes, (R,), of the regression of the excess on the shortfall, (m, R) each, between 0 and 1."""
    deviations = shortfall - shortfall.mean(axis=0)
    squares, products = (deviations**2).sum(axis=0), (deviations * excess).sum(axis=0)
    slopes = np.divide(products, squares, out=np.zeros_like(squares), where=squares > 0)
    shares: Floats = np.clip(slopes, 0.0, 1.0)
    return shares


def _squares(amounts: Floats) -> float:
    """Return the sum of the squared deviations from the means of the columns."""
    return float(((amounts - amounts.mean(axis=0)) ** 2).sum())


def _outflows_alone(net: Residual, first: int, sent: Ints, alone: Ints, stop: Flags) -> Ints:
    """Return the flow to the sink through each position of the last layer, (n, T), of each player alone."""
    outflows, pool, values = np.zeros_like(sent), empty_pool(sent.shape[1]), np.zeros_like(alone)
    for player in range(len(sent)):
        undo(net)
        solve(net, first, sent, alone, np.array([player]), pool, values, stop)
        outflows[player] = net.edges[-1, :, 0] - net.left[-1, :, 0]
    undo(net)
    return outflows


def _flows_to_sink(model: FlowModel, permutations: Ints, sizes: Ints) -> Ints:
    """Return the flow that the capacities to the sink leave of prefixes, (m, R)."""
    flows = np.zeros_like(sizes)
    for row, (permutation, chosen) in enumerate(zip(permutations, sizes, strict=True)):
        outflows = model.outflows[permutation].cumsum(axis=0)[chosen - 1]
        flows[row] = np.minimum(outflows, model.capacities).sum(axis=1)
    return flows
