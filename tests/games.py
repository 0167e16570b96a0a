"""Games with Shapley values in closed form, and random games small enough to enumerate."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley import FunctionGame, Game

FloatArray = NDArray[np.float64]


def modular(weights: FloatArray) -> tuple[Game, FloatArray]:
    """v(S) = w(S); the value of a player is its weight."""
    weights = np.asarray(weights, dtype=np.float64)
    return FunctionGame(lambda coalitions: coalitions @ weights, len(weights)), weights


def unanimity(n_players: int, members: list[int]) -> tuple[Game, FloatArray]:
    """v(S) = 1 if S contains all members, who have equal values; the others are null players."""
    values = np.zeros(n_players)
    values[members] = 1 / len(members)
    return FunctionGame(lambda coalitions: coalitions[:, members].all(axis=1) * 1.0, n_players), values


def shoes(left: int, right: int) -> tuple[Game, FloatArray]:
    """Each player owns a left or a right shoe; v(S) is the number of pairs in S."""
    n = left + right
    game = FunctionGame(
        lambda coalitions: np.minimum(coalitions[:, :left].sum(axis=1), coalitions[:, left:].sum(axis=1)) * 1.0, n
    )

    def value(own: int, other: int) -> float:
        """Probability that the predecessors of a player own fewer shoes of its kind than of the other."""
        return sum(
            math.comb(own - 1, a) * math.comb(other, b) / (n * math.comb(n - 1, a + b))
            for a in range(own)
            for b in range(a + 1, other + 1)
        )

    of_left = value(left, right) if left else 0.0
    of_right = value(right, left) if right else 0.0
    return game, np.array([of_left] * left + [of_right] * right)


def airport(costs: FloatArray) -> tuple[Game, FloatArray]:
    """v(S) = the largest cost in S (Littlechild & Owen 1973); each part of the runway is shared by its users."""
    costs = np.asarray(costs, dtype=np.float64)
    ascending = np.argsort(costs)
    steps = np.diff(np.concatenate([[0.0], costs[ascending]])) / np.arange(len(costs), 0, -1)
    values = np.empty(len(costs))
    values[ascending] = np.cumsum(steps)
    return FunctionGame(lambda coalitions: (coalitions * costs).max(axis=1, initial=0.0), len(costs)), values


def voting(weights: list[int], quota: int) -> tuple[Game, FloatArray]:
    """v(S) = 1 if the weight of S reaches the quota (Shapley & Shubik 1954); values by counting subsets."""
    n, total = len(weights), sum(weights)
    values = np.zeros(n)
    for player, weight in enumerate(weights):
        ways = np.zeros((n, total + 1))  # [size, weight] of the coalitions of the others
        ways[0, 0] = 1
        for other in weights[:player] + weights[player + 1 :]:
            shifted = np.zeros_like(ways)
            shifted[1:, other:] = ways[:-1, : total + 1 - other]
            ways = ways + shifted
        swings = ways[:, max(quota - weight, 0) : quota].sum(axis=1)
        values[player] = sum(swings[size] / (n * math.comb(n - 1, size)) for size in range(n))
    integers = np.asarray(weights, dtype=np.int64)
    return FunctionGame(lambda coalitions: (coalitions @ integers >= quota) * 1.0, n), values


def guarded() -> Game:
    """v(S) = 1 if S contains players 0-2 and not 3 or 4: nonzero marginals are rare."""
    return FunctionGame(lambda c: (c[:, :3].all(axis=1) & ~c[:, 3:5].any(axis=1)) * 1.0, 8)


def coverage(n_players: int, n_items: int, seed: int) -> tuple[Game, FloatArray]:
    """v(S) = weight of the items covered by S: monotone and submodular; an item is shared by its owners."""
    generator = np.random.default_rng(seed)
    owns = generator.random((n_players, n_items)) < 0.3
    weights = generator.random(n_items)
    values = owns @ (weights / np.maximum(owns.sum(axis=0), 1))
    return FunctionGame(lambda coalitions: (coalitions @ owns.astype(np.int64) > 0) @ weights, n_players), values


def budget(limit: float, weights: FloatArray) -> Game:
    """v(S) = min(limit, w(S)), the game of two minimum cuts; monotone and submodular."""
    weights = np.asarray(weights, dtype=np.float64)
    return FunctionGame(lambda coalitions: np.minimum(limit, coalitions @ weights), len(weights))


def from_table(table: FloatArray) -> Game:
    """A game defined by the payoffs of all coalitions, (2^n,); bit i of an index is set if player i is present."""
    n = len(table).bit_length() - 1
    powers = 2 ** np.arange(n)
    return FunctionGame(lambda coalitions: table[coalitions @ powers], n)


def random_table(n_players: int, seed: int) -> Game:
    """Independent normal payoffs."""
    return from_table(np.random.default_rng(seed).normal(size=2**n_players))


def nearest_neighbour(n_train: int, n_test: int, seed: int) -> Game:
    """Accuracy of a 1-nearest-neighbour classifier trained on the coalition."""
    generator = np.random.default_rng(seed)
    labels, test_labels = generator.integers(0, 2, n_train), generator.integers(0, 2, n_test)
    points = generator.normal(size=(n_train, 2)) + labels[:, None]
    test_points = generator.normal(size=(n_test, 2)) + test_labels[:, None]
    distances = np.linalg.norm(points[:, None] - test_points, axis=2)  # (train, test)
    chance = max(test_labels.mean(), 1 - test_labels.mean())

    def accuracy(coalitions: NDArray[np.bool_]) -> FloatArray:
        masked = np.where(coalitions[:, :, None], distances, np.inf)  # (m, train, test)
        scores: FloatArray = (labels[masked.argmin(axis=1)] == test_labels).mean(axis=1)
        return np.where(coalitions.any(axis=1), scores, chance)

    return FunctionGame(accuracy, n_train)


def reference_permutation_form(game: Game) -> FloatArray:
    """Equation (1) of Ethayarajh & Jurafsky (2021): the mean marginal over all n! permutations."""
    n = game.n_players
    payoff: Callable[[tuple[int, ...]], float] = lambda members: float(  # noqa: E731
        game(np.isin(np.arange(n), members)[None])[0]
    )
    known: dict[frozenset[int], float] = {}
    values = np.zeros(n)
    for permutation in permutations(range(n)):
        for step, player in enumerate(permutation):
            before, after = frozenset(permutation[:step]), frozenset(permutation[: step + 1])
            for members in (before, after):
                if members not in known:
                    known[members] = payoff(tuple(members))
            values[player] += known[after] - known[before]
    return values / math.factorial(n)


OF_TEN_OR_SO = {
    "airport": airport(np.array([1.0, 1, 2, 3, 5, 8, 13, 21, 34, 90])),
    "coverage": coverage(10, 15, seed=0),
    "shoes": shoes(4, 5),
    "voting": voting([9, 6, 5, 4, 4, 2, 1, 1, 1, 1], 18),
}


def saturating(n: int = 8) -> FunctionGame:
    """A game that is nearly constant after a few players, so that truncation takes place and is biased."""
    weights = np.arange(1.0, n + 1)
    return FunctionGame(lambda coalitions: 1 - np.exp(-(coalitions @ weights) / 3), n_players=n)
