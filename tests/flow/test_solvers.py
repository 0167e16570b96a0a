"""All solvers, including a user's: conservation, capacities, minimum cut, and the value that networkx finds."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupts import interruptible
from networks import networks, stochastic, weighted_networks
from numba import njit

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.flow.solvers import SOLVERS, EdgeSolver, MaxFlow, Solver, get_solver, native
from lightning_attnflow.flow.solvers.dinic import (
    UNBOUNDED,
    Residual,
    edges_of,
    maximise,
    next_flow,
    pack_nodes,
    residual_of,
    supply_flow,
    undo,
)
from lightning_attnflow.flow.solvers.protocol import source_side


def cut_capacity(capacities: np.ndarray, readout: np.ndarray, side: np.ndarray) -> int:
    """Return the capacity of the edges that leave ``side``, bool (K + 2, T), as returned by `source_side`."""
    layers = sum(int(capacity[~side[index + 1]][:, side[index]].sum()) for index, capacity in enumerate(capacities))
    return layers + (0 if side[-1, 0] else int(readout[side[-2]].sum()))


def shortest_paths(tails: np.ndarray, heads: np.ndarray, capacities: np.ndarray, source: int, sink: int) -> list[float]:
    """A user's function, with flows of type float."""
    graph = nx.DiGraph()
    graph.add_nodes_from([source, sink])
    edges = list(zip(tails.tolist(), heads.tolist(), strict=True))
    graph.add_edges_from((*edge, {"capacity": int(capacity)}) for edge, capacity in zip(edges, capacities, strict=True))
    flow = nx.maximum_flow(graph, source, sink, flow_func=nx.algorithms.flow.shortest_augmenting_path)[1]
    return [float(flow[tail][head]) for tail, head in edges]


class DenseSolver(Solver):
    """A user's subclass of `Solver`."""

    name = "dense"
    bits = 40

    def max_flow(self, capacities: np.ndarray, readout: np.ndarray, sources: np.ndarray) -> MaxFlow:
        return get_solver("native").max_flow(capacities, readout, sources)


@pytest.mark.parametrize("solver", [*SOLVERS, shortest_paths, EdgeSolver(shortest_paths, bits=20), DenseSolver()])
@given(network=networks() | weighted_networks(), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_maximum_flow(solver: str | Solver, network: AttentionNetwork, seed: int) -> None:
    solver = get_solver(solver)
    integers = quantise(network, solver.bits)
    capacities, readout = integers.capacities, integers.readout
    sources = np.random.default_rng(seed).random(integers.n_positions) < 0.5
    sources[0] = True
    solution = solver.max_flow(capacities, readout, sources)
    flow, into_sink = solution.flow, solution.sink_flow
    assert (flow >= 0).all()
    assert (flow <= capacities).all()
    assert (into_sink >= 0).all()
    assert (into_sink <= readout).all()
    for layer in range(1, len(capacities)):
        np.testing.assert_array_equal(flow[layer - 1].sum(axis=1), flow[layer].sum(axis=0))
    np.testing.assert_array_equal(flow[-1].sum(axis=1), into_sink)
    assert not solution.outflow[~sources].any()
    side = source_side(capacities, readout, sources, solution)
    assert not side[-1, 0]
    assert cut_capacity(capacities, readout, side) == solution.value == into_sink.sum()
    reference = get_solver("networkx").max_flow(capacities, readout, sources)
    assert solution.value == reference.value
    assert solver.values(capacities, readout, sources[None]).tolist() == [reference.value]


def test_native_solver_with_more_positions_than_bits_in_a_word() -> None:
    capacities = quantise_stochastic(n_layers=3, n=70)
    readout = np.zeros(70, dtype=np.int64)
    readout[0] = 2**30
    sources = np.arange(70) == 66
    native, reference = get_solver("native"), get_solver("ortools")
    solution = native.max_flow(capacities, readout, sources)
    assert solution.value == reference.max_flow(capacities, readout, sources).value
    assert cut_capacity(capacities, readout, source_side(capacities, readout, sources, solution)) == solution.value


def test_native_values_do_not_depend_on_the_number_of_flows_per_call(monkeypatch: pytest.MonkeyPatch) -> None:
    capacities = quantise_stochastic(n_layers=4, n=9)
    sources = np.random.default_rng(0).random((50, 9)) < 0.5
    values = [get_solver("native").values(capacities, capacities[0, 0], sources)]
    for flows_per_call in (1, 7):
        monkeypatch.setattr(native, "_EDGES_PER_CALL", flows_per_call * 5 * 9 * 9)
        values.append(get_solver("native").values(capacities, capacities[0, 0], sources))
    np.testing.assert_array_equal(values[1:], values[:1] * 2)
    assert get_solver("native").values(capacities, capacities[0, 0], sources[:0]).tolist() == []


def test_ctrl_c_stops_the_native_solver_between_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, solve = [], native._solve

    def counted(net: Residual, first: int, sources: np.ndarray, limit: int, values: np.ndarray) -> None:
        calls.append(len(sources))
        solve(net, first, sources, limit, values)

    monkeypatch.setattr(native, "_solve", counted)
    capacities = quantise_stochastic(n_layers=8, n=64)
    sources = np.random.default_rng(0).random((50_000, 64)) < 0.5  # 20 s
    get_solver("native").values(capacities, capacities[0, 0], sources[:1])  # compiled before the clock starts
    threading.Timer(0.3, lambda: signal.raise_signal(signal.SIGINT)).start()
    with interruptible(), pytest.raises(KeyboardInterrupt):
        get_solver("native").values(capacities, capacities[0, 0], sources)
    assert sum(calls) < len(sources)


@pytest.mark.parametrize("log_capacity", [1, 2**18])
def test_undo_restores_the_residual_network_exactly(log_capacity: int) -> None:
    capacities = quantise_stochastic(n_layers=4, n=9)
    net = residual_of(edges_of(capacities, capacities[0, 0]), log_capacity)
    before = [array.copy() for array in (net.left, net.edges, net.ahead, net.behind)]
    pushed = maximise(net, 0, pack_nodes(np.arange(9) == 4), UNBOUNDED)
    assert pushed > 0
    assert net.logged[0] > 1
    undo(net)
    for array, expected in zip((net.left, net.edges, net.ahead, net.behind), before, strict=True):
        np.testing.assert_array_equal(array, expected)


_supply_flow = njit(lambda net, first, supply, limit: supply_flow(net, first, supply, limit))
_next_flow = njit(lambda net, first, supply, limit: next_flow(net, first, supply, limit))


@pytest.mark.parametrize("compute", [_supply_flow, _next_flow])
@given(network=networks() | weighted_networks(), seed=st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_a_flow_from_the_previous_one_has_the_value_and_the_cut_of_a_new_one(
    compute: Callable[..., int], network: AttentionNetwork, seed: int
) -> None:
    integers = quantise(network)
    edges = edges_of(integers.capacities, integers.readout)
    net, random = residual_of(edges), np.random.default_rng(seed)
    largest = int(integers.readout.sum())
    for _ in range(8):
        supply = random.integers(0, largest // 2 + 1, size=network.n_positions) * (
            random.random(network.n_positions) < 0.7
        )
        limit = int(random.integers(1, largest + 1)) if random.random() < 0.3 else UNBOUNDED
        value = compute(net, 0, supply, limit)
        fresh = residual_of(edges)
        assert value == _supply_flow(fresh, 0, supply, limit)
        if value < limit:
            np.testing.assert_array_equal(net.unseen, fresh.unseen)
            side = (net.unseen[0] >> np.arange(network.n_positions, dtype=np.uint64)) & np.uint64(1) == 1
            beyond = supply[side].sum()
            assert 0 <= beyond <= value
            graph = nx.DiGraph()
            n = network.n_positions
            for layer, i, j in zip(*np.nonzero(edges), strict=True):
                graph.add_edge((layer, i), (layer + 1, j), capacity=int(edges[layer, i, j]))
            for j in range(n):
                graph.add_edge("source", (0, j), capacity=int(supply[j]))
            assert value == nx.maximum_flow_value(graph, "source", (len(edges), 0))


@pytest.mark.parametrize("solver", [shortest_paths, DenseSolver()])
@pytest.mark.parametrize("method", ["shapley", "single"])
def test_attention_flow_with_the_solver_of_a_user(solver: Solver, method: str) -> None:
    network = AttentionNetwork(stochastic(3, 5, seed=1), np.full(5, 0.2))
    flow = attention_flow(network, method=method, solver=solver)
    reference = attention_flow(network, method=method)
    assert flow.solver in ("shortest_paths", "dense")
    np.testing.assert_allclose(flow.total, reference.total, atol=1e-9)
    np.testing.assert_allclose(flow.upper, reference.upper, atol=1e-9)
    if method == "shapley":
        np.testing.assert_allclose(flow.values, reference.values, atol=1e-9)
    everyone = np.ones((1, 5), dtype=bool)
    assert FlowGame(network, 0, solver=solver)(everyone) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda flow: flow[:-1], r"flow of solver 'broken': got an array of shape \(7,\)"),
        (lambda flow: flow * 2.0, r"got a flow of \d+ on the edge .* of capacity \d+; expected flows within"),
        (lambda flow: -flow, "got a flow of -"),
        (lambda flow: flow * (np.arange(len(flow)) > 0), "got inflow less outflow of -?[0-9]+ at node"),
        (lambda flow: flow.astype(str), "and dtype <U"),
    ],
)
def test_a_function_that_returns_no_flow_raises(change: Callable[[np.ndarray], np.ndarray], message: str) -> None:
    def broken(*edges: np.ndarray) -> np.ndarray:
        return change(np.array(shortest_paths(*edges), dtype=np.int64))

    network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]]), np.ones(2))
    with pytest.raises(InputError, match=message):
        FlowGame(network, 0, solver=broken)(np.ones((1, 2), dtype=bool))


@pytest.mark.parametrize("solver", ["magic", ["native"], None, DenseSolver])
def test_unknown_solver_names_the_known_ones(solver: object) -> None:
    with pytest.raises(InputError, match=r"solver: got .*'native', 'networkx'.*'igraph', a Solver or a function"):
        get_solver(solver)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "module"), [("ortools", "ortools.graph.python.max_flow"), ("igraph", "igraph")])
def test_missing_package_names_the_pip_command(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf"solver '{name}'.* pip install 'lightning-attnflow\[solvers\]'"):
        get_solver(name)


def quantise_stochastic(n_layers: int, n: int) -> np.ndarray:
    return np.rint(stochastic(n_layers, n, seed=3, kind="sharp") * 2**30).astype(np.int64)
