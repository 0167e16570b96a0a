"""igraph ``maxflow``: push-relabel on doubles, exact for integers below 2^53."""

from __future__ import annotations

import igraph
import numpy as np

from lightning_attnflow.flow.integers import Ints
from lightning_attnflow.flow.solvers.protocol import Bools, MaxFlow, Solver, dense_flow, edge_list


class IGraphSolver(Solver):
    """igraph ``maxflow``."""

    name = "igraph"

    def max_flow(self, capacities: Ints, readout: Ints, sources: Bools) -> MaxFlow:
        """Return one maximum flow."""
        tails, heads, amounts = edge_list(capacities, readout, sources)
        source = (len(capacities) + 1) * len(readout)
        graph = igraph.Graph(n=source + 2, edges=np.stack([tails, heads], axis=1), directed=True)
        solution = graph.maxflow(source, source + 1, capacity=amounts.tolist())
        return dense_flow(capacities, readout, np.rint(solution.flow).astype(np.int64))
