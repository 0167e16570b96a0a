"""What a solver is given and what it returns, and the minimum cut that any maximum flow shows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.integers import DEFAULT_BITS, Ints

Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MaxFlow:
    """One maximum flow from a set of positions of layer 0 of a layered network to the sink.

    Attributes:
        value: the amount that reaches the sink, in units.
        flow: int64 (K, T, T), ``[layer, query, key]``, the flow on each edge.
        sink_flow: int64 (T,), the flow on the edges into the sink.
    """

    value: int
    flow: Ints
    sink_flow: Ints

    @property
    def outflow(self) -> Ints:
        """int64 (T,), what each position of layer 0 sends."""
        return self.flow[0].sum(axis=0) if len(self.flow) else self.sink_flow.copy()


class Solver(ABC):
    """A maximum flow solver.

    Attributes:
        name: the name under which `get_solver` knows it.
        bits: the size of the largest integer capacity, and of the largest total flow, that it takes.
    """

    name: ClassVar[str]
    bits: ClassVar[int] = DEFAULT_BITS

    @abstractmethod
    def max_flow(self, capacities: Ints, readout: Ints, sources: Bools) -> MaxFlow:
        """Return one maximum flow from the positions ``sources`` of layer 0 to the sink.

        Args:
            capacities: (K, T, T) ``[layer, query, key]``, K >= 1.
            readout: (T,).
            sources: (T,).
        """

    def values(self, capacities: Ints, readout: Ints, sources: Bools) -> Ints:
        """Return the value of the maximum flow from each of the sets ``sources``, bool (m, T), as int64 (m,)."""
        flows = (self.max_flow(capacities, readout, row).value for row in sources)
        return np.fromiter(flows, dtype=np.int64, count=len(sources))


def source_side(capacities: Ints, readout: Ints, sources: Bools, solution: MaxFlow) -> Bools:
    """Return the nodes that the residual network still reaches: the source side of a minimum cut.

    Args:
        capacities: (K, T, T).
        readout: (T,).
        sources: (T,).
        solution: a flow in this network; the sink is reached exactly if it is not maximum.

    Returns:
        bool (K + 2, T): layers 0..K and, as entry [K + 1, 0], the sink.
    """
    n_layers, n = capacities.shape[:2]
    spare, used = capacities - solution.flow > 0, solution.flow > 0
    reached = np.zeros((n_layers + 2, n), dtype=bool)
    reached[0] = sources
    while True:
        before = int(reached.sum())
        for layer in range(n_layers):
            reached[layer + 1] |= spare[layer][:, reached[layer]].any(axis=1)
        for layer in range(n_layers - 1, -1, -1):
            reached[layer] |= used[layer][reached[layer + 1]].any(axis=0)
        reached[-1, 0] = bool((reached[-2] & (readout - solution.sink_flow > 0)).any())
        if int(reached.sum()) == before:
            return reached


def cut_capacity(capacities: Ints, readout: Ints, side: Bools) -> int:
    """Return the capacity of the edges that leave ``side``, bool (K + 2, T) as `source_side` returns it."""
    layers = sum(int(capacity[~side[index + 1]][:, side[index]].sum()) for index, capacity in enumerate(capacities))
    return layers + (0 if side[-1, 0] else int(readout[side[-2]].sum()))


def edge_list(capacities: Ints, readout: Ints, sources: Bools) -> tuple[Ints, Ints, Ints]:
    """Return tails, heads and capacities of the network for solvers that want edges.

    Node ``layer * T + position`` for layers 0..K, then the source ``(K + 1) T`` and the sink ``(K + 1) T + 1``. The
    edges come layer by layer as ``[layer, query, key]``, zero capacities left out, then the sink's, then the source's.
    """
    n_layers, n = capacities.shape[:2]
    layer, query, key = np.nonzero(capacities)
    read, start = np.flatnonzero(readout), np.flatnonzero(sources)
    source = (n_layers + 1) * n
    tails = np.concatenate([layer * n + key, n_layers * n + read, np.full(len(start), source)])
    heads = np.concatenate([(layer + 1) * n + query, np.full(len(read), source + 1), start])
    amounts = np.concatenate(
        [capacities[layer, query, key], readout[read], np.full(len(start), int(readout.sum()), dtype=np.int64)]
    )
    return tails, heads, amounts


def dense_flow(capacities: Ints, readout: Ints, edge_flow: Ints) -> MaxFlow:
    """Return the flow on the edges of `edge_list`, in its order, as a `MaxFlow`."""
    flow = np.zeros_like(capacities)
    nonzero = np.nonzero(capacities)
    n_inner, read = len(nonzero[0]), np.flatnonzero(readout)
    flow[nonzero] = edge_flow[:n_inner]
    sink_flow = np.zeros_like(readout)
    sink_flow[read] = edge_flow[n_inner : n_inner + len(read)]
    return MaxFlow(int(sink_flow.sum()), flow, sink_flow)


def cut_off(capacities: Ints, readout: Ints, layer: int, positions: Bools) -> tuple[Ints, Ints]:
    """Return copies of the capacities and the readout without any edge at ``positions``, bool (T,), of ``layer``."""
    remaining, read = capacities.copy(), readout.copy()
    if layer > 0:
        remaining[layer - 1, positions] = 0
    if layer < len(capacities):
        remaining[layer, :, positions] = 0
    else:
        read[positions] = 0
    return remaining, read
