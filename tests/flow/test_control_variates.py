"""The Shapley values of sampled amounts against all coalitions."""

from itertools import combinations
from math import comb

import numpy as np
import pytest

from lightning_attnflow.flow.engine import control_variates
from lightning_attnflow.flow.engine.control_variates import AdditiveFit, Prefixes, size_ranges

N = 9


def _amounts(random, fixed):
    """Return an amount for each coalition of 2 ... n - 1 players, 0 with the fixed player."""
    main, level = random.integers(0, 1000, size=N), random.integers(0, 3000, size=N)
    return {
        members: 0 if fixed in members else int(main[list(members)].sum() + level[size] + random.integers(0, 500))
        for size in range(2, N)
        for members in combinations(range(N), size)
    }


def _reference(amounts):
    """Return the negative Shapley values of the game of the amounts."""
    values = np.zeros(N)
    for members, amount in amounts.items():
        inside = np.isin(np.arange(N), members)
        share = amount / comb(N, len(members))
        values += np.where(inside, -share / len(members), share / (N - len(members)))
    return values


def _sample(random, amounts, ranges, n_samples, fixed):
    players = [player for player in range(N) if player != fixed] + [player for player in range(N) if player == fixed]
    permutations = np.tile(players, (n_samples, 1))
    n_movable = int(ranges.movable.sum())
    permutations[:, :n_movable] = random.permuted(permutations[:, :n_movable], axis=1)
    sizes = ranges.draw(n_samples, random)
    excess = [
        [amounts[tuple(sorted(permutation[:size].tolist()))] for size in chosen]
        for permutation, chosen in zip(permutations, sizes, strict=True)
    ]
    return Prefixes(permutations, sizes, np.array(excess, dtype=float), *np.zeros((2, *sizes.shape)))


@pytest.mark.parametrize("kept", [100, 2**22])
@pytest.mark.parametrize("fixed", [-1, 0, 4])
def test_mean_corrections_are_the_shapley_values_of_all_coalitions(fixed, kept, monkeypatch):
    monkeypatch.setattr(control_variates, "_MOST_KEPT", kept)
    random = np.random.default_rng(0)
    amounts = _amounts(random, fixed)
    ranges = size_ranges(np.arange(N) != fixed)
    fit = AdditiveFit(ranges)
    for n_samples in (8, 40, 4000):
        corrections = fit.add(_sample(random, amounts, ranges, n_samples, fixed))
    assert fit.statistics.count == 4048
    assert np.abs(fit.statistics.mean - _reference(amounts)).max() < 4 * fit.statistics.stderr.max()
    np.testing.assert_allclose(corrections.sum(axis=1), 0, atol=1e-6)


def test_fit_removes_the_variance_of_additive_amounts():
    random = np.random.default_rng(1)
    main = random.integers(0, 1000, size=N)
    amounts = {
        members: int(main[list(members)].sum()) for size in range(2, N) for members in combinations(range(N), size)
    }
    ranges = size_ranges(np.ones(N, dtype=bool))
    corrections = AdditiveFit(ranges).add(_sample(random, amounts, ranges, 4000, -1))
    np.testing.assert_allclose(corrections.mean(axis=0), _reference(amounts), atol=5)
    assert corrections.std(axis=0).max() < 0.2 * np.abs(_reference(amounts)).max()
