"""Shapley values from sampled orders whose prefixes are bounded by cuts.

Orders come in rings: all n rotations of a random order, and their reverses. Each player takes each place twice, the
marginals of a ring sum to v(N), and as every prefix of a reverse is also a prefix of a rotation, the 2n orders cost n.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.solvers.dinic import Words
from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.uint8]
_NEVER = 2**62


class CoalitionBounds(NamedTuple):
    """Cuts of a game with their slacks: what bounds v(S) for every coalition S of its players."""

    alone: Ints  # (n,): v({i})
    last: Ints  # (n,): v(N) - v(N - i)
    total: int
    reader: int  # a player with v({r}) = v(N), so that every coalition with it is paid v(N); or -1
    least: Ints  # (n + 1,): by size, the least that any coalition of it is paid
    constants: Ints  # (P,): cut X(S) = constants + weights(S)
    weights: Ints  # (P, n)
    slack: Ints  # (P, n): X({i}) - v({i})
    gap: Ints  # (P,): X - v at all players
    gap_without_reader: Ints  # (P,): X - v at all players but the reader


@compiled_inner
def bounds_along(bounds: CoalitionBounds, order: Ints, low: Ints, high: Ints, sums: Ints, least: Ints) -> int:
    """Write bounds of v at the prefixes of ``order`` into ``low`` and ``high`` (n + 1,).

    The upper ones depend on the members of a prefix only, not on their order: they are a game with Shapley values.

    Returns the size from which on every prefix is known to be paid v(N); larger ones are not written.
    """
    n = len(order)
    n_cuts = len(bounds.constants)
    low[0] = high[0] = 0
    for cut in range(n_cuts):
        sums[cut], least[cut] = bounds.constants[cut], _NEVER
    best_alone, best_excess, all_last, all_alone = 0, 0, 0, 0
    with_reader = False
    for t in range(n):
        player = order[t]
        alone, last = bounds.alone[player], bounds.last[player]
        best_alone = max(best_alone, alone)
        best_excess = max(best_excess, alone - last)
        all_last += last
        all_alone += alone
        with_reader = with_reader or player == bounds.reader
        lower = max(best_alone, best_excess + all_last, low[t] + last, bounds.least[t + 1])
        upper = min(bounds.total, all_alone)
        for cut in range(n_cuts):
            sums[cut] += bounds.weights[cut, player]
            least[cut] = min(least[cut], bounds.slack[cut, player])
            upper = min(upper, sums[cut])
            gap = bounds.gap[cut] if with_reader else min(bounds.gap[cut], bounds.gap_without_reader[cut])
            lower = max(lower, sums[cut] - least[cut] - gap)
        if t == n - 2:
            lower = upper = bounds.total - bounds.last[order[n - 1]]
        if t == n - 1:
            lower = upper = bounds.total
        low[t + 1], high[t + 1] = lower, upper
        if lower == bounds.total:
            return t + 1
    return n


@compiled_inner
def _shuffle(order: Ints, state: Words) -> None:
    """Fisher-Yates with SplitMix64 (Steele, Lea & Flood 2014)."""
    for t in range(len(order) - 1, 0, -1):
        state[0] += np.uint64(0x9E3779B97F4A7C15)
        z = state[0]
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        other = int(((z >> np.uint64(32)) * np.uint64(t + 1)) >> np.uint64(32))
        order[t], order[other] = order[other], order[t]


@compiled_inner
def _rotate(order: Ints) -> None:
    first = order[0]
    for t in range(len(order) - 1):
        order[t] = order[t + 1]
    order[len(order) - 1] = first


@compiled_inner
def _reverse(order: Ints) -> None:
    n = len(order)
    for t in range(n // 2):
        order[t], order[n - 1 - t] = order[n - 1 - t], order[t]


@compiled_inner
def _ring_marginals(order: Ints, prefixes: Ints, reached: Ints, total: int, marginals: Floats) -> None:
    """Add the mean marginals over a ring to ``marginals`` (n,).

    Args:
        order: (n,), the order that was rotated.
        prefixes: (n, n + 1), ``[a, s]`` the payoff of the s players from place a of the order on, around the ring.
        reached: (n,), the size from which on they are paid ``total``, whatever ``prefixes`` says.
        total: v(N).
        marginals: (n,), by player.
    """
    n = len(order)
    for a in range(n):
        right = (a + 1) % n
        for size in range(reached[a]):
            last = a + size if a + size < n else a + size - n
            marginals[order[last]] += (prefixes[a, size + 1] - prefixes[a, size]) / (2.0 * n)
        for size in range(min(n, reached[right])):
            joined = prefixes[a, size + 1] if size < reached[a] else total
            marginals[order[a]] += (joined - prefixes[right, size]) / (2.0 * n)


@compiled
def sample_bounds(
    bounds: CoalitionBounds, order: Ints, state: Words, units: Floats, before: Floats, after: Floats, stop: Flags
) -> None:
    """Walk rings with each prefix paid its upper bound.

    Args:
        bounds: of the game.
        order: (n,), the players, shuffled.
        state: (1,), of the random numbers.
        units: (rings, n), zeros, added to: mean marginals of each ring, in units of flow.
        before: (n,), zeros, added to: mean of upper less lower bound of the coalition that a player joins.
        after: (n,), zeros, added to: the same of the coalition with the player.
        stop: (1,), set to 1 by another thread to give up.
    """
    n = len(order)
    low, high = np.empty((n, n + 1), dtype=np.int64), np.empty((n, n + 1), dtype=np.int64)
    reached = np.empty(n, dtype=np.int64)
    sums, least = np.empty(len(bounds.constants), dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    share = 1.0 / (2.0 * n * len(units))
    for ring in range(len(units)):
        if stop[0]:
            return
        _shuffle(order, state)
        for a in range(n):
            reached[a] = bounds_along(bounds, order, low[a], high[a], sums, least)
            _rotate(order)
        _ring_marginals(order, high, reached, bounds.total, units[ring])
        for a in range(n):
            left = order[a - 1]
            for size in range(1, reached[a]):
                gap = (high[a, size] - low[a, size]) * share
                if gap > 0:
                    last = order[(a + size - 1) % n]
                    following = order[(a + size) % n]
                    after[last] += gap
                    after[order[a]] += gap
                    before[following] += gap
                    before[left] += gap


@compiled_inner
def _two_cut_marginals(
    weights: Ints, bound: int, order: Ints, sums: Ints, sums_of_sums: Ints, marginals: Floats
) -> None:
    """Add half the mean marginals of min(bound, weight(S)) over the rotations of ``order`` to ``marginals`` (n,).

    Args:
        weights: (n,), by player.
        bound: the other cut.
        order: (n,), the players around the ring.
        sums: (2 n + 1,), scratch, starting with 0: weights of the players before each place, twice around.
        sums_of_sums: (2 n + 1,), scratch, starting with 0: sums of the entries before each of ``sums``.
        marginals: (n,), by player.
    """
    n = len(order)  # sums of sums may pass 2^63 and wrap around: their differences do not
    for place in range(n):
        sums[place + 1] = sums[place] + weights[order[place]]
        sums_of_sums[place + 1] = sums_of_sums[place] + sums[place]
    for place in range(1, n + 1):
        sums[n + place] = sums[n] + sums[place]
        sums_of_sums[n + place] = sums_of_sums[n] + place * sums[n] + sums_of_sums[place]
    whole, some = 0, 0  # the longest arcs before a place that leave the player all, or more than nothing, start here
    for place in range(n, 2 * n):
        weight = weights[order[place - n]]
        farthest = place - n + 1
        whole, some = max(whole, farthest), max(some, farthest)
        while some <= place and sums[some] <= sums[place] - bound:
            some += 1
        while whole <= place and sums[whole] < sums[place + 1] - bound:
            whole += 1
        of_arcs = (place - whole + 1) * weight
        if whole > some:
            of_arcs += (whole - some) * (bound - sums[place]) + sums_of_sums[whole] - sums_of_sums[some]
        marginals[order[place - n]] += of_arcs / (2.0 * n)


@compiled
def sample_separable(received: Ints, readout: Ints, order: Ints, state: Words, units: Floats, stop: Flags) -> None:
    """Walk rings of the layer below the readout, where v(S) = sum_j min(readout_j, received_j(S)).

    Each j is a game of two cuts. An arc that ends at a player's neighbour leaves it all of what it sends while the arc
    is short, the rest of ``readout[j]`` while that lasts, then nothing. As the player moves on around the ring, so do
    the two arcs between these cases, and running sums add up all arcs between: a ring takes n T steps, not n^2 T.

    Args:
        received: (T, n), what each position can receive from each player.
        readout: (T,).
        order: (n,), the players, shuffled.
        state: (1,), of the random numbers.
        units: (rings, n), zeros, added to: mean marginals of each ring.
        stop: (1,), set to 1 by another thread to give up.
    """
    n = len(order)
    sums, sums_of_sums = np.empty(2 * n + 1, dtype=np.int64), np.empty(2 * n + 1, dtype=np.int64)
    sums[0], sums_of_sums[0] = 0, 0
    for ring in range(len(units)):
        if stop[0]:
            return
        _shuffle(order, state)
        for j in range(len(received)):
            for _ in range(2):
                _two_cut_marginals(received[j], readout[j], order, sums, sums_of_sums, units[ring])
                _reverse(order)
