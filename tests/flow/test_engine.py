"""The native engine against one maximum flow per coalition by another solver."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from flow_kernels import write_model_values
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import coalitions_of, networks, readout_vector, stochastic, weighted_networks

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.flow.engine.control_variates import shapley_shares
from lightning_attnflow.flow.engine.layer_bounds import SizeBounds, flow_bounds, supply_upper_bound
from lightning_attnflow.flow.engine.outflow_bounds import outflow_bound, outflows
from lightning_attnflow.flow.engine.permutations import first_two_places, prefix_bounds
from lightning_attnflow.flow.engine.run import layer_games
from lightning_attnflow.flow.engine.separable import _two_cut_marginals, first_two_places_separable
from lightning_attnflow.flow.engine.shapley import _efficient
from lightning_attnflow.flow.engine.threads import Threads
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.shapley import FunctionGame, GroupedGame, exact_shapley

ROUNDING = 1e-11
ALONE = Threads()


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


@given(
    network=networks(max_layers=4, max_positions=5) | weighted_networks(), kind=st.sampled_from(["source", "through"])
)
@settings(max_examples=60, deadline=None)
def test_every_marginal_lies_between_the_bounds(network: AttentionNetwork, kind: str) -> None:
    n = network.n_positions
    for layer in range(network.n_layers + 1):
        game = FlowGame(network, layer, game=kind)
        payoffs = game(coalitions_of(n))
        for player, (low, high) in enumerate(zip(*game.marginal_bounds(), strict=True)):
            without = [s for s in range(2**n) if not s >> player & 1]
            marginals = payoffs[[s | 1 << player for s in without]] - payoffs[without]
            slack = ROUNDING * max(1.0, payoffs[-1])
            assert low - slack <= marginals.min()
            assert marginals.max() <= high + slack


@pytest.mark.parametrize("readout", ["first", "mean"])
@pytest.mark.parametrize("kind", ["random", "sharp", "causal"])
def test_range_with_more_positions_than_bits_in_a_word(kind: str, readout: str) -> None:
    n = 67
    network = AttentionNetwork(stochastic(4, n, seed=1, kind=kind), readout_vector(readout, n, 0))
    flow = attention_flow(network, method="pairwise")
    for layer in range(5):
        low, high = FlowGame(network, layer, solver="ortools").marginal_bounds()
        np.testing.assert_allclose(flow.lower[layer], low, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(flow.upper[layer], high, rtol=0, atol=ROUNDING)


@given(network=networks(max_layers=4, max_positions=6), seed=st.integers(0, 2**16))
@settings(max_examples=40, deadline=None)
def test_bounds_of_a_layer_contain_the_value_of_every_coalition_below(network: AttentionNetwork, seed: int) -> None:
    for game in layer_games(quantise(network), 0, None, ALONE):
        if game.solver is None:
            continue
        coalitions = coalitions_of(network.n_positions)
        exact = FlowGame(network, game.layer, solver="ortools").units(coalitions)
        sent = coalitions @ game.players.sent
        least, most = flow_bounds(sent, game.solver.above, game.solver.limit)
        assert (least <= exact).all()
        assert (exact <= most).all()
        permutation = np.random.default_rng(seed).permutation(network.n_positions)
        bounds = game.solver.bounds(game.values)
        low, high = np.empty(len(permutation) + 1, dtype=np.int64), np.empty(len(permutation) + 1, dtype=np.int64)
        scratch = np.empty((2, len(bounds.constants)), dtype=np.int64)
        reached = prefix_bounds.py_func(bounds, permutation, low, high, scratch[0], scratch[1])
        low[reached:] = high[reached:] = bounds.total
        prefixes = np.concatenate([[0], np.cumsum(1 << permutation)])
        assert (low <= exact[prefixes]).all()
        assert (exact[prefixes] <= high).all()
        again, size = high.copy(), int(np.random.default_rng(seed).integers(len(permutation) + 1))
        other = np.concatenate([permutation[:size][::-1], permutation[size:]])
        reached = prefix_bounds.py_func(bounds, other, low, again, scratch[0], scratch[1])
        again[reached:] = bounds.total
        assert again[size] == high[size]  # upper bounds are a game: they do not depend on the order of the players
        by_player, faster, modelled = np.ascontiguousarray(bounds.weights.T), np.empty_like(high), np.empty(len(high))
        reached = write_model_values(bounds, by_player, permutation, faster, modelled, scratch[0])
        faster[reached:] = modelled[reached:] = bounds.total
        np.testing.assert_array_equal(modelled, faster)  # without outflows the model is the upper bounds
        np.testing.assert_array_equal(np.delete(faster, -2), np.delete(high, -2))
        assert faster[-2] >= high[-2]


@given(network=networks(max_layers=5, max_positions=6) | weighted_networks())
@settings(max_examples=40, deadline=None)
def test_bounds_by_size_and_by_flow_hold_for_every_coalition(network: AttentionNetwork) -> None:
    coalitions = coalitions_of(network.n_positions)
    n_players = coalitions.sum(axis=1)
    above: SizeBounds | np.ndarray | None = None
    for game in layer_games(quantise(network), 0, None, ALONE):
        if game.players is None:
            continue
        exact = FlowGame(network, game.layer, solver="ortools").units(coalitions)
        if game.solver is not None:
            for supply, value in zip(coalitions @ game.players.sent, exact, strict=True):
                assert supply_upper_bound.py_func(supply, game.solver.above) >= value
        above = SizeBounds(game.values.alone, game.players.sent, game.readout if above is None else above)
        assert (above.values[n_players] <= exact).all()
        assert above.values[1] == game.values.alone.min()


@given(network=networks(max_layers=5, max_positions=6) | weighted_networks())
@settings(max_examples=40, deadline=None)
def test_outflows_bound_every_coalition_and_prove_the_total(network: AttentionNetwork) -> None:
    coalitions = coalitions_of(network.n_positions)
    for game in layer_games(quantise(network), 0, None, ALONE):
        if game.solver is None:
            continue
        exact = FlowGame(network, game.layer, solver="ortools").units(coalitions)
        net, first = game.solver.nets.above(game.layer)
        flows = outflows(net, first, game.players.sent, game.values.total, ALONE.stop)
        assert (flows.sum(axis=1) == game.values.total).all()
        sent = coalitions @ game.players.sent
        low = np.array([outflow_bound.py_func(flows, supply) for supply in sent])
        assert (low <= exact).all()
        assert outflow_bound.py_func(flows, flows[0]) == game.values.total


@pytest.mark.parametrize("flow_sizes", [0, 2])
@pytest.mark.parametrize("readout", ["first", "mean"])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_first_two_places_of_the_upper_bounds_are_means_over_all_pairs(
    layer: int, readout: str, flow_sizes: int
) -> None:
    n = 9
    network = AttentionNetwork(stochastic(5, n, seed=3, kind="sharp"), readout_vector(readout, n, 0))
    game = list(layer_games(quantise(network), layer, None, ALONE))[-1]
    assert game.solver is not None
    bounds = game.solver.bounds(game.values)._replace(flow_sizes=flow_sizes)
    expected = np.zeros(n)
    for first, second in itertools.permutations(range(n), 2):
        pair = [first, second]
        of_cuts = (bounds.constants + bounds.weights[:, pair].sum(axis=1)).tolist()
        of_flow = supply_upper_bound.py_func(bounds.sent[pair].sum(axis=0), bounds.above)
        high = min(bounds.total, bounds.alone[pair].sum(), *of_cuts, *([of_flow] if flow_sizes else []))
        expected[first] += bounds.alone[first] / (n * (n - 1))
        expected[second] += (high - bounds.alone[first]) / (n * (n - 1))
    np.testing.assert_allclose(first_two_places(bounds), expected, rtol=1e-12)


@pytest.mark.parametrize("readout", ["first", "mean", "vector"])
def test_the_tolerance_is_a_share_of_the_mean_value(readout: str) -> None:
    n = 24
    network = AttentionNetwork(stochastic(5, n, seed=4, kind="sharp") * 3, 2 * readout_vector(readout, n, 0))
    for tolerance in (0.05, 0.3):
        flow = attention_flow(network, tolerance=tolerance)
        assert flow.n_permutations.any()
        assert ((flow.high - flow.low) / 2 <= tolerance * flow.total[:, None] / n + ROUNDING).all()
        half_widths = tolerance * flow.total / n
        for row, width in enumerate(half_widths):
            absolute = attention_flow(network, layers=[row], tolerance=float(width), absolute=True)
            np.testing.assert_array_equal(absolute.values[0], flow.values[row])


@pytest.mark.parametrize("seed", [0, 1])
def test_game_in_which_any_two_players_reach_the_total_is_exact(seed: int) -> None:
    n = 12
    network = AttentionNetwork(stochastic(6, n, seed=seed), readout_vector("mean", n, 0))
    flow = attention_flow(network, layers=[0])
    pairs = coalitions_of(n)[[(1 << i) + (1 << j) for i in range(n) for j in range(i)]]
    assert (FlowGame(network, 0)(pairs) == 1.0).all()
    assert (flow.upper[0] < 1.0).sum() > 1
    assert flow.n_permutations[0] == 0
    np.testing.assert_allclose(flow.values[0], exact_shapley(FlowGame(network, 0)).values, atol=ROUNDING)


@given(seed=st.integers(0, 2**16), n=st.integers(2, 7))
def test_marginals_of_a_game_of_two_cuts_over_all_cyclic_shifts(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    weights, permutation = random.integers(0, 9, size=n), random.permutation(n)
    bound = int(random.integers(0, weights.sum() + 2))
    found, expected = np.zeros(n), np.zeros(n)
    _two_cut_marginals.py_func(weights, bound, permutation, *np.zeros((2, 2 * n + 1), dtype=np.int64), found)
    for start in range(n):
        payoffs = np.minimum(np.cumsum([0, *weights[np.roll(permutation, -start)]]), bound)
        expected[np.roll(permutation, -start)] += np.diff(payoffs) * (np.arange(n) >= 2)
    np.testing.assert_allclose(found, expected / (2 * n), atol=1e-12)


@given(seed=st.integers(0, 2**16), n=st.integers(2, 7))
def test_the_first_two_places_are_means_over_all_pairs(seed: int, n: int) -> None:
    random = np.random.default_rng(seed)
    received, readout = random.integers(0, 9, size=(3, n)), random.integers(0, 12, size=3)
    pairs, rest = np.zeros(n), np.zeros(n)
    permutations = np.array(list(itertools.permutations(range(n))))
    prefixes = np.cumsum(received[:, permutations], axis=2)  # (3, permutations, n)
    marginals = np.diff(np.minimum(prefixes, readout[:, None, None]).sum(axis=0), prepend=0) / len(permutations)
    np.add.at(pairs, permutations[:, :2], marginals[:, :2])
    np.add.at(rest, permutations[:, 2:], marginals[:, 2:])
    np.testing.assert_allclose(first_two_places_separable(received, readout), pairs, atol=1e-12)
    game = FunctionGame(lambda coalitions: np.minimum(coalitions @ received.T, readout).sum(axis=1), n)
    np.testing.assert_allclose(pairs + rest, exact_shapley(game).values, atol=1e-12)


def test_shares_of_the_excess_of_prefixes_are_its_shapley_values() -> None:
    n = 4
    excess = np.random.default_rng(0).random(2**n)
    excess[[0, -1]] = 0.0
    game = FunctionGame(lambda coalitions: excess[coalitions @ (1 << np.arange(n))], n)
    permutations = np.array(list(itertools.permutations(range(n))))
    amounts = excess[np.cumsum(1 << permutations, axis=1)[:, :-1]]
    sizes = np.tile(np.arange(1, n), (len(permutations), 1))
    inside, outside = shapley_shares(permutations, sizes, amounts)
    np.testing.assert_allclose((inside - outside).mean(axis=0), exact_shapley(game).values, atol=1e-12)


@given(network=networks(max_positions=7), seed=st.integers(0, 2**16))
@settings(max_examples=30, deadline=None)
def test_values_of_groups_are_those_of_the_quotient_game(network: AttentionNetwork, seed: int) -> None:
    positions = np.random.default_rng(seed).permutation(network.n_positions)
    groups = [part.tolist() for part in np.array_split(positions, 3) if len(part)]
    flow = attention_flow(network, groups=groups)
    for layer in range(network.n_layers + 1):
        game = GroupedGame(FlowGame(network, layer, solver="ortools"), groups)
        np.testing.assert_allclose(flow.values[layer], exact_shapley(game).values, rtol=0, atol=ROUNDING)
        np.testing.assert_allclose(flow.upper[layer], game(np.eye(len(groups), dtype=bool)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize(
    ("kind", "readout", "n_layers"),
    [("sharp", "first", 5), ("sharp", "mean", 4), ("sharp", "vector", 4), ("random", "mean", 4)],
)
def test_sampled_intervals_are_within_the_tolerance_and_cover_the_exact_values(
    kind: str, readout: str, n_layers: int
) -> None:
    n, n_seeds, tolerance = 11, 8, 1e-2
    network = AttentionNetwork(stochastic(n_layers, n, seed=5, kind=kind), readout_vector(readout, n, 7))
    exact = np.stack([exact_shapley(FlowGame(network, layer)).values for layer in range(n_layers + 1)])
    inside = []
    for seed in range(n_seeds):
        flow = attention_flow(network, seed=seed, tolerance=tolerance, absolute=True)
        assert ((flow.high - flow.low) / 2 <= tolerance + ROUNDING).all()
        assert (flow.lower - ROUNDING <= flow.low).all()
        assert (flow.high <= flow.upper + ROUNDING).all()
        np.testing.assert_allclose(flow.values.sum(axis=1), flow.total, atol=ROUNDING)
        inside.append((flow.low - ROUNDING <= exact) & (exact <= flow.high + ROUNDING))
    sampled = flow.n_permutations > 0
    assert sampled.any()
    assert kind != "random" or (flow.n_permutations % (2 * n)).any()  # includes permutations of the bias correction
    covered = np.stack(inside)[:, sampled]
    assert covered.mean() >= 0.95  # nominal, over n_seeds x players x layers
    np.testing.assert_allclose(flow.values[~sampled], exact[~sampled], atol=ROUNDING)


@pytest.mark.parametrize(
    ("kind", "readout", "n", "n_layers", "residual", "seed", "layer", "tolerance"),
    [
        ("sharp", "last", 13, 4, 0.05, 1932717574, 1, 2e-3),  # upper bounds from several cuts
        ("causal", "mean", 11, 5, 0.1, 126224807, 1, 1e-3),  # bounds that are loose for few permutations
        ("causal", "mean", 13, 5, 0.1, 1922937209, 0, 5e-3),
    ],
)
def test_intervals_cover_the_exact_values_if_bounds_are_loose(
    kind: str, readout: str, n: int, n_layers: int, residual: float, seed: int, layer: int, tolerance: float
) -> None:
    network = AttentionNetwork(stochastic(n_layers, n, seed, kind, residual), readout_vector(readout, n, 0))
    exact = exact_shapley(FlowGame(network, layer)).values
    covered, n_permutations = [], []
    for run in range(12):
        flow = attention_flow(network, layers=[layer], tolerance=tolerance, absolute=True, seed=run)
        n_permutations.append(int(flow.n_permutations[0]))
        covered.append((flow.low[0] - ROUNDING <= exact) & (exact <= flow.high[0] + ROUNDING))
    assert any(count % (2 * n) for count in n_permutations)  # includes permutations of the bias correction
    assert np.mean(covered) >= 0.95
    assert min(np.mean(covered, axis=1)) >= 0.7


@given(seed=st.integers(0, 2**16), n=st.integers(1, 12))
@settings(max_examples=60, deadline=None)
def test_efficient_values_are_the_nearest_within_the_bounds(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    low = rng.random(n) * (rng.random(n) < 0.5)
    high = low + rng.random(n) * (rng.random(n) < 0.8)
    total = float(low.sum() + rng.random() * (high - low).sum())
    start = rng.normal(size=n)
    found = _efficient(start, low, high, total)
    assert found.sum() == pytest.approx(total, abs=1e-12)
    assert (low <= found).all()
    assert (found <= high).all()
    free = (low < found) & (found < high)  # Karush-Kuhn-Tucker: all free values have the same shift
    moved = found - start
    shift = moved[free].mean() if free.any() else 0.0
    np.testing.assert_allclose(moved[free], shift, atol=1e-12)
    if free.any():
        assert (moved[found == low] >= shift - 1e-12)[low[found == low] < high[found == low]].all()
        assert (moved[found == high] <= shift + 1e-12)[low[found == high] < high[found == high]].all()


def test_results_depend_only_on_the_seed() -> None:
    networks_ = [AttentionNetwork(stochastic(4, n, seed=n), readout_vector("mean", n, 0)) for n in (12, 5, 20, 12)]
    together = attention_flow(networks_, seed=3)
    for flow, network in zip(together, networks_, strict=True):
        alone = attention_flow(network, seed=3)
        np.testing.assert_array_equal(flow.values, alone.values)
        np.testing.assert_array_equal(flow.high, alone.high)
    assert (attention_flow(networks_[2], seed=4).values != together[2].values).any()


def test_most_layers_need_no_maximum_flow() -> None:
    network = AttentionNetwork(stochastic(10, 24, seed=2), readout_vector("first", 24, 0))
    flows = [game.solver.n_flows for game in layer_games(quantise(network), 0, None, ALONE) if game.solver is not None]
    assert len(flows) == 8
    assert flows[-5:] == [0] * 5
