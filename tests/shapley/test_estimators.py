"""Stratified SVARM, KernelSHAP and automatic choice: exactness, errors, intervals, and comparison with peers."""

from __future__ import annotations

import math

import games
import numpy as np
import pytest
import shapiq
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import (
    FunctionGame,
    Game,
    MaxPermutations,
    additive_fit,
    coalition_sampling,
    exact_shapley,
    kernel_shap,
    permutation_shapley,
    quadrature_shapley,
    shapley,
    stratified_shapley,
)
from lightning_attnflow.shapley.coalition_sampling import _BALANCED, MANY_PLAYERS, _quotas, draw_strata, minimum_budget


@pytest.mark.parametrize("method", [stratified_shapley, kernel_shap])
@pytest.mark.parametrize("n_players", range(2, 9))
def test_a_budget_for_all_coalitions_gives_exact_values(method, n_players: int) -> None:
    game = games.random_table(n_players, seed=n_players)
    result = method(game, budget=2**n_players)
    np.testing.assert_allclose(result.values, exact_shapley(game).values, atol=1e-9)
    assert result.stderr.max() < 1e-9
    assert result.n_evaluations == 2**n_players


@pytest.mark.parametrize("method", [stratified_shapley, kernel_shap])
@pytest.mark.parametrize("name", games.OF_TEN_OR_SO)
def test_estimates_are_centred_efficient_and_within_their_intervals(method, name: str) -> None:
    game, values = games.OF_TEN_OR_SO[name]
    results = [method(game, budget=200, seed=seed) for seed in range(60)]
    errors = np.array([result.values - values for result in results])
    scale = np.sqrt((errors**2).mean())
    assert np.abs(errors.mean(axis=0)).max() < 6 * scale / np.sqrt(60)
    covered = [(result.interval()[0] <= values) & (values <= result.interval()[1]) for result in results]
    assert np.mean(covered) >= 0.9
    for result in results:
        assert result.n_evaluations <= 200
        assert result.efficiency_gap == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("method", [stratified_shapley, kernel_shap])
def test_additive_games_are_estimated_exactly(method) -> None:
    weights = np.random.default_rng(0).normal(size=30)
    result = method(games.modular(weights)[0], budget=150)
    np.testing.assert_allclose(result.values, weights, atol=1e-6)


@given(st.integers(2, 24), st.integers(0, 400), st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_strata_keep_the_budget_and_contain_distinct_pairs(n_players: int, extra: int, seed: int) -> None:
    budget = minimum_budget(n_players) + extra
    layers = draw_strata(n_players, budget, np.random.default_rng(seed), lambda size: 1 / (size * (n_players - size)))
    listed = np.concatenate([layer.coalitions for layer in layers])
    both = np.concatenate([listed, ~listed])
    assert len(np.unique(both, axis=0)) == len(both) <= budget - 2
    assert [layer.size for layer in layers] == list(range(1, n_players // 2 + 1))
    for layer in layers:
        assert (layer.coalitions.sum(axis=1) == layer.size).all()
        assert len(layer.coalitions) >= min(2, layer.n_pairs)
    if budget - 2 - len(both) > 1:
        assert all(layer.complete for layer in layers)


def test_more_pairs_than_are_balanced_are_distinct() -> None:
    layer = draw_strata(18, 30000, np.random.default_rng(0), lambda _: 1.0)[7]
    assert _BALANCED < len(layer.coalitions) < layer.n_pairs / 2
    assert len(np.unique(layer.coalitions, axis=0)) == len(layer.coalitions)


@pytest.mark.parametrize(("n_players", "budget"), [(7, 20), (10, 100), (12, 60), (24, 96)])
def test_strata_are_balanced_over_players_and_pairs_of_players(n_players: int, budget: int) -> None:
    for seed in range(20):
        layers = draw_strata(n_players, budget, np.random.default_rng(seed), lambda size: 1 / size)
        times = sum(layer.coalitions.sum(axis=0) for layer in layers if 2 * layer.size < n_players)
        assert times.max() - times.min() <= 1
        signs = 2.0 * np.concatenate([layer.coalitions for layer in layers]) - 1.0
        together = (signs.T @ signs)[~np.eye(n_players, dtype=bool)]
        assert together.var() < 0.6 * len(signs)  # of independent draws about len(signs)


@pytest.mark.parametrize("many", [MANY_PLAYERS, 0])
def test_all_pairs_of_a_size_are_equally_likely(many: int, monkeypatch) -> None:
    monkeypatch.setattr(coalition_sampling, "MANY_PLAYERS", many)
    n_players, seeds = 6, 1500
    layers = [draw_strata(n_players, 22, np.random.default_rng(seed), lambda _: 1.0) for seed in range(seeds)]
    for at, n_pairs in enumerate((6, 15, 10)):
        drawn = np.concatenate([of_seed[at].coalitions for of_seed in layers])
        times = np.unique(drawn, axis=0, return_counts=True)[1]
        assert len(times) == n_pairs
        chance = len(drawn) / seeds / n_pairs
        assert np.abs(times - chance * seeds).max() < 4 * np.sqrt(seeds * chance * (1 - chance))


def _reference_quotas(n_players: int, pairs: int, share) -> dict[int, int]:
    """Largest remainder, one step at a time."""
    sizes = range(1, n_players // 2 + 1)
    available = {s: math.comb(n_players, s) // (2 if 2 * s == n_players else 1) for s in sizes}
    shares = {s: share(s) * (0.5 if 2 * s == n_players else 1.0) for s in sizes}
    quotas, open_sizes = {s: min(2, available[s]) for s in sizes}, set(sizes)
    while open_sizes:
        left = pairs - sum(quotas[s] for s in sizes if s not in open_sizes)
        total = sum(shares[s] for s in open_sizes)
        full = {s for s in open_sizes if left * shares[s] / total >= available[s]}
        if not full:
            break
        quotas |= {s: available[s] for s in full}
        open_sizes -= full
    left = pairs - sum(quotas.values())
    while open_sizes and left > 0:
        target = {s: shares[s] / sum(shares[other] for other in open_sizes) for s in open_sizes}
        held = sum(quotas[s] for s in open_sizes) + left
        s = max(sorted(open_sizes), key=lambda s: target[s] * held - quotas[s])
        step = max(1, min(left, int(target[s] * held - quotas[s]), available[s] - quotas[s]))
        quotas[s] += step
        left -= step
        if quotas[s] == available[s]:
            open_sizes.remove(s)
    return quotas


@pytest.mark.parametrize("share", [lambda s: s**0.0, lambda s: 1 / s, lambda s: s**-0.5])
@pytest.mark.parametrize("n_players", [2, 3, 7, 12, 25, 60, 101])
def test_quotas_are_by_largest_remainder(share, n_players: int) -> None:
    for extra in (0, 1, 5, 40, 300, 3000):
        pairs = (minimum_budget(n_players) - 2) // 2 + extra
        assert _quotas(n_players, pairs, share) == _reference_quotas(n_players, pairs, share)


@pytest.mark.parametrize("n_players", [MANY_PLAYERS, 300])
def test_samples_of_many_players_are_balanced_over_players_and_distinct(n_players: int) -> None:
    strata = draw_strata(n_players, 3 * n_players, np.random.default_rng(0), lambda size: 1 / size)
    dealt = np.concatenate([stratum.coalitions for stratum in strata if 2 * stratum.size < n_players])
    times = dealt.sum(axis=0)
    assert times.max() - times.min() <= 1
    assert all((stratum.coalitions.sum(axis=1) == stratum.size).all() for stratum in strata)
    assert len(np.unique(dealt, axis=0)) == len(dealt)


@pytest.mark.parametrize(("per_player", "noise", "tolerance"), [(4, 0.0, 3e-4), (3, 0.1, 3e-3)])
def test_the_iterative_fit_agrees_with_the_singular_value_decomposition(
    per_player: int, noise: float, tolerance: float, monkeypatch
) -> None:
    n_players = 300
    random = np.random.default_rng(1)
    strata = draw_strata(n_players, per_player * n_players, random, lambda size: 1 / math.sqrt(size))
    coalitions = np.concatenate([stratum.coalitions for stratum in strata])
    weights = np.repeat([1 / len(s.coalitions) / s.size for s in strata], [len(s.coalitions) for s in strata])
    values = random.normal(size=n_players)
    halves = (coalitions - 0.5) @ values + noise * random.normal(size=len(coalitions))
    iterative = additive_fit.fit_additive(coalitions, halves, weights, values.sum())
    monkeypatch.setattr(additive_fit, "MANY_PLAYERS", n_players + 1)
    direct = additive_fit.fit_additive(coalitions, halves, weights, values.sum())
    np.testing.assert_allclose(iterative.coefficients, direct.coefficients, atol=tolerance)
    assert iterative.degrees == pytest.approx(direct.degrees, rel=0.03)


def test_estimates_of_many_players_are_centred_and_within_their_intervals() -> None:
    costs = np.sort(np.random.default_rng(3).pareto(1.2, 300) + 1)
    game, values = games.airport(costs)
    results = [shapley(game, budget=1800, seed=seed) for seed in range(20)]
    errors = np.array([result.values - values for result in results])
    assert {result.method for result in results} == {"stratified_shapley"}
    # The fit is to the sample whose residuals correct it; what bias this leaves is within the standard errors.
    assert (np.abs(errors.mean(axis=0)) < 2 * np.mean([result.stderr for result in results], axis=0)).all()
    covered = [(result.interval()[0] <= values) & (values <= result.interval()[1]) for result in results]
    assert np.mean(covered) >= 0.94
    mean_square = np.mean([result.stderr**2 for result in results], axis=0)  # neither too small nor too large
    assert 0.5 < np.mean(mean_square) / np.mean(errors**2) < 5
    assert max(abs(result.efficiency_gap) for result in results) < 1e-9 * values.sum()


@pytest.mark.parametrize("method", [stratified_shapley, kernel_shap])
@pytest.mark.parametrize("budget", [0, 21, 100.0, True])
def test_a_budget_below_the_minimum_is_an_error(method, budget: object) -> None:
    with pytest.raises(InputError, match="The minimum for 10 players is 22"):
        method(games.OF_TEN_OR_SO["airport"][0], budget=budget)
    assert method(games.OF_TEN_OR_SO["airport"][0], budget=22).n_evaluations == 22


@pytest.mark.parametrize("method", [stratified_shapley, kernel_shap, quadrature_shapley, shapley])
@pytest.mark.parametrize("seed", [-1, 1.5, True, "a", None])
def test_seeds_are_checked(method, seed: object) -> None:
    for n_players in (1, 4, 12):
        with pytest.raises(InputError, match="seed"):
            method(games.modular(np.ones(n_players))[0], budget=2**n_players, seed=seed)


def test_unknown_keywords_are_errors() -> None:
    for method in (stratified_shapley, kernel_shap, shapley):
        with pytest.raises(TypeError, match="pairing"):
            method(games.OF_TEN_OR_SO["airport"][0], budget=100, pairing=True)


def test_shapley_states_its_method_and_keeps_the_budget() -> None:
    game = FunctionGame(lambda c: np.sqrt(c.sum(axis=1)), 12)
    for budget, method in ((4096, "exact_shapley"), (300, "quadrature_shapley"), (26, "quadrature_shapley")):
        result = shapley(game, budget=budget)
        assert result.method == method
        assert result.n_evaluations <= budget
    assert shapley(game, budget=25).method == "permutation_shapley(antithetic)"
    with pytest.raises(InputError, match=">= 24"):
        shapley(game, budget=23)


def _shapiq(game: Game) -> np.ndarray:
    v_empty = game(np.zeros((1, game.n_players), bool))
    computer = shapiq.ExactComputer(lambda rows: game(np.atleast_2d(rows)) - v_empty, game.n_players)
    values = computer(index="SV", order=1)
    return np.array([values[(player,)] for player in range(game.n_players)])


@pytest.mark.parametrize("name", ["airport", "voting", "coverage"])
def test_shapiq_agrees_on_exact_values(name: str) -> None:
    game, _ = games.OF_TEN_OR_SO[name]
    np.testing.assert_allclose(exact_shapley(game).values, _shapiq(game), atol=1e-9)


def test_permutation_sampling_of_shapiq_agrees_within_the_errors() -> None:
    game, _ = games.OF_TEN_OR_SO["coverage"]
    v_empty = game(np.zeros((1, 10), bool))
    peer = shapiq.PermutationSamplingSV(10, random_state=0).approximate(
        20_000, lambda rows: game(np.atleast_2d(rows)) - v_empty
    )
    result = permutation_shapley(game, stop=MaxPermutations(2000), antithetic=False)
    theirs = np.array([peer[(player,)] for player in range(10)])
    assert (np.abs(theirs - result.values) < 4 * np.sqrt(2) * result.stderr).all()


def test_captum_agrees_exactly_and_by_sampling() -> None:
    torch = pytest.importorskip("torch")
    attribution = pytest.importorskip("captum.attr")
    game, values = games.airport(np.array([1.0, 2.0, 4.0, 7.0, 7.0, 9.0]))
    present, absent = torch.ones(1, 6), torch.zeros(1, 6)

    def forward(rows):
        return torch.from_numpy(game(rows.numpy() > 0.5))

    exact = attribution.ShapleyValues(forward).attribute(present, baselines=absent)
    total = exact.numpy()[0].astype(np.float64) * math.factorial(6)  # an integer, but for captum's float32 mean
    np.testing.assert_allclose(total, total.round(), atol=1e-3)
    np.testing.assert_allclose(exact_shapley(game).values, total.round() / math.factorial(6), atol=1e-9)
    torch_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    sampled = attribution.ShapleyValueSampling(forward).attribute(present, baselines=absent, n_samples=400).numpy()[0]
    torch.random.set_rng_state(torch_state)
    ours = permutation_shapley(game, stop=MaxPermutations(400), antithetic=False)
    assert (np.abs(sampled - values) < 4 * ours.stderr + 1e-6).all()
