"""Approximate Data Shapley against exact Shapley values and exact retraining."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import FunctionGame, MaxPermutations, exact_shapley
from lightning_attnflow.valuation import (
    ApproximateDataShapley,
    DataShapley,
    FrozenEncoderUtility,
    approximate_data_shapley,
)
from lightning_attnflow.valuation.approximate import _marginals, _size_weights
from lightning_attnflow.valuation.utilities.logistic_regression import Rows


def utility(n: int = 40, classes: int = 2, **options: object) -> FrozenEncoderUtility:
    rng = np.random.default_rng(0)
    labels = np.arange(n + 60) % classes
    features = rng.normal(size=(n + 60, 6))
    features[:, :classes] += 2 * np.eye(classes)[labels]
    given = labels[:n].copy()
    given[:3] = (given[:3] + 1) % classes  # three wrong labels
    return FrozenEncoderUtility(features[:n], given, features[n:], labels[n:], **options)


def exact_marginals(game: FrozenEncoderUtility, members: np.ndarray) -> np.ndarray:
    n = game.n_players
    changed = np.tile(members, (n, 1)) ^ np.eye(n, dtype=bool)
    return np.where(members, -1, 1) * (game(changed) - game(members[None]))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("options", [{}, {"class_weight": "balanced"}, {"sample_weight": np.linspace(0.5, 2, 40)}])
def test_one_newton_step_is_close_to_retraining(classes: int, options: dict[str, object]) -> None:
    game = utility(classes=classes, **options)
    everyone = torch.arange(40)
    for size in (0, 20, 40):
        members = np.random.default_rng(size).permutation(40) < size
        present = torch.from_numpy(members[:, None].astype(np.float64))
        weights, _ = game._train(Rows(game._design, everyone), everyone, present, None)
        exact = exact_marginals(game, members)
        error = np.abs(_marginals(game, weights.numpy(), members) - exact).max()
        assert error < {0: 0.5, 20: 0.15, 40: 0.1}[size] * np.abs(exact).max(), (size, error / np.abs(exact).max())


def test_the_values_are_within_the_stated_errors_of_the_exact_shapley_values() -> None:
    game = utility(n=10)
    exact = exact_shapley(FunctionGame(game, 10)).values
    result = approximate_data_shapley(game, n_permutations=200)
    errors = result.values - exact
    assert np.sqrt((errors**2).mean()) < np.hypot(result.bias_bound, 2 * np.sqrt((result.stderr**2).mean()))
    assert np.corrcoef(result.values, exact)[0, 1] > 0.99
    low, high = result.interval()
    assert ((low <= exact) & (exact <= high)).mean() >= 0.9
    assert result.efficiency_gap == pytest.approx(-errors.sum(), abs=1e-6)
    assert (result.v_empty, result.v_full) == tuple(game(np.array([[False] * 10, [True] * 10])))


def test_the_audit_measures_the_error_of_the_marginals() -> None:
    game = utility(n=12)
    result = approximate_data_shapley(game, n_permutations=30, n_audited=12)
    assert result.n_audited == 30 * 12 * len(np.unique(np.r_[0, np.round(np.geomspace(1, 12, 29)).astype(int)]))
    assert 0 < result.bias_bound < 0.2 * result.values.std()
    assert abs(result.bias) < result.bias_bound


@pytest.mark.parametrize("classes", [2, 3])
def test_the_values_agree_with_data_shapley(classes: int) -> None:
    game = utility(classes=classes)
    sampled = DataShapley(game, stop=MaxPermutations(200), seed=1).fit().result
    result = approximate_data_shapley(game, n_permutations=20)
    assert np.corrcoef(result.values, sampled.values)[0, 1] > 0.99


@pytest.mark.parametrize("entry", [1, 2, 3, 5])
def test_size_weights_integrate_linear_functions_exactly(entry: int) -> None:
    sizes = np.array([0, 1, 2, 5, 11, 20])
    weights = _size_weights(sizes, entry, 20)
    assert weights.sum() == pytest.approx(1)
    nodes = sizes - (np.arange(6) >= entry)
    assert weights @ (3.0 * nodes + 1) == pytest.approx(np.mean(3.0 * np.arange(20) + 1))


def test_results_are_reproducible_and_can_be_saved(tmp_path) -> None:
    state = torch.random.get_rng_state()
    result = approximate_data_shapley(utility(), n_permutations=2, seed=3)
    again = approximate_data_shapley(utility(), n_permutations=2, seed=3)
    assert (result.values == again.values).all()
    assert torch.equal(state, torch.random.get_rng_state())
    result.save(tmp_path / "values.npz")
    loaded = ApproximateDataShapley.load(tmp_path / "values.npz")
    np.testing.assert_array_equal(loaded.to_pandas(), result.to_pandas())
    assert (loaded.bias_bound, loaded.efficiency_gap) == (result.bias_bound, result.efficiency_gap)
    assert result.plot().get_xlabel()
    single = approximate_data_shapley(utility(), n_permutations=1)
    assert np.isinf(single.interval()[1]).all()


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({"metric": "accuracy"}, {}, "metric: got 'accuracy'"),
        ({"epochs": 3}, {}, "epochs: got 3"),
        ({}, {"n_sizes": 2}, "n_sizes: got 2"),
        ({}, {"n_permutations": 0}, "n_permutations: got 0"),
    ],
)
def test_invalid_arguments_raise_input_errors(
    options: dict[str, object], arguments: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        approximate_data_shapley(utility(**options), **arguments)


def test_other_games_raise_input_errors() -> None:
    with pytest.raises(InputError, match="utility: got FunctionGame"):
        approximate_data_shapley(FunctionGame(lambda coalitions: coalitions.sum(axis=1), 3))
