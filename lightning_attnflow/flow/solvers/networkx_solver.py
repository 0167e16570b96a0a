"""The reference solvers: networkx, node by node, plain and slow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import networkx as nx
import numpy as np
from networkx.algorithms.flow import edmonds_karp, preflow_push

from lightning_attnflow.flow.integers import Ints
from lightning_attnflow.flow.solvers.protocol import Bools, MaxFlow, Solver, dense_flow, edge_list


class PreflowPushSolver(Solver):
    """networkx ``preflow_push``."""

    name = "networkx"
    algorithm: ClassVar[Callable[..., Any]] = staticmethod(preflow_push)

    def max_flow(self, capacities: Ints, readout: Ints, sources: Bools) -> MaxFlow:
        """Return one maximum flow."""
        tails, heads, amounts = (array.tolist() for array in edge_list(capacities, readout, sources))
        source = (len(capacities) + 1) * len(readout)
        graph = nx.DiGraph()
        graph.add_nodes_from((source, source + 1))
        graph.add_weighted_edges_from(zip(tails, heads, amounts, strict=True), weight="capacity")
        _, flows = nx.maximum_flow(graph, source, source + 1, flow_func=type(self).algorithm)
        edge_flow = np.array([flows[tail][head] for tail, head in zip(tails, heads, strict=True)], dtype=np.int64)
        return dense_flow(capacities, readout, edge_flow)


class EdmondsKarpSolver(PreflowPushSolver):
    """networkx ``edmonds_karp``, which the code of Abnar & Zuidema calls."""

    name = "networkx-edmonds-karp"
    algorithm = staticmethod(edmonds_karp)
