"""Balanced sampling of pairs of complementary coalitions, stratified by size and without replacement.

A stratum consists of the coalitions of size s and their complements, of size n - s. Shapley values depend on it only
through the differences v(S) - v(N - S), so a pair is one observation (Covert & Lee 2021).

The sample is balanced: it equalises how often each player is in the smaller coalition and, up to 256 players, how often
two players are in the same coalition of a pair; with more, that would take longer than most games. Within a size, every
pair is equally likely. Source: Deville & Tille (2004), Efficient balanced sampling; for permutations Mitchell, Cooper,
Frank & Holmes (2022).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, combinations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import sgemm

from lightning_attnflow._checks import check_integer
from lightning_attnflow._words import counted
from lightning_attnflow.shapley.game import Coalitions, Game, evaluate, signs_of
from lightning_attnflow.shapley.intervals import MIN_IDENTICAL_SAMPLES, is_rounding

FloatArray = NDArray[np.float64]
_CANDIDATES = 16  # per pair; the one that balances the sample best is drawn
_BALANCED = 1024  # pairs per size; further ones are drawn independently, which is faster and as balanced by then
_MIN_PAIRS_PER_PLAYER = 1.5  # with fewer, an additive fit leaves too few residual degrees of freedom
_MIN_PAIRS = 2  # per stratum, for a variance
MANY_PLAYERS = 257  # from which on only the numbers of draws of the players are balanced


@dataclass(frozen=True)
class Stratum:
    """Some or all of the pairs of one size.

    Args:
        size: of the coalitions.
        coalitions: bool (pairs, n), one of each pair.
        n_pairs: number of all pairs of this size.
    """

    size: int
    coalitions: Coalitions
    n_pairs: int

    @property
    def complete(self) -> bool:
        """Whether all pairs are sampled."""
        return len(self.coalitions) == self.n_pairs

    @property
    def weight(self) -> float:
        """Sum of the Shapley kernel weights of both sizes."""
        n: int = self.coalitions.shape[1]
        return (1 if 2 * self.size == n else 2) / (self.size * (n - self.size))


def has_unknown_error(strata: list[Stratum], found: list[FloatArray], empty_and_full: tuple[float, float]) -> bool:
    """Whether the residuals of an additive fit say nothing about its error: too few pairs, or too few distinct ones."""
    if all(stratum.complete for stratum in strata):
        return False
    pairs = sum(len(stratum.coalitions) for stratum in strata)
    return pairs < _MIN_PAIRS_PER_PLAYER * strata[0].coalitions.shape[1] or are_too_few_to_differ(
        strata, found, empty_and_full
    )


def are_too_few_to_differ(strata: list[Stratum], found: list[FloatArray], empty_and_full: tuple[float, float]) -> bool:
    """Whether fewer than 60 pairs, not all of them, imply the same value for every player."""
    pairs = sum(len(stratum.coalitions) for stratum in strata)
    return (
        pairs < MIN_IDENTICAL_SAMPLES
        and not all(stratum.complete for stratum in strata)
        and are_constant(strata, found, empty_and_full)
    )


def are_constant(strata: list[Stratum], found: list[FloatArray], empty_and_full: tuple[float, float]) -> bool:
    """Whether all pairs imply, up to rounding, the same value for every player."""
    total = empty_and_full[1] - empty_and_full[0]
    shares = [2 * stratum.size / stratum.coalitions.shape[1] * total - total for stratum in strata]
    apart = max(np.abs(difference - share).max() for difference, share in zip(found, shares, strict=True))
    return is_rounding(apart, max(*map(abs, empty_and_full), *(np.abs(difference).max() for difference in found)))


def minimum_budget(n_players: int) -> int:
    """Evaluations for v(empty), v(N) and two pairs per stratum (or all it has)."""
    pairs = (min(_MIN_PAIRS, _pairs_in(n_players, size)) for size in range(1, n_players // 2 + 1))
    return min(2, n_players + 1) + 2 * sum(pairs)


def draw_strata(
    n_players: int, budget: int, generator: np.random.Generator, share: Callable[[int], float]
) -> list[Stratum]:
    """Draw pairs of all sizes within a budget of evaluations, which includes v(empty) and v(N).

    Args:
        n_players: number of players.
        budget: evaluations, at least :func:`minimum_budget`.
        generator: source of randomness.
        share: relative number of pairs of a size; a stratum with fewer pairs than its share is sampled completely.

    Returns:
        One stratum for each size 1 .. n // 2.
    """
    minimum = minimum_budget(n_players)
    remedy = f"The minimum for {counted(n_players, 'player')} is {minimum}; permutation_shapley needs fewer."
    budget = check_integer("budget", budget, minimum=minimum, remedy=remedy)
    quotas = _quotas(n_players, (budget - 2) // 2, share)
    balance = _balance(n_players)
    return [
        Stratum(size, _draw_pairs(n_players, size, quota, balance, generator), _pairs_in(n_players, size))
        for size, quota in quotas.items()
    ]


def differences(game: Game, strata: list[Stratum]) -> list[FloatArray]:
    """``v(S) - v(N - S)`` for the pairs of each stratum."""
    if not strata:
        return []
    listed = np.concatenate([stratum.coalitions for stratum in strata])
    payoffs = evaluate(game, np.concatenate([listed, ~listed]))
    boundaries = np.cumsum([len(stratum.coalitions) for stratum in strata])[:-1]
    return np.split(payoffs[: len(listed)] - payoffs[len(listed) :], boundaries)


def _pairs_in(n_players: int, size: int) -> int:
    return _pairs_by_size(n_players)[size]


@lru_cache(maxsize=4)
def _pairs_by_size(n_players: int) -> list[int]:
    """Number of pairs of the sizes 0 .. n // 2."""
    coalitions = [1]
    for size in range(1, n_players // 2 + 1):
        coalitions.append(coalitions[-1] * (n_players - size + 1) // size)
    if n_players % 2 == 0:
        coalitions[-1] //= 2
    return coalitions


def _quotas(n_players: int, pairs: int, share: Callable[[int], float]) -> dict[int, int]:
    """Number of pairs of each size: complete strata first, the rest by largest remainder."""
    sizes = range(1, n_players // 2 + 1)
    # The complements of coalitions of n / 2 players have the same size, so this stratum represents half as many.
    shares = {size: share(size) * (0.5 if 2 * size == n_players else 1.0) for size in sizes}
    quotas = {size: min(_MIN_PAIRS, _pairs_in(n_players, size)) for size in sizes}
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
        listed = sorted(open_sizes)
        total = sum(shares[size] for size in open_sizes)
        target = np.array([shares[size] for size in listed]) / total
        drawn = np.array([quotas[size] for size in listed])
        held = int(drawn.sum()) + left
        while left > 0:  # until a stratum is complete
            missing = target * held - drawn
            at = int(missing.argmax())
            room = _pairs_in(n_players, listed[at]) - int(drawn[at])
            step = max(1, min(left, int(missing[at]), room))
            drawn[at] += step
            left -= step
            if step == room:
                open_sizes.remove(listed[at])
                break
        quotas |= dict(zip(listed, drawn.tolist(), strict=True))
    return quotas


def _balance(n_players: int) -> _Balance | _Deck:
    if n_players >= MANY_PLAYERS:
        return _Deck(n_players)
    return _Balance(np.zeros(n_players), np.zeros((n_players, n_players), dtype=np.float32))


@dataclass
class _Balance:
    """Counts of the sample.

    Args:
        times: float (n,), number of smaller coalitions that contain each player.
        together: float (n, n), number of pairs with two players in the same coalition, minus those that separate them.
    """

    times: FloatArray
    together: NDArray[np.float32]  # integers, exact below 2^24

    def add(self, coalitions: Coalitions) -> None:
        """Count coalitions (m, n)."""
        self.times += coalitions.sum(axis=0)
        signs = signs_of(coalitions)
        # In place: a temporary matrix would take longer than the product.
        sgemm(1.0, signs.T, signs.T, beta=1.0, c=self.together.T, trans_b=True, overwrite_c=True)

    def opposite(self) -> _Balance:
        """The negative counts, to draw the pairs to leave out."""
        return _Balance(-self.times, -self.together)

    def candidates(self, size: int, generator: np.random.Generator) -> Coalitions:
        """Coalitions of the players drawn least often, sorted by how rarely these were in the same coalition."""
        keys = generator.random((_CANDIDATES, len(self.times)))
        keys += self.times
        rows = keys <= np.partition(keys, size - 1, axis=1)[:, size - 1, None]
        if np.count_nonzero(rows) > _CANDIDATES * size:  # two keys are equal
            rows = rows[rows.sum(axis=1) == size]
        signs = signs_of(rows)
        products = signs @ self.together
        products *= signs
        ranked: Coalitions = rows[products.sum(axis=1, dtype=np.float64).argsort()]
        return ranked


@dataclass
class _Deck:
    """Coalitions dealt from shuffled decks of the players, so that the numbers of draws of two players differ by one.

    The strata that are complete, or nearly so, are not counted: they are balanced almost by themselves.
    """

    n_players: int
    rest: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))  # of the current deck

    def add(self, coalitions: Coalitions) -> None:
        """Do nothing: coalitions are counted when they are dealt."""

    def opposite(self) -> _Deck:
        """A new deck, to draw the pairs to leave out."""
        return _Deck(self.n_players)

    def candidates(self, size: int, generator: np.random.Generator) -> Coalitions:
        """The next coalition, (1, n)."""
        row = np.zeros(self.n_players, dtype=bool)
        missing = size - len(self.rest)
        row[self.rest[:size]] = True
        if missing <= 0:
            self.rest = self.rest[size:]
            return row[None]
        shuffled = generator.permutation(self.n_players)
        again = row[shuffled]  # the players who were dealt from the end of the last deck
        chosen = shuffled[~again][:missing]
        row[chosen] = True
        kept = ~row[shuffled]
        kept[again] = True
        self.rest = shuffled[kept]
        return row[None]


def _draw_pairs(
    n_players: int, size: int, quota: int, balance: _Balance | _Deck, generator: np.random.Generator
) -> Coalitions:
    total = _pairs_in(n_players, size)
    if 2 * quota <= total:
        return _draw_distinct(n_players, size, quota, balance, generator)
    left_out = _draw_distinct(n_players, size, total - quota, balance.opposite(), generator)
    listed = np.zeros((total, n_players), dtype=bool)
    members = np.array(list(combinations(range(n_players), size))[:total], dtype=np.intp)
    np.put_along_axis(listed, members, True, axis=1)
    taken = listed[~np.isin(_keys(listed), _keys(left_out))]
    balance.add(taken)
    return taken


def _draw_distinct(
    n: int, size: int, quota: int, balance: _Balance | _Deck, generator: np.random.Generator
) -> Coalitions:
    coalitions = np.zeros((quota, n), dtype=bool)
    seen: set[bytes] = set()
    while len(seen) < quota:
        balanced = len(seen) < _BALANCED
        for row in chain(
            balance.candidates(size, generator) if balanced else (), _independent_coalitions(n, size, generator)
        ):
            listed = (
                ~row if 2 * size == n and not row[0] else row
            )  # of two coalitions of n / 2 players the one with player 0
            key = listed.tobytes()
            if key not in seen:
                coalitions[len(seen)] = listed
                seen.add(key)
                if balanced:
                    balance.add(row[None])
                break
    return coalitions


def _independent_coalitions(n_players: int, size: int, generator: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    while True:
        row = np.zeros(n_players, dtype=bool)
        row[generator.permutation(n_players)[:size]] = True
        yield row


def _keys(coalitions: Coalitions) -> NDArray[np.void]:
    packed = np.packbits(coalitions, axis=1)
    return packed.view(f"V{packed.shape[1]}")[:, 0]
