"""The model of coalition values from flows of single players, and its sampling, against all coalitions."""

import itertools

import numpy as np
import pytest
from flow_kernels import add_shift_marginals, write_model_values
from networks import coalitions_of, readout_vector, stochastic

from lightning_attnflow import AttentionNetwork, attention_flow
from lightning_attnflow.flow import FlowGame
from lightning_attnflow.flow.engine import bias_correction, flow_model
from lightning_attnflow.flow.engine.control_variates import Prefixes, size_ranges
from lightning_attnflow.flow.engine.flow_model import fit_model
from lightning_attnflow.flow.engine.layer import LayerGame
from lightning_attnflow.flow.engine.layer_bounds import NO_POSITION
from lightning_attnflow.flow.engine.permutations import (
    CoalitionBounds,
    FlowModel,
    first_two_places,
    sample_bounds,
    sample_model,
)
from lightning_attnflow.flow.engine.run import layer_games
from lightning_attnflow.flow.engine.threads import Threads
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.shapley import FunctionGame, exact_shapley

ALONE = Threads(0)
N = 6
ROUNDING = 1e-11


def _game(n: int, n_layers: int, layer: int, readout: str, kind: str = "causal") -> LayerGame:
    network = AttentionNetwork(stochastic(n_layers, n, 3, kind, 0.1), readout_vector(readout, n, 0))
    return next(game for game in layer_games(quantise(network), 0, None, ALONE) if game.layer == layer)


def _with_model(game: LayerGame, shares: np.ndarray) -> CoalitionBounds:
    """Return the bounds of a game with a model of these shares by size."""
    assert game.solver is not None
    net, first = game.solver.nets.above(game.layer)
    outflows = flow_model._outflows_alone(net, first, game.players.sent, game.values.alone, ALONE.stop)
    model = FlowModel(outflows, np.ascontiguousarray(net.edges[-1, :, 0]), shares)
    return game.solver.bounds(game.values)._replace(model=model)


def _values_of_coalitions(bounds: CoalitionBounds) -> np.ndarray:
    """Return the values of all coalitions in the model by its definition, (2^n,)."""
    coalitions = coalitions_of(len(bounds.alone))
    cuts = bounds.constants + coalitions @ bounds.weights.T
    upper = np.minimum(np.minimum(cuts.min(axis=1, initial=bounds.total), coalitions @ bounds.alone), bounds.total)
    to_sink = np.minimum(coalitions @ bounds.model.outflows, bounds.model.capacities).sum(axis=1)
    values = upper - bounds.model.shares[coalitions.sum(axis=1)] * np.maximum(upper - to_sink, 0)
    values[0], values[-1] = 0, bounds.total
    return values


@pytest.mark.parametrize(("kind", "readout", "full"), [("causal", "last", True), ("sharp", "mean", False)])
def test_all_shifts_of_all_permutations_give_the_shapley_values_of_the_model(
    kind: str, readout: str, full: bool
) -> None:
    game = _game(N, 4, 1, readout, kind)
    bounds = _with_model(game, np.array([0.0, 0, 0.4, 0.6, 0.8, 1, 0]))
    assert (bounds.full_player != NO_POSITION) == full
    players = np.flatnonzero(np.arange(N) != bounds.full_player)
    bounds.model.outflows[players] = np.random.default_rng(0).permuted(bounds.model.outflows[players] // 2, axis=1)
    payoffs = _values_of_coalitions(bounds)
    of_cuts = _values_of_coalitions(bounds._replace(model=bounds.model._replace(shares=np.zeros(N + 1))))
    assert (payoffs < of_cuts).sum() > 10
    by_player = np.ascontiguousarray(bounds.weights.T)
    high, sums = np.empty(N + 1, dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    marginals = np.zeros(N)
    for order in itertools.permutations(players):
        modelled, reached = np.empty((len(players), N + 1)), np.empty(len(players), dtype=np.int64)
        for start in range(len(players)):
            shifted = np.roll(order, -start)
            reached[start] = write_model_values(bounds, by_player, shifted, high, modelled[start], sums)
            sets = np.cumsum(1 << shifted)
            np.testing.assert_allclose(modelled[start, 1 : reached[start]], payoffs[sets[: reached[start] - 1]])
            assert (payoffs[sets[reached[start] - 1 :]] == bounds.total).all()
        add_shift_marginals(N, np.array(order), modelled, reached, bounds.total, bounds.full_player, marginals)
    found = marginals / np.prod(np.arange(1, len(players) + 1)) + first_two_places(bounds)
    expected = exact_shapley(FunctionGame(lambda coalitions: payoffs[coalitions @ (1 << np.arange(N))], N)).values
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-6 * bounds.total)


@pytest.mark.parametrize(("kind", "readout"), [("causal", "last"), ("sharp", "mean")])
def test_samples_of_bounds_and_of_the_model_agree_and_gaps_contain_the_exact_values(kind: str, readout: str) -> None:
    game = _game(9, 5, 1, readout, kind)
    assert game.solver is not None
    bounds = game.solver.bounds(game.values)
    players = np.flatnonzero(np.arange(9) != bounds.full_player)
    samples, gaps = np.zeros((2, 4000, 9)), np.zeros((2, 9))
    state = np.array([1], dtype=np.uint64)
    sample_bounds(bounds, players.copy(), state.copy(), samples[0], gaps[0], gaps[1], ALONE.stop)
    sample_model(bounds, np.ascontiguousarray(bounds.weights.T), players, state, samples[1], ALONE.stop)
    error = samples.std(axis=1).max() / np.sqrt(4000)
    np.testing.assert_allclose(samples[0].mean(axis=0), samples[1].mean(axis=0), atol=4 * error + gaps.max())
    values = first_two_places(bounds) + samples[0].mean(axis=0)
    network = AttentionNetwork(stochastic(5, 9, 3, kind, 0.1), readout_vector(readout, 9, 0))
    exact = exact_shapley(FlowGame(network, 1)).values * bounds.total
    assert (values - gaps[1] - 5 * error <= exact).all()
    assert (exact <= values + gaps[0] + 5 * error).all()


def test_fit_finds_the_share_that_explains_the_excess() -> None:
    game = _game(12, 6, 1, "mean")
    bounds = _with_model(game, np.zeros(13))
    assert game.solver is not None
    random, ranges = np.random.default_rng(0), size_ranges(np.ones(12, dtype=bool))
    permutations = np.array([random.permutation(12) for _ in range(64)])
    sizes = ranges.draw(64, random)
    inside = np.array(
        [np.isin(np.arange(12), order[:size]) for order, row in zip(permutations, sizes, strict=True) for size in row]
    )
    to_sink = np.minimum(inside @ bounds.model.outflows, bounds.model.capacities).sum(axis=1).reshape(sizes.shape)
    upper = to_sink + random.integers(0, 10**12, size=sizes.shape)
    net, first = game.solver.nets.above(game.layer)
    for share, noise in ((0.6, 0.0), (1.0, 1e9), (0.5, 1e13)):
        excess = share * (upper - to_sink) + noise * random.normal(size=sizes.shape)
        prefixes = Prefixes(permutations, sizes, excess, np.zeros(sizes.shape), upper.astype(float))
        model = fit_model(net, first, game.players.sent, game.values.alone, prefixes, ranges, ALONE.stop)
        if noise > 1e12:
            assert model is None  # the excess has nothing to do with the model
        else:
            assert model is not None
            np.testing.assert_allclose(model.shares, share, atol=1e-2)


@pytest.mark.parametrize(("readout", "n_layers"), [("last", 8), ("mean", 6)])
def test_intervals_cover_the_exact_values_with_a_model(
    readout: str, n_layers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    n, tolerance = 11, 4e-3
    monkeypatch.setattr(bias_correction, "_INEXACT_FOR_MODEL", 0)
    monkeypatch.setattr(flow_model, "_MIN_GAIN", 0.0)
    fitted = []
    original = bias_correction.fit_model
    monkeypatch.setattr(bias_correction, "fit_model", lambda *args: fitted.append(original(*args)) or fitted[-1])
    network = AttentionNetwork(stochastic(n_layers, n, 7, "causal", 0.1), readout_vector(readout, n, 0))
    exact = np.stack([exact_shapley(FlowGame(network, layer)).values for layer in range(n_layers + 1)])
    inside = []
    for seed in range(12):
        flow = attention_flow(network, seed=seed, tolerance=tolerance, absolute=True)
        assert ((flow.high - flow.low) / 2 <= tolerance + ROUNDING).all()
        inside.append((flow.low - ROUNDING <= exact) & (exact <= flow.high + ROUNDING))
    assert any(model.shares.max() > 0.5 for model in fitted)
    assert np.mean(inside) >= 0.95
