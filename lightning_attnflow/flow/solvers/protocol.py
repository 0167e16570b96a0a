"""The solver interface: the network that a solver gets, the flow it returns, and minimum cuts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.integers import DEFAULT_BITS, Ints

Bools = NDArray[np.bool_]
EdgeFunction = Callable[..., Any]
"""``(tails, heads, capacities, source, sink) -> flow on each edge``, see `EdgeSolver`."""


@dataclass(frozen=True, eq=False)
class MaxFlow:
    """One maximum flow from a set of positions of layer 0 of a layered network to the sink.

    Attributes:
        value: total flow, in integer units.
        flow: int64 (K, T, T), ``[layer, query, key]``, the flow on each edge.
        sink_flow: int64 (T,), the flow on the edges into the sink.

    Example:
        >>> from lightning_attnflow.flow.solvers import get_solver
        >>> capacities, readout = np.array([[[3, 1], [0, 4]]]), np.array([2, 5])
        >>> flow = get_solver("native").max_flow(capacities, readout, np.array([True, True]))
        >>> flow.value, flow.sink_flow.tolist(), int(flow.outflow.sum())
        (6, [2, 4], 6)
    """

    value: int
    flow: Ints
    sink_flow: Ints

    @property
    def outflow(self) -> Ints:
        """int64 (T,), the flow out of each position of layer 0."""
        return self.flow[0].sum(axis=0) if len(self.flow) else self.sink_flow.copy()


class Solver(ABC):
    """A maximum flow solver on dense layered arrays. For a solver on lists of edges, `EdgeSolver` is simpler.

    Attributes:
        name: the solver's name in results and messages.
        bits: largest capacities and total flows are below ``2 ** (bits + 1)``.

    Example:
        >>> from lightning_attnflow import AttentionNetwork, attention_flow
        >>> from lightning_attnflow.flow.solvers import get_solver
        >>> class Counting(Solver):
        ...     name, n_flows = "counting", 0
        ...
        ...     def max_flow(self, capacities, readout, sources):
        ...         self.n_flows += 1
        ...         return get_solver("native").max_flow(capacities, readout, sources)
        >>> counting, sources = Counting(), np.array([[True, False], [False, True], [True, True]])
        >>> counting.values(np.array([[[3, 1], [0, 4]]]), np.array([2, 5]), sources).tolist(), counting.n_flows
        ([2, 5, 6], 3)
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> attention_flow(network, solver=counting).values[0].round(4).tolist()
        [0.7, 0.3]
    """

    name: str
    bits: int = DEFAULT_BITS
    has_engine: ClassVar[bool] = False  # whether flow.engine computes whole networks for this solver

    @abstractmethod
    def max_flow(self, capacities: Ints, readout: Ints, sources: Bools) -> MaxFlow:
        """Return one maximum flow from the positions ``sources`` of layer 0 to the sink.

        Args:
            capacities: (K, T, T) ``[layer, query, key]``, K >= 1.
            readout: (T,), capacities of the edges into the sink.
            sources: (T,).
        """

    def values(self, capacities: Ints, readout: Ints, sources: Bools) -> Ints:
        """Return the value of the maximum flow from each of the sets ``sources``, bool (m, T), as int64 (m,)."""
        flows = (self.max_flow(capacities, readout, row).value for row in sources)
        return np.fromiter(flows, dtype=np.int64, count=len(sources))


class EdgeSolver(Solver):
    """A maximum flow solver from a function on a list of edges, such as those of graph libraries.

    Args:
        function: ``function(tails, heads, capacities, source, sink)`` returns the flow on each edge. ``tails``,
            ``heads`` and ``capacities`` are int64 (E,) and contain no edge twice; ``source`` and ``sink`` are the two
            largest node numbers, ``sink`` the largest. Flows of type float are rounded to integers.
        name: default: the function's name.
        bits: size of the largest capacity and flow; 30 if the function computes with 32-bit integers.

    Raises:
        InputError: no function, bits outside 1..62; from `max_flow`, if the function returns no flow: values outside
            the capacities, or a node where inflow and outflow differ.

    Example:
        >>> import numpy as np
        >>> from scipy.sparse import csr_array
        >>> from scipy.sparse.csgraph import maximum_flow
        >>> from lightning_attnflow import AttentionNetwork, attention_flow
        >>> def edmonds_karp(tails, heads, capacities, source, sink):
        ...     edges = capacities.astype(np.int32), (tails, heads)
        ...     flow = maximum_flow(csr_array(edges, shape=(sink + 1, sink + 1)), source, sink, method="edmonds_karp")
        ...     return np.asarray(flow.flow[tails, heads])
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> flow = attention_flow(network, method="single", solver=EdgeSolver(edmonds_karp, bits=30))
        >>> flow.solver, flow.total.round(4).tolist()
        ('edmonds_karp', [1.0, 1.0, 1.0])
    """

    def __init__(self, function: EdgeFunction, *, name: str | None = None, bits: int = DEFAULT_BITS) -> None:
        if not callable(function):
            raise InputError("function", got=type(function).__name__, expected="a function")
        self.bits = check_integer("bits", bits, maximum=62)
        self.name = name if name is not None else str(getattr(function, "__name__", type(function).__name__))
        self._function = function

    def max_flow(self, capacities: Ints, readout: Ints, sources: Bools) -> MaxFlow:
        """Return one maximum flow."""
        tails, heads, amounts = edge_list(capacities, readout, sources)
        source = (len(capacities) + 1) * len(readout)
        returned = np.asarray(self._function(tails, heads, amounts, source, source + 1))
        if returned.shape != amounts.shape or returned.dtype.kind not in "iuf":
            got = f"an array of shape {returned.shape} and dtype {returned.dtype}"
            raise InputError(f"flow of solver {self.name!r}", got=got, expected=f"numbers of shape {amounts.shape}")
        flow = np.rint(returned).astype(np.int64)
        self._check(flow, tails, heads, amounts, source)
        return _dense_flow(capacities, readout, flow)

    def _check(self, flow: Ints, tails: Ints, heads: Ints, capacities: Ints, source: int) -> None:
        excess = np.zeros(source + 2, dtype=np.int64)
        np.add.at(excess, heads, flow)
        np.subtract.at(excess, tails, flow)
        wrong = np.flatnonzero((flow < 0) | (flow > capacities))
        got = ""
        if len(wrong):
            edge = wrong[0]
            got = f"a flow of {flow[edge]} on the edge {tails[edge]} -> {heads[edge]} of capacity {capacities[edge]}"
        elif excess[:source].any():
            node = np.flatnonzero(excess)[0]
            got = f"inflow less outflow of {excess[node]} at node {node}"
        if got:
            expected = "flows within the capacities, with equal inflow and outflow at every inner node"
            raise InputError(f"flow of solver {self.name!r}", got=got, expected=expected)


def edge_list(capacities: Ints, readout: Ints, sources: Bools) -> tuple[Ints, Ints, Ints]:
    """Return tails, heads and capacities of the edges of a layered network.

    Nodes are ``layer * T + position`` for layers 0..K, the source ``(K + 1) T`` and the sink ``(K + 1) T + 1``. Edges
    are sorted as ``[layer, query, key]`` without zero capacities, then those of the sink, then those of the source.
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


def _dense_flow(capacities: Ints, readout: Ints, edge_flow: Ints) -> MaxFlow:
    """Return flows on the edges of `edge_list` as a `MaxFlow`."""
    flow = np.zeros_like(capacities)
    nonzero = np.nonzero(capacities)
    n_inner, read = len(nonzero[0]), np.flatnonzero(readout)
    flow[nonzero] = edge_flow[:n_inner]
    sink_flow = np.zeros_like(readout)
    sink_flow[read] = edge_flow[n_inner : n_inner + len(read)]
    return MaxFlow(int(sink_flow.sum()), flow, sink_flow)


def source_side(capacities: Ints, readout: Ints, sources: Bools, solution: MaxFlow) -> Bools:
    """Return the source side of a minimum cut: the nodes that the residual network reaches.

    Args:
        capacities: (K, T, T).
        readout: (T,).
        sources: (T,).
        solution: a flow in this network; the sink is reached if and only if it is not maximum.

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


def without_positions(capacities: Ints, readout: Ints, layer: int, positions: Bools) -> tuple[Ints, Ints]:
    """Return copies of the capacities and the readout without any edge at ``positions``, bool (T,), of ``layer``."""
    remaining, read = capacities.copy(), readout.copy()
    if layer > 0:
        remaining[layer - 1, positions] = 0
    if layer < len(capacities):
        remaining[layer, :, positions] = 0
    else:
        read[positions] = 0
    return remaining, read
