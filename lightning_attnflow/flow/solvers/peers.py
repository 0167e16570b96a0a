"""Solvers by name: the compiled one of this package and those of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._optional import require
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.integers import DEFAULT_BITS, Ints
from lightning_attnflow.flow.solvers.protocol import EdgeFunction, EdgeSolver, Solver

SOLVERS = ("native", "networkx", "networkx-edmonds-karp", "ortools", "scipy", "igraph")


def get_solver(solver: str | Solver | EdgeFunction) -> Solver:
    """Return the solver with a name, or the solver of a user's function.

    Args:
        solver: one of `SOLVERS`, a `Solver`, or a function as described in `EdgeSolver`.

    Raises:
        InputError: an unknown name, or no solver.
        MissingDependencyError: the solver's package is not installed.

    Example:
        >>> get_solver("networkx").name
        'networkx'
    """
    if isinstance(solver, Solver):
        return solver
    if solver == "native":
        from lightning_attnflow.flow.solvers.native import NativeSolver  # importing numba takes 0.5 s

        return NativeSolver()
    if isinstance(solver, str) and solver in SOLVERS:
        function, bits = _peer(solver)
        return EdgeSolver(function, name=solver, bits=bits)
    if callable(solver) and not isinstance(solver, type):
        return EdgeSolver(solver)
    raise InputError(
        "solver", got=repr(solver), expected=f"one of {', '.join(map(repr, SOLVERS))}, a Solver or a function"
    )


def _peer(name: str) -> tuple[EdgeFunction, int]:
    """Return the function of another library's solver and the number of bits of its capacities."""
    if name == "ortools":
        return _ortools(
            require("ortools.graph.python.max_flow", extra="solvers", purpose="solver 'ortools'")
        ), DEFAULT_BITS
    if name == "igraph":  # computes in doubles, exact for integers below 2^53
        return _igraph(require("igraph", extra="solvers", purpose="solver 'igraph'")), DEFAULT_BITS
    if name == "scipy":  # adds flows in int32
        return _scipy, 30
    from networkx.algorithms.flow import edmonds_karp, preflow_push

    return _networkx(edmonds_karp if name == "networkx-edmonds-karp" else preflow_push), DEFAULT_BITS


def _networkx(algorithm: Callable[..., Any]) -> EdgeFunction:
    import networkx as nx

    def edge_flow(tails: Ints, heads: Ints, capacities: Ints, source: int, sink: int) -> list[int]:
        graph = nx.DiGraph()
        graph.add_nodes_from((source, sink))
        edges = list(zip(tails.tolist(), heads.tolist(), strict=True))
        graph.add_weighted_edges_from(
            ((tail, head, capacity) for (tail, head), capacity in zip(edges, capacities.tolist(), strict=True)),
            weight="capacity",
        )
        _, flows = nx.maximum_flow(graph, source, sink, flow_func=algorithm)
        return [flows[tail][head] for tail, head in edges]

    return edge_flow


def _ortools(max_flow: Any) -> EdgeFunction:
    def edge_flow(tails: Ints, heads: Ints, capacities: Ints, source: int, sink: int) -> Any:
        problem = max_flow.SimpleMaxFlow()
        arcs = problem.add_arcs_with_capacity(tails.astype(np.int32), heads.astype(np.int32), capacities)
        status = problem.solve(source, sink)
        if status != problem.OPTIMAL:
            raise RuntimeError(f"OR-Tools ended with status {status}")
        return problem.flows(arcs)

    return edge_flow


def _igraph(igraph: Any) -> EdgeFunction:
    def edge_flow(tails: Ints, heads: Ints, capacities: Ints, source: int, sink: int) -> Any:
        graph = igraph.Graph(n=sink + 1, edges=np.stack([tails, heads], axis=1), directed=True)
        return graph.maxflow(source, sink, capacity=capacities.tolist()).flow

    return edge_flow


def _scipy(tails: Ints, heads: Ints, capacities: Ints, source: int, sink: int) -> NDArray[Any]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_flow

    matrix = csr_array((capacities.astype(np.int32), (tails, heads)), shape=(sink + 1, sink + 1))
    return np.asarray(maximum_flow(matrix, source, sink).flow[tails, heads]).ravel()
