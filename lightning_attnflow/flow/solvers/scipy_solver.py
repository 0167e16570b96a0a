"""SciPy ``maximum_flow``: Dinic on 32-bit integers, so capacities are rounded more coarsely than elsewhere."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from lightning_attnflow.flow.integers import Ints
from lightning_attnflow.flow.solvers.protocol import Bools, MaxFlow, Solver, dense_flow, edge_list


class SciPySolver(Solver):
    """SciPy ``maximum_flow``."""

    name = "scipy"
    bits = 30  # SciPy adds up flows in int32

    def max_flow(self, capacities: Ints, readout: Ints, sources: Bools) -> MaxFlow:
        """Return one maximum flow."""
        tails, heads, amounts = edge_list(capacities, readout, sources)
        source = (len(capacities) + 1) * len(readout)
        matrix = csr_array((amounts.astype(np.int32), (tails, heads)), shape=(source + 2, source + 2))
        flows = maximum_flow(matrix, source, source + 1).flow
        return dense_flow(capacities, readout, np.asarray(flows[tails, heads]).ravel().astype(np.int64))
