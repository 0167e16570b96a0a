"""Pairs of complementary coalitions, drawn size by size without replacement.

A layer holds the coalitions of size s together with their complements, of size n - s. Everything that a Shapley value
asks of it is in the differences v(S) - v(N - S), so that a pair is one observation (Covert & Lee 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.game import Coalitions, Game, evaluate

FloatArray = NDArray[np.float64]
_ENUMERABLE = 10_000  # layers up to this many pairs are listed and drawn from; of larger ones pairs are drawn blindly
_PAIRS_A_PLAYER = 1.5  # below, a fit of one number a player leaves too little over to tell an error from
_PAIRS_AT_LEAST = 2  # in a layer: a variance needs two


@dataclass(frozen=True)
class Layer:
    """Some or all of the pairs of one size.

    Args:
        size: of the coalitions listed; their complements are understood.
        coalitions: bool (pairs, n).
        n_pairs: how many pairs this layer has in all.
    """

    size: int
    coalitions: Coalitions
    n_pairs: int

    @property
    def complete(self) -> bool:
        """Whether every pair is listed."""
        return len(self.coalitions) == self.n_pairs

    @property
    def weight(self) -> float:
        """Shapley kernel weight of both sizes together."""
        n: int = self.coalitions.shape[1]
        return (1 if 2 * self.size == n else 2) / (self.size * (n - self.size))


def hides_its_errors(layers: list[Layer]) -> bool:
    """Whether an additive fit goes through nearly all of the pairs, so that its errors elsewhere do not show."""
    pairs = sum(len(layer.coalitions) for layer in layers)
    complete = all(layer.complete for layer in layers)
    return not complete and pairs < _PAIRS_A_PLAYER * layers[0].coalitions.shape[1]


def minimum_budget(n_players: int) -> int:
    """Evaluations that both ends and two pairs a layer (or all it has) take."""
    pairs = (min(_PAIRS_AT_LEAST, _pairs_in(n_players, size)) for size in range(1, n_players // 2 + 1))
    return min(2, n_players + 1) + 2 * sum(pairs)


def draw_layers(
    n_players: int, budget: int, generator: np.random.Generator, share: Callable[[int], float]
) -> list[Layer]:
    """Draw pairs for all sizes within a budget of evaluations, both ends included in it.

    Args:
        n_players: number of players.
        budget: evaluations, at least :func:`minimum_budget`.
        generator: source of randomness.
        share: relative number of pairs for a size; layers that this would fill are listed completely.

    Returns:
        One layer for each size 1 .. n // 2.

    Raises:
        InputError: if the budget is below the minimum, which is named.
    """
    minimum = minimum_budget(n_players)
    if isinstance(budget, bool) or not isinstance(budget, (int, np.integer)) or budget < minimum:
        raise InputError(
            "budget",
            got=repr(budget),
            expected=f"an integer >= {minimum} for {n_players} players",
            remedy=f"Pass budget={minimum} or more, or use permutation_shapley.",
        )
    quotas = _quotas(n_players, (int(budget) - 2) // 2, share)
    return [
        Layer(size, _draw_pairs(n_players, size, quota, generator), _pairs_in(n_players, size))
        for size, quota in quotas.items()
    ]


def differences(game: Game, layers: list[Layer]) -> list[FloatArray]:
    """``v(S) - v(N - S)`` for the pairs of each layer, asked of the game in one go."""
    if not layers:
        return []
    listed = np.concatenate([layer.coalitions for layer in layers])
    payoffs = evaluate(game, np.concatenate([listed, ~listed]))
    ends = np.cumsum([len(layer.coalitions) for layer in layers])[:-1]
    return np.split(payoffs[: len(listed)] - payoffs[len(listed) :], ends)


def _pairs_in(n_players: int, size: int) -> int:
    return math.comb(n_players, size) // (2 if 2 * size == n_players else 1)


def _quotas(n_players: int, pairs: int, share: Callable[[int], float]) -> dict[int, int]:
    """Pairs for each size: layers that can be filled are, the rest is shared out by largest remainder."""
    sizes = range(1, n_players // 2 + 1)
    # The half-size layer has half the coalitions of its neighbours to speak for.
    shares = {size: share(size) * (0.5 if 2 * size == n_players else 1.0) for size in sizes}
    quotas = {size: min(_PAIRS_AT_LEAST, _pairs_in(n_players, size)) for size in sizes}
    open_sizes = set(sizes)
    while open_sizes:
        left = pairs - sum(quotas[size] for size in sizes if size not in open_sizes)
        total = sum(shares[size] for size in open_sizes)
        full = {size for size in open_sizes if left * shares[size] / total >= _pairs_in(n_players, size)}
        if not full:
            break
        quotas |= {size: _pairs_in(n_players, size) for size in full}
        open_sizes -= full
    left = pairs - sum(quotas.values())
    while open_sizes and left > 0:
        target = {size: shares[size] / sum(shares[other] for other in open_sizes) for size in open_sizes}
        held = sum(quotas[size] for size in open_sizes) + left
        size = max(sorted(open_sizes), key=lambda size: target[size] * held - quotas[size])
        step = max(1, min(left, int(target[size] * held - quotas[size]), _pairs_in(n_players, size) - quotas[size]))
        quotas[size] += step
        left -= step
        if quotas[size] == _pairs_in(n_players, size):
            open_sizes.remove(size)
    return quotas


def _draw_pairs(n_players: int, size: int, quota: int, generator: np.random.Generator) -> Coalitions:
    total = _pairs_in(n_players, size)
    coalitions = np.zeros((quota, n_players), dtype=bool)
    if total <= _ENUMERABLE or 2 * quota > total:  # drawing blindly would mostly find what it already has
        listed = np.array(list(combinations(range(n_players), size))[:total], dtype=np.intp)
        members = listed if quota == total else listed[generator.choice(total, quota, replace=False)]
        np.put_along_axis(coalitions, members, True, axis=1)
        return coalitions
    seen: set[bytes] = set()
    while len(seen) < quota:
        row = coalitions[len(seen)]
        row[:] = False
        row[generator.permutation(n_players)[:size]] = True
        if 2 * size == n_players and not row[0]:  # of a pair of halves, list the one with player 0
            row[:] = ~row
        seen.add(row.tobytes())
    return coalitions
