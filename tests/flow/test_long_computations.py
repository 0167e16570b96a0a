"""Threads, interruption and progress of long computations of attention flow."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from functools import partial
from importlib import import_module

import numpy as np
import pytest
from interrupts import interruptible
from networks import readout_vector, stochastic

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.flow.engine import layer_progress
from lightning_attnflow.flow.engine.layer import LayerSolver
from lightning_attnflow.flow.engine.run import _flows, layer_games
from lightning_attnflow.flow.engine.threads import MIN_SHARED_POSITIONS, Threads
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.flow.layer import Tolerance

ROUNDING = 1e-11


@pytest.mark.parametrize("readout", ["first", "mean"])
def test_results_do_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch, readout: str) -> None:
    network = AttentionNetwork(
        stochastic(5, MIN_SHARED_POSITIONS, seed=1, kind="sharp"), readout_vector(readout, MIN_SHARED_POSITIONS, 0)
    )
    flows = []
    for n_threads in (1, 4):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=n_threads: range(n), raising=False)
        monkeypatch.setattr("torch.get_num_threads", lambda n=n_threads: n)
        flows.append(attention_flow(network, tolerance=2e-2, absolute=True))
    assert flows[0].n_permutations.any()
    for name in ("values", "stderr", "low", "high", "lower", "upper"):
        np.testing.assert_array_equal(getattr(flows[0], name), getattr(flows[1], name))
    single = FlowGame(network, 1, solver="ortools")
    np.testing.assert_allclose(
        flows[1].upper[1], single(np.eye(MIN_SHARED_POSITIONS, dtype=bool)), rtol=0, atol=ROUNDING
    )


@pytest.mark.parametrize(("cores", "torch_threads", "expected"), [(8, 3, 3), (2, 8, 2), (8, 1, 1)])
def test_a_batch_uses_the_threads_of_torch(
    monkeypatch: pytest.MonkeyPatch, cores: int, torch_threads: int, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores), raising=False)
    monkeypatch.setattr("torch.get_num_threads", lambda: torch_threads)
    started: list[int] = []

    def threads(number: int) -> Threads:
        started.append(number)
        return Threads(number)

    monkeypatch.setattr(import_module("lightning_attnflow.flow.engine.run"), "Threads", threads)
    attention_flow([AttentionNetwork(stochastic(3, 6, seed=n), readout_vector("mean", 6, 0)) for n in range(8)])
    assert started == [expected]


def test_nested_calls_do_not_deadlock() -> None:
    with Threads(1) as threads:

        def depth_of(level: int) -> int:
            return 1 + threads.submit(depth_of, level - 1)() if level else 0

        assert threads.run_all([partial(depth_of, level) for level in (5, 3)]) == [5, 3]


def test_an_error_in_a_call_is_raised_and_sets_the_stop_flag() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Threads(2) as threads:
        threads.run_all([fail, lambda: None])
    assert threads.stop[0] == 1


def test_the_stop_flag_ends_the_computation() -> None:
    network = AttentionNetwork(stochastic(6, 40, seed=2), readout_vector("first", 40, 0))
    stopped = Threads()
    stopped.stop[0] = 1
    games = list(layer_games(quantise(network), 0, None, stopped))
    assert len(games) < network.n_layers + 1
    assert all(game.solver is None or isinstance(game.solver, LayerSolver) for game in games)


def test_no_layer_is_sampled_after_ctrl_c() -> None:
    network = AttentionNetwork(stochastic(4, 24, seed=4, kind="sharp"), readout_vector("mean", 24, 0))
    stopped, done = Threads(), list[int]()
    stopped.stop[0] = 1
    flows = _flows(network, range(5), None, True, Tolerance(0.05, False), 0, stopped, done)
    assert attention_flow(network).n_permutations.any()
    assert not any(flow.n_permutations for flow in flows.values())
    assert done == sorted(flows, reverse=True)


def test_ctrl_c_stops_a_long_computation() -> None:
    network = AttentionNetwork(stochastic(4, 40, seed=1), readout_vector("mean", 40, 0))
    attention_flow(network, method="pairwise")  # compiled before the clock starts
    threading.Timer(0.5, lambda: signal.raise_signal(signal.SIGINT)).start()
    with interruptible(), pytest.raises(KeyboardInterrupt):
        attention_flow([network] * 4, tolerance=1e-9)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("attnflow")]


def test_a_long_computation_says_once_how_long_it_will_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layer_progress, "WARN_SECONDS", -1.0)
    done = [5, 4]
    with layer_progress.layer_progress(6, done, is_sampled=True) as show:
        with pytest.warns(UserWarning, match=r"2 of 6 layers after 0 s.*tolerance=.*method='pairwise'"):
            show()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            show()  # only once
    with layer_progress.layer_progress(6, done, is_sampled=False) as show, warnings.catch_warnings():
        warnings.simplefilter("error")
        show()  # exact flows are not sampled
    monkeypatch.setattr(layer_progress, "WARN_SECONDS", 60.0)
    monkeypatch.setattr(layer_progress, "last_compilation", lambda: time.monotonic() + 100)  # compiling all the time
    with layer_progress.layer_progress(6, done, is_sampled=True) as show, warnings.catch_warnings():
        warnings.simplefilter("error")
        clock = time.monotonic
        monkeypatch.setattr(layer_progress.time, "monotonic", lambda: clock() + 100)
        show()
    assert "others take about 60 s" in layer_progress.slow_message(30.0, 2, 6)
    assert "others take an unknown time" in layer_progress.slow_message(30.0, 0, 6)
