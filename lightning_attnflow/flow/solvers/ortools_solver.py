"""OR-Tools ``SimpleMaxFlow``: push-relabel on 64-bit integers."""

from __future__ import annotations

import numpy as np
from ortools.graph.python import max_flow

from lightning_attnflow.flow.integers import Ints
from lightning_attnflow.flow.solvers.protocol import Bools, MaxFlow, Solver, dense_flow, edge_list


class OrToolsSolver(Solver):
    """OR-Tools ``SimpleMaxFlow``."""

    name = "ortools"

    def max_flow(self, capacities: Ints, readout: Ints, sources: Bools) -> MaxFlow:
        """Return one maximum flow."""
        tails, heads, amounts = edge_list(capacities, readout, sources)
        source = (len(capacities) + 1) * len(readout)
        problem = max_flow.SimpleMaxFlow()
        arcs = problem.add_arcs_with_capacity(tails.astype(np.int32), heads.astype(np.int32), amounts)
        status = problem.solve(source, source + 1)
        if status != problem.OPTIMAL:
            raise RuntimeError(f"OR-Tools ended with status {status}")
        return dense_flow(capacities, readout, np.asarray(problem.flows(arcs)))
