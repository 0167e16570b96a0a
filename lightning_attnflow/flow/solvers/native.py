"""The compiled solver: Dinic's algorithm on dense layered arrays, in exact integers, without the GIL."""

from __future__ import annotations

import numpy as np

from lightning_attnflow.flow.integers import Ints
from lightning_attnflow.flow.solvers.dinic import (
    UNBOUNDED,
    Residual,
    Words,
    edges_of,
    maximise,
    pack_nodes,
    residual_of,
    undo,
)
from lightning_attnflow.flow.solvers.jit import compiled
from lightning_attnflow.flow.solvers.protocol import Bools, MaxFlow, Solver

_EDGES_PER_CALL = 2**22
"""Edges of all flows computed in one call of the kernel, about 0.1 s: Python handles Ctrl-C between two calls."""


class NativeSolver(Solver):
    """Dinic's algorithm on bit masks, see `lightning_attnflow.flow.solvers.dinic`."""

    name = "native"
    has_engine = True

    def max_flow(self, capacities: Ints, readout: Ints, sources: Bools) -> MaxFlow:
        """Return one maximum flow."""
        net = residual_of(edges_of(capacities, readout))
        n_layers = len(capacities)
        value = maximise(net, 0, pack_nodes(sources), UNBOUNDED)
        flow = net.edges - net.left
        return MaxFlow(int(value), flow[:n_layers].transpose(0, 2, 1), flow[n_layers, :, 0])

    def values(self, capacities: Ints, readout: Ints, sources: Bools) -> Ints:
        """Return the value of the maximum flow from each of the sets ``sources``, bool (m, T), as int64 (m,)."""
        net, masks = residual_of(edges_of(capacities, readout)), pack_nodes(sources)
        values = np.empty(len(sources), dtype=np.int64)
        size = max(1, _EDGES_PER_CALL // net.edges.size)
        for start in range(0, len(sources), size):
            _solve(net, 0, masks[start : start + size], UNBOUNDED, values[start : start + size])
        return values


@compiled
def _solve(net: Residual, first: int, sources: Words, limit: int, values: Ints) -> None:
    """Write the value of the maximum flow from each row of ``sources``, (m, W), into ``values``, (m,).

    ``first`` and ``limit`` are arguments because numba compiles `maximise` again for a constant argument.
    """
    for row in range(len(sources)):
        values[row] = maximise(net, first, sources[row], limit)
        undo(net)
