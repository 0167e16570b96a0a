"""Shapley values from sampled permutations whose prefixes are bounded by cuts.

One sample consists of all n cyclic shifts of a random permutation and their reverses. Each player takes each place
twice, the marginals of a sample sum to v(N), and as every prefix of a reverse is also a prefix of a shift, the 2n
permutations cost as much as n.
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
    """Cuts of a game with their slacks, which bound v(S) for every coalition S."""

    alone: Ints  # (n,): v({i})
    leave_one_out: Ints  # (n,): v(N) - v(N - i)
    total: int
    full_player: int  # the only player with v({i}) = v(N), or -1
    by_size: Ints  # (n + 1,): lower bound of v over all coalitions of a size
    constants: Ints  # (P,): cut X(S) = constants + weights(S)
    weights: Ints  # (P, n)
    slack: Ints  # (P, n): X({i}) - v({i})
    gap: Ints  # (P,): X(N) - v(N)
    gap_without_full: Ints  # (P,): X - v at all players but the full player


@compiled_inner
def prefix_bounds(bounds: CoalitionBounds, permutation: Ints, low: Ints, high: Ints, sums: Ints, least: Ints) -> int:
    """Write bounds of v at the prefixes of ``permutation`` into ``low`` and ``high`` (n + 1,).

    The upper bounds depend only on the set of players in a prefix, so they are themselves a game.

    Returns:
        The size from which on every prefix is known to have the value v(N); bounds of larger sizes are not written.
    """
    n = len(permutation)
    n_cuts = len(bounds.constants)
    low[0] = high[0] = 0
    for cut in range(n_cuts):
        sums[cut], least[cut] = bounds.constants[cut], _NEVER
    best_alone, best_excess, all_last, all_alone = 0, 0, 0, 0
    with_full = False
    for t in range(n):
        player = permutation[t]
        alone, last = bounds.alone[player], bounds.leave_one_out[player]
        best_alone = max(best_alone, alone)
        best_excess = max(best_excess, alone - last)
        all_last += last
        all_alone += alone
        with_full = with_full or player == bounds.full_player
        lower = max(best_alone, best_excess + all_last, low[t] + last, bounds.by_size[t + 1])
        upper = min(bounds.total, all_alone)
        for cut in range(n_cuts):
            sums[cut] += bounds.weights[cut, player]
            least[cut] = min(least[cut], bounds.slack[cut, player])
            upper = min(upper, sums[cut])
            gap = bounds.gap[cut] if with_full else min(bounds.gap[cut], bounds.gap_without_full[cut])
            lower = max(lower, sums[cut] - least[cut] - gap)
        if t == n - 2:
            lower = upper = bounds.total - bounds.leave_one_out[permutation[n - 1]]
        if t == n - 1:
            lower = upper = bounds.total
        low[t + 1], high[t + 1] = lower, upper
        if lower == bounds.total:
            return t + 1
    return n


@compiled_inner
def _shuffle(permutation: Ints, state: Words) -> None:
    """Fisher-Yates with SplitMix64 (Steele, Lea & Flood 2014)."""
    for t in range(len(permutation) - 1, 0, -1):
        state[0] += np.uint64(0x9E3779B97F4A7C15)
        z = state[0]
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        other = int(((z >> np.uint64(32)) * np.uint64(t + 1)) >> np.uint64(32))
        permutation[t], permutation[other] = permutation[other], permutation[t]


@compiled_inner
def _shift(permutation: Ints) -> None:
    first = permutation[0]
    for t in range(len(permutation) - 1):
        permutation[t] = permutation[t + 1]
    permutation[len(permutation) - 1] = first


@compiled_inner
def _reverse(permutation: Ints) -> None:
    n = len(permutation)
    for t in range(n // 2):
        permutation[t], permutation[n - 1 - t] = permutation[n - 1 - t], permutation[t]


@compiled_inner
def _shift_marginals(permutation: Ints, prefixes: Ints, reached: Ints, total: int, marginals: Floats) -> None:
    """Add the mean marginals over all cyclic shifts and their reverses to ``marginals`` (n,).

    Args:
        permutation: (n,), the permutation that was shifted.
        prefixes: (n, n + 1), ``[a, s]`` the value of the s players from place a on, cyclically.
        reached: (n,), the size from which on the value is ``total``; ``prefixes`` is not read beyond it.
        total: v(N).
        marginals: (n,), by player.
    """
    n = len(permutation)
    for a in range(n):
        right = (a + 1) % n
        for size in range(reached[a]):
            last = a + size if a + size < n else a + size - n
            marginals[permutation[last]] += (prefixes[a, size + 1] - prefixes[a, size]) / (2.0 * n)
        for size in range(min(n, reached[right])):
            joined = prefixes[a, size + 1] if size < reached[a] else total
            marginals[permutation[a]] += (joined - prefixes[right, size]) / (2.0 * n)


@compiled
def sample_bounds(
    bounds: CoalitionBounds,
    permutation: Ints,
    state: Words,
    marginals: Floats,
    before: Floats,
    after: Floats,
    stop: Flags,
) -> None:
    """Sample marginals of the game of upper bounds.

    Args:
        bounds: of the game.
        permutation: (n,), the players; shuffled in place.
        state: (1,), of the random number generator.
        marginals: (samples, n), zeros, output: mean marginals of each sample.
        before: (n,), zeros, output: mean difference of the bounds of the coalition that a player joins.
        after: (n,), zeros, output: mean difference of the bounds of the coalition with the player.
        stop: (1,), set to 1 by another thread to stop.
    """
    n = len(permutation)
    low, high = np.empty((n, n + 1), dtype=np.int64), np.empty((n, n + 1), dtype=np.int64)
    reached = np.empty(n, dtype=np.int64)
    sums, least = np.empty(len(bounds.constants), dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    share = 1.0 / (2.0 * n * len(marginals))
    for sample in range(len(marginals)):
        if stop[0]:
            return
        _shuffle(permutation, state)
        for a in range(n):
            reached[a] = prefix_bounds(bounds, permutation, low[a], high[a], sums, least)
            _shift(permutation)
        _shift_marginals(permutation, high, reached, bounds.total, marginals[sample])
        for a in range(n):
            left = permutation[a - 1]
            for size in range(1, reached[a]):
                gap = (high[a, size] - low[a, size]) * share
                if gap > 0:
                    last = permutation[(a + size - 1) % n]
                    following = permutation[(a + size) % n]
                    after[last] += gap
                    after[permutation[a]] += gap
                    before[following] += gap
                    before[left] += gap


@compiled_inner
def _two_cut_marginals(
    weights: Ints, bound: int, permutation: Ints, sums: Ints, sums_of_sums: Ints, marginals: Floats
) -> None:
    """Add half the mean marginals of min(bound, weight(S)) over all cyclic shifts to ``marginals`` (n,).

    Args:
        weights: (n,), by player.
        bound: capacity of the other cut.
        permutation: (n,), the players.
        sums: (2 n + 1,), work array with first entry 0: cumulative weights over two cycles.
        sums_of_sums: (2 n + 1,), work array with first entry 0: cumulative sums of ``sums``.
        marginals: (n,), by player.
    """
    n = len(permutation)  # sums of sums may overflow; their differences are correct modulo 2^64
    for place in range(n):
        sums[place + 1] = sums[place] + weights[permutation[place]]
        sums_of_sums[place + 1] = sums_of_sums[place] + sums[place]
    for place in range(1, n + 1):
        sums[n + place] = sums[n] + sums[place]
        sums_of_sums[n + place] = sums_of_sums[n] + place * sums[n] + sums_of_sums[place]
    whole, some = 0, 0  # first places of the longest preceding arcs that leave the player all, or any, of its weight
    for place in range(n, 2 * n):
        weight = weights[permutation[place - n]]
        farthest = place - n + 1
        whole, some = max(whole, farthest), max(some, farthest)
        while some <= place and sums[some] <= sums[place] - bound:
            some += 1
        while whole <= place and sums[whole] < sums[place + 1] - bound:
            whole += 1
        of_arcs = (place - whole + 1) * weight
        if whole > some:
            of_arcs += (whole - some) * (bound - sums[place]) + sums_of_sums[whole] - sums_of_sums[some]
        marginals[permutation[place - n]] += of_arcs / (2.0 * n)


@compiled
def sample_separable(
    received: Ints, readout: Ints, permutation: Ints, state: Words, marginals: Floats, stop: Flags
) -> None:
    """Sample marginals of the layer below the readout, v(S) = sum_j min(readout_j, received_j(S)).

    Each j is a game of two cuts. The marginal of a player after an arc of players is its whole weight while the arc is
    short, then the rest of ``readout[j]``, then 0. From one player to the next both limits only move forward, and
    running sums give the sum over all arcs between them: a sample takes n T steps instead of n^2 T.

    Args:
        received: (T, n), the capacity into each position from each player.
        readout: (T,).
        permutation: (n,), the players; shuffled in place.
        state: (1,), of the random number generator.
        marginals: (samples, n), zeros, output: mean marginals of each sample.
        stop: (1,), set to 1 by another thread to stop.
    """
    n = len(permutation)
    sums, sums_of_sums = np.empty(2 * n + 1, dtype=np.int64), np.empty(2 * n + 1, dtype=np.int64)
    sums[0], sums_of_sums[0] = 0, 0
    for sample in range(len(marginals)):
        if stop[0]:
            return
        _shuffle(permutation, state)
        for j in range(len(received)):
            for _ in range(2):
                _two_cut_marginals(received[j], readout[j], permutation, sums, sums_of_sums, marginals[sample])
                _reverse(permutation)
