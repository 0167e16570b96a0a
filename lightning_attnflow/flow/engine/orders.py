"""Shapley values from sampled orders: every prefix of an order is bounded by cuts, and solved only where that is loose.

Orders come in rings: all n rotations of a random order, and their reverses. Each player takes each place twice, the
marginals of a ring sum to v(N), and as every prefix of a reverse is also a prefix of a rotation, the 2n orders cost n.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.solvers.dinic import Residual, Words, maximise, undo
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
    constants: Ints  # (P,): cut X(S) = constants + weights(S)
    weights: Ints  # (P, n)
    slack: Ints  # (P, n): X({i}) - v({i})
    gap: Ints  # (P,): X - v at all players
    gap_without_reader: Ints  # (P,): X - v at all players but the reader


@compiled_inner
def _bounds_along(bounds: CoalitionBounds, order: Ints, low: Ints, high: Ints, sums: Ints, least: Ints) -> None:
    """Write bounds of v at the prefixes of ``order`` into ``low`` and ``high`` (n + 1,)."""
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
        lower = max(best_alone, best_excess + all_last, low[t] + last)
        upper = min(bounds.total, all_alone, high[t] + alone)
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
            for later in range(t + 2, n + 1):
                low[later] = high[later] = bounds.total
            return


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
def _ring_marginals(order: Ints, prefixes: Ints, marginals: Floats) -> None:
    """Add the mean marginals over a ring to ``marginals`` (n,).

    Args:
        order: (n,), the order that was rotated.
        prefixes: (n, n + 1), ``[a, s]`` the payoff of the s players from place a of the order on, around the ring.
        marginals: (n,), by player.
    """
    n = len(order)
    for a in range(n):
        right = (a + 1) % n
        for size in range(n):
            last = a + size if a + size < n else a + size - n
            marginals[order[last]] += (prefixes[a, size + 1] - prefixes[a, size]) / (2.0 * n)
            marginals[order[a]] += (prefixes[a, size + 1] - prefixes[right, size]) / (2.0 * n)


@compiled
def sample_bounds(
    bounds: CoalitionBounds, state: Words, units: Floats, before: Floats, after: Floats, stop: Flags
) -> None:
    """Walk rings with each prefix paid its upper bound.

    Args:
        bounds: of the game.
        state: (1,), of the random numbers.
        units: (rings, n), zeros, added to: mean marginals of each ring, in units of flow.
        before: (n,), zeros, added to: mean of upper less lower bound of the coalition that a player joins.
        after: (n,), zeros, added to: the same of the coalition with the player.
        stop: (1,), set to 1 by another thread to give up.
    """
    n = len(bounds.alone)
    order = np.arange(n)
    low, high = np.empty((n, n + 1), dtype=np.int64), np.empty((n, n + 1), dtype=np.int64)
    sums, least = np.empty(len(bounds.constants), dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    share = 1.0 / (2.0 * n * len(units))
    for unit in units:
        if stop[0]:
            return
        _shuffle(order, state)
        for a in range(n):
            _bounds_along(bounds, order, low[a], high[a], sums, least)
            _rotate(order)
        _ring_marginals(order, high, unit)
        for a in range(n):
            left = order[a - 1]
            for size in range(1, n):
                gap = (high[a, size] - low[a, size]) * share
                if gap > 0:
                    last = order[(a + size - 1) % n]
                    following = order[(a + size) % n]
                    after[last] += gap
                    after[order[a]] += gap
                    before[following] += gap
                    before[left] += gap


@compiled
def sample_separable(sent: Ints, readout: Ints, state: Words, units: Floats, stop: Flags) -> None:
    """Walk rings of the layer below the readout, where v(S) = sum_j min(readout_j, sent_S(j)).

    Args:
        sent: (n, T), what each player can send to each position.
        readout: (T,).
        state: (1,), of the random numbers.
        units: (rings, n), zeros, added to: mean marginals of each ring.
        stop: (1,), set to 1 by another thread to give up.
    """
    n, n_positions = sent.shape
    order = np.arange(n)
    reached = np.empty(n_positions, dtype=np.int64)
    prefixes = np.empty((n, n + 1), dtype=np.int64)
    for unit in units:
        if stop[0]:
            return
        _shuffle(order, state)
        for a in range(n):
            for j in range(n_positions):
                reached[j] = 0
            prefixes[a, 0] = 0
            for size in range(n):
                player = sent[order[size]]
                value = 0
                for j in range(n_positions):
                    reached[j] += player[j]
                    value += min(reached[j], readout[j])
                prefixes[a, size + 1] = value
            _rotate(order)
        _ring_marginals(order, prefixes, unit)


@compiled
def sample_corrections(
    net: Residual,
    first: int,
    masks: Words,
    bounds: CoalitionBounds,
    state: Words,
    units: Floats,
    gaps: Floats,
    stop: Flags,
) -> None:
    """Walk pairs of an order and its reverse exactly and record how far the upper bounds are off.

    Args:
        net: residual network of zero flow, left as it was found.
        first: the layer of the players.
        masks: (n, W), the positions of each player.
        bounds: of the game.
        state: (1,), of the random numbers.
        units: (pairs, n), zeros, added to: mean over the pair of the exact marginals less those of the upper bounds.
        gaps: (pairs, n), zeros, added to: the largest value that could have taken.
        stop: (1,), set to 1 by another thread to give up.
    """
    n = len(bounds.alone)
    order = np.arange(n)
    low, high = np.empty(n + 1, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    sums, least = np.empty(len(bounds.constants), dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    sources = np.zeros(masks.shape[1], dtype=np.uint64)
    for pair in range(len(units)):
        if stop[0]:
            return
        _shuffle(order, state)
        for _ in range(2):
            _bounds_along(bounds, order, low, high, sums, least)
            for w in range(len(sources)):
                sources[w] = masks[order[0], w]
            pushed, excess = 0, 0
            value = low[1]
            for t in range(1, n):
                if low[t] == bounds.total:
                    break
                for w in range(len(sources)):
                    sources[w] |= masks[order[t], w]
                value = max(value, low[t + 1])
                if value < high[t + 1]:
                    pushed += maximise(net, first, sources, net.forward.shape[0], 0, high[t + 1] - pushed)
                    value = pushed
                new_excess = high[t + 1] - value
                units[pair, order[t]] += 0.5 * (excess - new_excess)
                gaps[pair, order[t]] += 0.5 * max(high[t + 1] - low[t + 1], high[t] - low[t])
                excess = new_excess
            undo(net)
            for t in range(n // 2):
                order[t], order[n - 1 - t] = order[n - 1 - t], order[t]
