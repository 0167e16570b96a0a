"""The native engine against the plain path: every layer by one maximum flow a coalition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import coalitions_of, networks, readout_vector, stochastic, weighted_networks

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.flow.engine.facts import lower_bounds, upper_bounds
from lightning_attnflow.flow.engine.layer import LayerSolver
from lightning_attnflow.flow.engine.network import layer_games
from lightning_attnflow.flow.engine.orders import _bounds_along
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.shapley import GroupedGame, exact_shapley

ROUNDING = 1e-11
RUNNING = np.zeros(1, dtype=np.uint8)


@given(network=networks(max_layers=5, max_positions=7) | weighted_networks())
@settings(max_examples=60, deadline=None)
def test_range_and_shapley_value_of_every_layer(network: AttentionNetwork) -> None:
    flow = attention_flow(network)
    for layer in range(network.n_layers + 1):
        game = FlowGame(network, layer, solver="ortools")
        low, high = game.marginal_bounds()
        slack = ROUNDING * max(1.0, flow.total[layer])
        np.testing.assert_allclose(flow.lower[layer], low, rtol=0, atol=slack)
        np.testing.assert_allclose(flow.upper[layer], high, rtol=0, atol=slack)
        np.testing.assert_allclose(flow.values[layer], exact_shapley(game).values, rtol=0, atol=slack)
    assert not flow.stderr.any()


@pytest.mark.parametrize("readout", ["first", "mean"])
@pytest.mark.parametrize("kind", ["random", "sharp", "causal"])
def test_range_beyond_one_word_of_positions(kind: str, readout: str) -> None:
    n = 67
    network = AttentionNetwork(stochastic(4, n, seed=1, kind=kind), readout_vector(readout, n, 0))
    flow = attention_flow(network, method="pairwise")
    for layer in range(5):
        low, high = FlowGame(network, layer, solver="ortools").marginal_bounds()
        np.testing.assert_allclose(flow.lower[layer], low, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(flow.upper[layer], high, rtol=0, atol=ROUNDING)


@given(network=networks(max_layers=4, max_positions=6), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_facts_of_a_layer_bound_every_coalition_of_the_next(network: AttentionNetwork, seed: int) -> None:
    for game in layer_games(quantise(network), 0, None, RUNNING):
        if game.solver is None:
            continue
        coalitions = coalitions_of(network.n_positions)
        exact = FlowGame(network, game.layer, solver="ortools").units(coalitions)
        sent = coalitions @ game.players.sent
        assert (lower_bounds(sent, game.solver.above) <= exact).all()
        assert (upper_bounds(sent, game.solver.above, game.solver.limit) >= exact).all()
        order = np.random.default_rng(seed).permutation(network.n_positions)
        bounds = game.solver.bounds(game.values)
        low, high = np.empty(len(order) + 1, dtype=np.int64), np.empty(len(order) + 1, dtype=np.int64)
        scratch = np.empty((2, len(bounds.constants)), dtype=np.int64)
        _bounds_along.py_func(bounds, order, low, high, scratch[0], scratch[1])
        prefixes = np.concatenate([[0], np.cumsum(1 << order)])
        assert (low <= exact[prefixes]).all()
        assert (exact[prefixes] <= high).all()


@given(network=networks(max_positions=7), seed=st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_groups_play_the_quotient_game(network: AttentionNetwork, seed: int) -> None:
    positions = np.random.default_rng(seed).permutation(network.n_positions)
    groups = [part.tolist() for part in np.array_split(positions, 3) if len(part)]
    flow = attention_flow(network, groups=groups)
    for layer in range(network.n_layers + 1):
        game = GroupedGame(FlowGame(network, layer, solver="ortools"), groups)
        np.testing.assert_allclose(flow.values[layer], exact_shapley(game).values, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(flow.upper[layer], game(np.eye(len(groups), dtype=bool)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(("readout", "n_layers"), [("first", 5), ("mean", 4), ("vector", 4)])
def test_sampled_values_are_within_tolerance_and_their_intervals_hold(readout: str, n_layers: int) -> None:
    n, n_seeds, tolerance = 11, 8, 1e-2
    network = AttentionNetwork(stochastic(n_layers, n, seed=5, kind="sharp"), readout_vector(readout, n, 7))
    exact = np.stack([exact_shapley(FlowGame(network, layer)).values for layer in range(n_layers + 1)])
    inside = []
    for seed in range(n_seeds):
        flow = attention_flow(network, seed=seed, tolerance=tolerance)
        assert ((flow.high - flow.low) / 2 <= tolerance + ROUNDING).all()
        assert (flow.lower - ROUNDING <= flow.low).all()
        assert (flow.high <= flow.upper + ROUNDING).all()
        np.testing.assert_allclose(flow.values.sum(axis=1), flow.total, atol=1e-6)
        inside.append((flow.low - ROUNDING <= exact) & (exact <= flow.high + ROUNDING))
    sampled = flow.n_orders > 0
    assert sampled.any()
    covered = np.stack(inside)[:, sampled]
    assert covered.mean() >= 0.95  # nominal, over n_seeds x players x layers
    np.testing.assert_allclose(flow.values[~sampled], exact[~sampled], atol=ROUNDING)


def test_result_depends_on_the_seed_alone() -> None:
    networks_ = [AttentionNetwork(stochastic(4, n, seed=n), readout_vector("mean", n, 0)) for n in (12, 5, 20, 12)]
    together = attention_flow(networks_, seed=3)
    for flow, network in zip(together, networks_, strict=True):
        alone = attention_flow(network, seed=3)
        np.testing.assert_array_equal(flow.values, alone.values)
        np.testing.assert_array_equal(flow.high, alone.high)
    assert (attention_flow(networks_[2], seed=4).values != together[2].values).any()


def test_most_layers_need_no_flow_at_all() -> None:
    network = AttentionNetwork(stochastic(10, 24, seed=2), readout_vector("first", 24, 0))
    flows = [
        game.solver.n_flows for game in layer_games(quantise(network), 0, None, RUNNING) if game.solver is not None
    ]
    assert len(flows) == 8
    assert flows[-5:] == [0] * 5


def test_stop_flag_ends_the_computation() -> None:
    network = AttentionNetwork(stochastic(6, 40, seed=2), readout_vector("first", 40, 0))
    stopped = np.ones(1, dtype=np.uint8)
    games = list(layer_games(quantise(network), 0, None, stopped))
    assert len(games) < network.n_layers + 1
    assert all(game.solver is None or isinstance(game.solver, LayerSolver) for game in games)
