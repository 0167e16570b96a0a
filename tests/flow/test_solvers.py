"""Every solver passes the same test: conservation, capacities, flow = cut, and the value networkx finds."""

from __future__ import annotations

import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from interrupts import interruptible
from networks import networks, stochastic, weighted_networks

from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.flow.solvers import SOLVERS, get_solver, native, registry
from lightning_attnflow.flow.solvers.dinic import UNBOUNDED, Residual, edges_of, maximise, pack_nodes, residual_of, undo
from lightning_attnflow.flow.solvers.protocol import cut_capacity, source_side


@pytest.mark.parametrize("name", SOLVERS)
@given(network=networks() | weighted_networks(), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_maximum_flow(name: str, network, seed: int) -> None:
    solver = get_solver(name)
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


def test_native_solver_over_several_words_of_nodes() -> None:
    capacities = quantise_stochastic(n_layers=3, n=70)
    readout = np.zeros(70, dtype=np.int64)
    readout[0] = 2**30
    sources = np.arange(70) == 66
    native, reference = get_solver("native"), get_solver("ortools")
    solution = native.max_flow(capacities, readout, sources)
    assert solution.value == reference.max_flow(capacities, readout, sources).value
    assert cut_capacity(capacities, readout, source_side(capacities, readout, sources, solution)) == solution.value


def test_native_values_do_not_depend_on_how_many_a_call_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    capacities = quantise_stochastic(n_layers=4, n=9)
    sources = np.random.default_rng(0).random((50, 9)) < 0.5
    values = [get_solver("native").values(capacities, capacities[0, 0], sources)]
    for flows_a_call in (1, 7):
        monkeypatch.setattr(native, "_EDGES_A_CALL", flows_a_call * 5 * 9 * 9)
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
def test_undo_restores_the_network_bit_for_bit(log_capacity: int) -> None:
    capacities = quantise_stochastic(n_layers=4, n=9)
    net = residual_of(edges_of(capacities, capacities[0, 0]), log_capacity)
    before = [array.copy() for array in (net.left, net.edges, net.ahead, net.behind)]
    pushed = maximise(net, 0, pack_nodes(np.arange(9) == 4), UNBOUNDED)
    assert pushed > 0
    assert net.logged[0] > 1
    undo(net)
    for array, expected in zip((net.left, net.edges, net.ahead, net.behind), before, strict=True):
        np.testing.assert_array_equal(array, expected)


def test_unknown_solver_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"got 'magic'.*'native', 'networkx'.*'igraph'"):
        get_solver("magic")


def test_missing_package_names_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._HOMES, "absent", ("absent_solver", "AbsentSolver", "absent-package"))
    with pytest.raises(MissingDependencyError, match="pip install absent-package"):
        get_solver("absent")


def quantise_stochastic(n_layers: int, n: int) -> np.ndarray:
    return np.rint(stochastic(n_layers, n, seed=3, kind="sharp") * 2**30).astype(np.int64)
