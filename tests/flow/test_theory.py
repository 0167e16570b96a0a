"""Theorems about flow games, checked by brute force over all coalitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from networks import coalitions_of, networks, weighted_networks

from lightning_attnflow import AttentionNetwork, attention_flow, attention_rollout
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.flow.solvers import get_solver
from lightning_attnflow.flow.solvers.protocol import source_side
from lightning_attnflow.shapley import exact_shapley
from lightning_attnflow.shapley.intervals import permutation_interval
from lightning_attnflow.shapley.statistics import SampleStatistics

ROUNDING = 1e-11


def payoffs_of(game: FlowGame) -> np.ndarray:
    return game(coalitions_of(game.n_players))


@given(network=networks())
@settings(max_examples=30, deadline=None)
def test_total_flow_is_one_and_rollout_is_a_maximum_flow(network: AttentionNetwork) -> None:
    rollout = attention_rollout(network)
    for layer in range(network.n_layers + 1):
        payoffs = payoffs_of(FlowGame(network, layer))
        assert payoffs[-1] == pytest.approx(1.0, abs=ROUNDING)
        assert rollout[layer].sum() == pytest.approx(1.0, abs=ROUNDING)
        assert (coalitions_of(network.n_positions) @ rollout[layer] <= payoffs + ROUNDING).all()


@given(network=networks(max_layers=3, max_positions=4))
@settings(max_examples=8, deadline=None)
def test_source_and_through_games_are_equal_for_a_probability_readout(network: AttentionNetwork) -> None:
    for layer in range(network.n_layers + 1):
        through = payoffs_of(FlowGame(network, layer, game="through"))
        np.testing.assert_allclose(through, payoffs_of(FlowGame(network, layer)), atol=ROUNDING)


def test_source_and_through_games_differ_for_the_readout_all() -> None:
    capacities = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.3, 0.7], [0.2, 0.8]]])
    network = AttentionNetwork(capacities, np.ones(2))
    source = FlowGame(network, 1)(np.eye(2, dtype=bool))
    through = FlowGame(network, 1, game="through")(np.eye(2, dtype=bool))
    assert source.tolist() == pytest.approx([0.5, 1.5])
    assert through.tolist() == pytest.approx([0.5, 1.0])
    named = attention_flow(network, game="through", layers=[1])
    assert named.game == "through"
    assert named.upper[0].tolist() == pytest.approx([0.5, 1.0])


@given(network=networks(max_positions=5) | weighted_networks())
@settings(max_examples=40, deadline=None)
def test_game_is_submodular_and_its_marginals_are_bounded(network: AttentionNetwork) -> None:
    n = network.n_positions
    for layer in range(network.n_layers + 1):
        payoffs = payoffs_of(FlowGame(network, layer))
        slack = ROUNDING * max(1.0, payoffs[-1])
        for first, second in itertools.product(range(2**n), repeat=2):
            assert payoffs[first] + payoffs[second] >= payoffs[first | second] + payoffs[first & second] - slack
        flow = attention_flow(network, layers=[layer])
        for player in range(n):
            without = [index for index in range(2**n) if not index >> player & 1]
            marginals = np.array([payoffs[index | 1 << player] - payoffs[index] for index in without])
            assert (marginals >= flow.lower[0, player] - slack).all()
            assert (marginals <= flow.upper[0, player] + slack).all()
        assert (coalitions_of(n) @ flow.values[0] <= payoffs + slack).all()  # itself a maximum flow
        assert flow.values[0].sum() == pytest.approx(payoffs[-1])


def test_maximum_flow_is_not_unique_but_the_shapley_value_is() -> None:
    network = AttentionNetwork(np.array([[[0.6, 0.4], [0.5, 0.5]]] * 2), np.array([1.0, 0.0]))
    flows = [attention_flow(network, method="single", solver=name, layers=[0]) for name in ("native", "networkx")]
    rollout = attention_flow(network, method="rollout", layers=[0])
    shapley = attention_flow(network, layers=[0])
    for flow in (*flows, rollout, shapley):
        assert flow.values.sum() == pytest.approx(1.0)
        assert (flow.values >= flow.lower - ROUNDING).all()
        assert (flow.values <= flow.upper + ROUNDING).all()
    assert not np.allclose(rollout.values, shapley.values)
    np.testing.assert_allclose(shapley.values[0], exact_shapley(FlowGame(network, 0)).values)
    assert shapley.ambiguity[0] == pytest.approx((1.0 - 0.2) + (0.8 - 0.0))  # (v({0}) - LOO_0) + (v({1}) - LOO_1)


@given(network=networks(max_positions=5))
@settings(max_examples=25, deadline=None)
def test_minimum_cuts_are_modular_upper_bounds(network: AttentionNetwork) -> None:
    integers, n = quantise(network), network.n_positions
    solver, coalitions = get_solver("networkx"), coalitions_of(network.n_positions)
    payoffs = FlowGame(network, 0).units(coalitions)
    for index in np.random.default_rng(0).integers(1, 2**n, size=4):
        sources = coalitions[index]
        solution = solver.max_flow(integers.capacities, integers.readout, sources)
        beyond = ~source_side(integers.capacities, integers.readout, sources, solution)[1]
        weights = integers.capacities[0][beyond].sum(axis=0)
        constant = solution.value - weights[sources].sum()
        assert (payoffs[1:] <= constant + coalitions[1:] @ weights).all()
        assert payoffs[index] == constant + weights[sources].sum()


def test_hoeffding_intervals_use_the_range_of_each_player() -> None:
    network = AttentionNetwork(np.array([[[0.9, 0.1], [0.2, 0.8]]] * 3), np.array([1.0, 0.0]))
    low, high = FlowGame(network, 0).marginal_bounds()
    assert (low < high).all()
    units = np.tile((low + high) / 2, (50, 1)) + np.array([[1.0], [-1.0]] * 25) * (high - low) / 2
    lower, upper = permutation_interval(SampleStatistics.of(units), bounds=(low, high))
    assert (upper - lower <= 2 * (high - low) * np.sqrt(np.log(2 / 0.05) / (2 * 50)) + ROUNDING).all()
