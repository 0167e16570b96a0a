"""Pairs of complementary coalitions, drawn size by size without replacement, with all players as often as possible.

A layer holds the coalitions of size s together with their complements, of size n - s. Everything that a Shapley value
asks of it is in the differences v(S) - v(N - S), so that a pair is one observation (Covert & Lee 2021).

Pairs are drawn to even out how often each player was in the smaller coalition and how often two players were on the
same side. All players are treated alike, so that of each size every pair is equally likely; but where independent draws
leave by chance a player who is never in a small coalition, or two who are never apart, these do not. Source: Deville &
Tille (2004), Efficient balanced sampling; for orders of players Mitchell, Cooper, Frank & Holmes (2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import is_integer
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.game import Coalitions, Game, evaluate
from lightning_attnflow.shapley.intervals import MIN_IDENTICAL_SAMPLES, is_rounding

FloatArray = NDArray[np.float64]
_CANDIDATES = 16  # for a pair, of which the one that evens out most is drawn
_BALANCED = 1024  # pairs of a size; of more the rest is drawn blindly, which is faster and by then as even
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


def hides_its_errors(layers: list[Layer], found: list[FloatArray], ends: tuple[float, float]) -> bool:
    """Whether the pairs do not show what an additive fit errs elsewhere: it goes through nearly all, or all are alike.

    Args:
        layers: of the pairs.
        found: their `differences`.
        ends: v(empty) and v(N).
    """
    if all(layer.complete for layer in layers):
        return False
    pairs = sum(len(layer.coalitions) for layer in layers)
    return pairs < _PAIRS_A_PLAYER * layers[0].coalitions.shape[1] or are_too_few_alike(layers, found, ends)


def are_too_few_alike(layers: list[Layer], found: list[FloatArray], ends: tuple[float, float]) -> bool:
    """Whether all pairs agree that every player adds the same, and are too few to make another one rare."""
    pairs = sum(len(layer.coalitions) for layer in layers)
    return (
        pairs < MIN_IDENTICAL_SAMPLES and not all(layer.complete for layer in layers) and are_alike(layers, found, ends)
    )


def are_alike(layers: list[Layer], found: list[FloatArray], ends: tuple[float, float]) -> bool:
    """Whether all pairs agree, up to rounding, that every player adds the same."""
    total = ends[1] - ends[0]
    shares = [2 * layer.size / layer.coalitions.shape[1] * total - total for layer in layers]
    apart = max(np.abs(difference - share).max() for difference, share in zip(found, shares, strict=True))
    return is_rounding(apart, max(*map(abs, ends), *(np.abs(difference).max() for difference in found)))


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
    if not is_integer(budget) or budget < minimum:
        raise InputError(
            "budget",
            got=repr(budget),
            expected=f"an integer >= {minimum} for {n_players} players",
            remedy=f"Pass budget={minimum} or more, or use permutation_shapley.",
        )
    quotas = _quotas(n_players, (int(budget) - 2) // 2, share)
    balance = _Balance(np.zeros(n_players), np.zeros((n_players, n_players)))
    return [
        Layer(size, _draw_pairs(n_players, size, quota, balance, generator), _pairs_in(n_players, size))
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


@dataclass
class _Balance:
    """What was drawn so far.

    Args:
        times: float (n,), smaller coalitions that hold a player.
        together: float (n, n), pairs that have two players on one side, less those that part them.
    """

    times: FloatArray
    together: FloatArray

    def note(self, coalitions: Coalitions) -> None:
        """Count coalitions (m, n)."""
        signs = 2.0 * coalitions - 1.0
        self.times += coalitions.sum(axis=0)
        self.together += signs.T @ signs

    def opposite(self) -> _Balance:
        """What to draw against to leave out, not to take."""
        return _Balance(-self.times, -self.together)

    def candidates(self, size: int, generator: np.random.Generator) -> Coalitions:
        """Coalitions of the players drawn least often, ordered by how rarely their players were on one side."""
        rows = np.zeros((_CANDIDATES, len(self.times)), dtype=bool)
        rarest = np.argpartition(self.times + generator.random(rows.shape), size - 1, axis=1)[:, :size]
        np.put_along_axis(rows, rarest, True, axis=1)
        signs = 2.0 * rows - 1.0
        return rows[np.argsort(((signs @ self.together) * signs).sum(axis=1))]


def _draw_pairs(n_players: int, size: int, quota: int, balance: _Balance, generator: np.random.Generator) -> Coalitions:
    total = _pairs_in(n_players, size)
    if 2 * quota <= total:
        return _draw_distinct(size, quota, balance, generator)
    left_out = _draw_distinct(size, total - quota, balance.opposite(), generator)
    listed = np.zeros((total, n_players), dtype=bool)
    members = np.array(list(combinations(range(n_players), size))[:total], dtype=np.intp)
    np.put_along_axis(listed, members, True, axis=1)
    taken = listed[~np.isin(_keys(listed), _keys(left_out))]
    balance.note(taken)
    return taken


def _draw_distinct(size: int, quota: int, balance: _Balance, generator: np.random.Generator) -> Coalitions:
    n = len(balance.times)
    coalitions = np.zeros((quota, n), dtype=bool)
    seen: set[bytes] = set()
    while len(seen) < quota:
        balanced = len(seen) < _BALANCED
        for row in chain(balance.candidates(size, generator) if balanced else (), _blindly(n, size, generator)):
            listed = ~row if 2 * size == n and not row[0] else row  # of a pair of halves the one with player 0
            key = listed.tobytes()
            if key not in seen:
                coalitions[len(seen)] = listed
                seen.add(key)
                if balanced:
                    balance.note(row[None])
                break
    return coalitions


def _blindly(n_players: int, size: int, generator: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    while True:
        row = np.zeros(n_players, dtype=bool)
        row[generator.permutation(n_players)[:size]] = True
        yield row


def _keys(coalitions: Coalitions) -> NDArray[np.void]:
    packed = np.packbits(coalitions, axis=1)
    return packed.view(f"V{packed.shape[1]}")[:, 0]
