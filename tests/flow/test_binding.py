"""Binding cuts and saturation: by hand, at any scale, for both games."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from networks import KINDS, readout_vector, stochastic, weighted_networks

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.flow.binding import binding_cuts
from lightning_attnflow.flow.game import GAMES

NETWORK = AttentionNetwork(stochastic(3, 5, seed=1), readout_vector("first", 5, 0))


def test_binding_cuts_by_hand() -> None:
    capacities = np.array([[[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.45, 0.45, 0.1]]] * 3)
    network = AttentionNetwork(capacities, np.eye(3)[0])
    flow = attention_flow(network, layers=[0])
    outflow = capacities[0].sum(axis=0)
    inflow = capacities[0, 0] + 2 * (1 - 0.9)
    np.testing.assert_allclose(flow.upper[0], np.minimum(1.0, np.minimum(outflow, inflow)), atol=1e-12)
    assert flow.binding_cut[0].tolist() == ["readout", "inflow", "outflow"]
    assert flow.saturation[0] == 1.0
    assert flow.is_saturated.tolist() == [True]
    mixed = binding_cuts(network, 0, np.eye(3, dtype=bool), np.full(3, 0.01), slack=0.0)
    assert mixed.tolist() == ["mixed"] * 3


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1.0, 1e6])
def test_cuts_and_saturation_do_not_depend_on_the_scale(scale: float) -> None:
    capacities, readout = stochastic(5, 16, seed=1), readout_vector("first", 16, 0)
    expected = attention_flow(AttentionNetwork(capacities, readout), method="pairwise")
    assert 0 < expected.saturation[2] < 1
    flow = attention_flow(AttentionNetwork(capacities * scale, readout * scale), method="pairwise")
    np.testing.assert_array_equal(flow.binding_cut, expected.binding_cut)
    np.testing.assert_array_equal(flow.saturation, expected.saturation)


@pytest.mark.parametrize("kind", KINDS)
def test_cuts_and_saturation_do_not_depend_on_the_bits_of_the_solver(kind: str) -> None:
    network = AttentionNetwork(stochastic(6, 40, seed=1, kind=kind), readout_vector("mean", 40, 0))
    coarse, fine = (attention_flow(network, method="pairwise", solver=solver) for solver in ("scipy", "native"))
    np.testing.assert_array_equal(coarse.binding_cut, fine.binding_cut)
    np.testing.assert_array_equal(coarse.saturation, fine.saturation)


def test_cuts_of_a_readout_that_sums_to_1_within_the_tolerance() -> None:
    network = AttentionNetwork(NETWORK.capacities, NETWORK.readout * (1 + 9e-10))
    assert network.is_probability
    np.testing.assert_array_equal(attention_flow(network).binding_cut, attention_flow(NETWORK).binding_cut)


def test_binding_cuts_of_the_game_through_a_layer() -> None:
    flow = attention_flow(AttentionNetwork(np.array([[[0.3, 0.2], [0.1, 0.1]]]), np.ones(2)), game="through")
    np.testing.assert_allclose(flow.upper, [[0.4, 0.3], [0.5, 0.2]])
    assert flow.binding_cut.tolist() == [["outflow", "outflow"], ["mixed", "mixed"]]
    narrow = attention_flow(AttentionNetwork(np.array([[[0.3, 0.2], [0.1, 0.1]]]), [0.4, 1.0]), game="through")
    assert narrow.binding_cut[1].tolist() == ["readout", "mixed"]
    same = attention_flow(NETWORK, game="through"), attention_flow(NETWORK)
    np.testing.assert_array_equal(same[0].binding_cut, same[1].binding_cut)


@given(network=weighted_networks())
@settings(max_examples=20, deadline=None)
def test_the_range_contains_a_maximum_flow_in_both_games(network: AttentionNetwork) -> None:
    for game in GAMES:
        flow = attention_flow(network, method="single", game=game)
        slack = 1e-9 * max(1.0, network.capacities.max())
        assert (flow.lower - slack <= flow.values).all()
        assert (flow.values <= flow.upper + slack).all()


@given(network=weighted_networks())
@settings(max_examples=30, deadline=None)
def test_a_trivial_binding_cut_has_the_capacity_of_the_flow(network: AttentionNetwork) -> None:
    for game in GAMES:
        flow = attention_flow(network, method="pairwise", game=game)
        for layer, (names, upper) in enumerate(zip(flow.binding_cut, flow.upper, strict=True)):
            top = layer == network.n_layers
            outflow = network.readout if top else network.capacities[layer].sum(axis=0)
            to_sink = network.readout if top else np.full(len(upper), network.readout.sum())
            slack = 1e-9 * max(1.0, network.capacities.max())
            np.testing.assert_allclose(upper[names == "outflow"], outflow[names == "outflow"], rtol=0, atol=slack)
            np.testing.assert_allclose(upper[names == "readout"], to_sink[names == "readout"], rtol=0, atol=slack)
            assert game == "through" or not top or (names == "readout").all()


def test_saturation_is_larger_in_lower_layers() -> None:
    deep = AttentionNetwork(stochastic(8, 16, seed=3), readout_vector("first", 16, 0))
    flow = attention_flow(deep)
    assert flow.saturation[0] == 1.0
    assert flow.saturation[6] < 1.0
    assert set(flow.binding_cut[0]) <= {"readout", "outflow", "inflow"}


@pytest.mark.parametrize(("share", "saturated"), [(0.49, False), (0.5, True), (1.0, True)])
def test_a_layer_is_saturated_from_the_threshold_on(share: float, saturated: bool) -> None:
    flow = replace(attention_flow(NETWORK, layers=[0]), saturation=np.array([share]))
    assert flow.is_saturated.tolist() == [saturated]
