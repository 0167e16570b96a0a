"""Shapley values from sampled permutations whose prefixes are bounded by cuts.

One sample consists of all n cyclic shifts of a random permutation and their reverses. Each player takes each place
twice, and as every prefix of a reverse is also a prefix of a shift, the 2n permutations cost as much as n.

A player that has the value v(N) alone is not sampled. With it every coalition has the value v(N), so that another
player's marginal after s of the others counts with the probability (n - 1 - s) / n that this player comes later, for
every permutation of the others; its own value is the rest of v(N).

The marginals in the first two places need no sampling: they are means over all single players and over all pairs. Most
of the variance is in the second place, because a few players together reach the total flow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.layer_bounds import LayerBounds, supply_upper_bound
from lightning_attnflow.flow.solvers.dinic import Words
from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.uint8]
_NEVER = 2**62


class FlowModel(NamedTuple):
    """A game close to the upper bounds, see `lightning_attnflow.flow.engine.flow_model`."""

    outflows: Ints  # (n, K): to the sink, from the maximum flow of each player alone; K = 0 for the upper bounds alone
    capacities: Ints  # (K,): to the sink
    shares: Floats  # (n + 1,): by size


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
    sent: Ints  # (n, T): capacity from each player to each position of the layer above
    above: LayerBounds  # of that layer
    flow_sizes: int  # coalitions up to this size are also bounded by `supply_upper_bound`
    model: FlowModel


@compiled_inner
def fill(array: Ints, start: int, value: int) -> None:
    """Set ``array[start:]`` to a value; numba compiles an assignment to a slice for much longer."""
    for index in range(start, len(array)):
        array[index] = value


@compiled_inner
def prefix_bounds(bounds: CoalitionBounds, permutation: Ints, low: Ints, high: Ints, sums: Ints, least: Ints) -> int:
    """Write bounds of v at the prefixes of ``permutation`` into ``low`` and ``high`` (n + 1,).

    The upper bounds depend only on the set of players in a prefix, so they are themselves a game.

    Args:
        bounds: of the game.
        permutation: all players, or all but the full player.
        low: (n + 1,), output.
        high: (n + 1,), output.
        sums: (P,), work array.
        least: (P,), work array.

    Returns:
        The size from which on every prefix is known to have the value v(N), possibly one more than players are in
        ``permutation``; bounds of this and larger sizes are not needed.
    """
    n = len(bounds.alone)
    n_cuts = len(bounds.constants)
    low[0] = high[0] = 0
    for cut in range(n_cuts):
        sums[cut], least[cut] = bounds.constants[cut], _NEVER
    best_alone, best_excess, all_last, all_alone = 0, 0, 0, 0
    with_full = False
    for t in range(len(permutation)):
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
            missing = permutation[n - 1] if len(permutation) == n else bounds.full_player
            lower = upper = bounds.total - bounds.leave_one_out[missing]
        if t == n - 1:
            lower = upper = bounds.total
        low[t + 1], high[t + 1] = lower, upper
        if lower == bounds.total:
            return t + 1
    return len(permutation) + 1


@compiled_inner
def flow_to_sink(model: FlowModel, outflows: Ints) -> int:
    """Return the flow that the capacities to the sink leave of the ``outflows`` (K,) of a coalition; with K = 0 all."""
    if len(outflows) == 0:
        return _NEVER
    total = 0
    for t in range(len(outflows)):
        total += min(outflows[t], model.capacities[t])
    return total


@compiled_inner
def model_value(model: FlowModel, upper: int, to_sink: int, size: int) -> float:
    """Return the value of a coalition in the model from its upper bound and its `flow_to_sink`."""
    return float(upper - model.shares[size] * max(upper - to_sink, 0))


@compiled
def first_two_places(bounds: CoalitionBounds) -> Floats:
    """Return the part of the Shapley values of the model from the first two places of permutations, (n,)."""
    n, above = len(bounds.alone), bounds.above
    outflows = bounds.model.outflows
    marginals = bounds.alone / n
    widest, most, inflow = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for i in range(n):
        for j in range(bounds.sent.shape[1]):
            passed = min(bounds.sent[i, j], above.alone[j])
            if passed > most[i]:
                widest[i], most[i] = j, passed
            inflow[i] += min(bounds.sent[i, j], above.weights[j])
    for i in range(n):
        for j in range(i):
            upper = min(bounds.total, bounds.alone[i] + bounds.alone[j])
            for cut in range(len(bounds.constants)):
                upper = min(upper, bounds.constants[cut] + bounds.weights[cut, i] + bounds.weights[cut, j])
            if bounds.flow_sizes >= 2:
                least = most[i] + most[j] if widest[i] != widest[j] else max(most[i], most[j])
                if above.readout_position >= 0:
                    least = min(least, above.constant + max(inflow[i], inflow[j]))
                if least < upper:  # otherwise the sums are at least as large
                    upper = min(upper, supply_upper_bound(bounds.sent[i] + bounds.sent[j], above))
            modelled = float(upper)
            if outflows.shape[1]:
                modelled = model_value(bounds.model, upper, flow_to_sink(bounds.model, outflows[i] + outflows[j]), 2)
            marginals[i] += (modelled - bounds.alone[j]) / (n * (n - 1.0))
            marginals[j] += (modelled - bounds.alone[i]) / (n * (n - 1.0))
    return marginals


@compiled_inner
def shuffle(permutation: Ints, state: Words) -> None:
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
def _share(n: int, n_moving: int, size: int) -> float:
    """Return the weight of a marginal after ``size`` of the ``n_moving`` players, all of n or all but the full one."""
    return (n - (n - n_moving) * (size + 1.0)) / (float(n) * n_moving)


@compiled_inner
def _shift_marginals(
    n: int, permutation: Ints, prefixes: Floats, reached: Ints, total: int, full_player: int, marginals: Floats
) -> None:
    """Add the mean marginals from the third place on over all cyclic shifts and their reverses to ``marginals`` (n,).

    Args:
        n: number of players.
        permutation: (m,), the permutation that was shifted, of all players or of all but the full player.
        prefixes: (m, n + 1), ``[a, s]`` the value of the s players from place a on, cyclically.
        reached: (m,), the size from which on the value is ``total``; ``prefixes`` is not read from there on.
        total: v(N).
        full_player: the player that is not in ``permutation``, if there is one.
        marginals: (n,), by player.
    """
    m = len(permutation)
    for a in range(m):
        right = (a + 1) % m
        for size in range(2, min(m, reached[a])):
            last = a + size if a + size < m else a + size - m
            joined = prefixes[a, size + 1] if size + 1 < reached[a] else total
            marginals[permutation[last]] += (joined - prefixes[a, size]) * (_share(n, m, size) / 2)
        for size in range(2, min(m, reached[right])):
            joined = prefixes[a, size + 1] if size + 1 < reached[a] else total
            marginals[permutation[a]] += (joined - prefixes[right, size]) * (_share(n, m, size) / 2)
        if m < n:
            for size in range(2, min(n, reached[a])):
                marginals[full_player] += (total - prefixes[a, size]) / (float(n) * m)


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
    """Sample marginals of the game of upper bounds, from the third place on.

    Args:
        bounds: of the game.
        permutation: (m,), all players, or all but the full player; shuffled in place.
        state: (1,), of the random number generator.
        marginals: (samples, n), zeros, output: mean marginals of each sample.
        before: (n,), zeros, output: mean difference of the bounds of the coalition that a player joins.
        after: (n,), zeros, output: mean difference of the bounds of the coalition with the player.
        stop: (1,), set to 1 by another thread to stop.
    """
    n, m = len(bounds.alone), len(permutation)
    low, high = np.empty((m, n + 1), dtype=np.int64), np.empty((m, n + 1), dtype=np.int64)
    upper = np.empty((m, n + 1))
    reached = np.empty(m, dtype=np.int64)
    sums, least = np.empty(len(bounds.constants), dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    for sample in range(len(marginals)):
        if stop[0]:
            return
        shuffle(permutation, state)
        for a in range(m):
            reached[a] = prefix_bounds(bounds, permutation, low[a], high[a], sums, least)
            for size in range(min(n + 1, reached[a])):
                upper[a, size] = high[a, size]
            _shift(permutation)
        _shift_marginals(n, permutation, upper, reached, bounds.total, bounds.full_player, marginals[sample])
        for a in range(m):
            left = permutation[a - 1]
            for size in range(1, min(n, reached[a])):
                gap = (high[a, size] - low[a, size]) / (2.0 * len(marginals))
                if gap > 0:
                    last = permutation[(a + size - 1) % m]
                    following = permutation[(a + size) % m]
                    after[last] += gap * _share(n, m, size - 1)
                    after[permutation[a]] += gap * _share(n, m, size - 1)
                    before[following] += gap * _share(n, m, size)
                    before[left] += gap * _share(n, m, size)
                    if m < n:
                        before[bounds.full_player] += 2 * gap / (float(n) * m)


@compiled
def sample_model(
    bounds: CoalitionBounds, by_player: Ints, permutation: Ints, state: Words, marginals: Floats, stop: Flags
) -> None:
    """Sample the same marginals as `sample_bounds`, of the model and without lower bounds.

    Args:
        bounds: of the game.
        by_player: (n, P), the weights of the cuts in the order of memory in which they are added.
        permutation: (m,), all players, or all but the full player; shuffled in place.
        state: (1,), of the random number generator.
        marginals: (samples, n), zeros, output: mean marginals of each sample.
        stop: (1,), set to 1 by another thread to stop.
    """
    m, (n, n_cuts) = len(permutation), by_player.shape
    high, modelled = np.empty(n + 1, dtype=np.int64), np.empty((m, n + 1))
    reached, sums = np.empty(m, dtype=np.int64), np.empty(n_cuts, dtype=np.int64)
    for sample in range(len(marginals)):
        if stop[0]:
            return
        shuffle(permutation, state)
        for a in range(m):
            reached[a] = model_values(bounds, by_player, permutation, high, modelled[a], sums)
            _shift(permutation)
        _shift_marginals(n, permutation, modelled, reached, bounds.total, bounds.full_player, marginals[sample])


@compiled_inner
def model_values(
    bounds: CoalitionBounds, by_player: Ints, permutation: Ints, high: Ints, modelled: Floats, sums: Ints
) -> int:
    """Write the upper bounds of `prefix_bounds` into ``high`` and the values of the model into ``modelled`` (n + 1,).

    The exact value for all players but one is not used. Small prefixes are also bounded by the layer above.

    Returns:
        The size from which on both are v(N), as `prefix_bounds`.
    """
    n, model = len(bounds.alone), bounds.model
    high[0] = modelled[0] = 0
    for cut in range(len(sums)):
        sums[cut] = bounds.constants[cut]
    supply = np.zeros(bounds.sent.shape[1], dtype=np.int64)
    outflows = np.zeros(len(model.capacities), dtype=np.int64)
    alone = 0
    for t in range(len(permutation)):
        player = permutation[t]
        alone += bounds.alone[player]
        upper = min(bounds.total, alone)
        if t < bounds.flow_sizes:
            for j in range(len(supply)):
                supply[j] += bounds.sent[player, j]
            upper = min(upper, supply_upper_bound(supply, bounds.above))
        weights = by_player[player]
        for cut in range(len(sums)):
            sums[cut] += weights[cut]
            upper = min(upper, sums[cut])
        for j in range(len(outflows)):
            outflows[j] += model.outflows[player, j]
        to_sink = flow_to_sink(model, outflows)
        if t == n - 1:
            upper = to_sink = bounds.total
        high[t + 1], modelled[t + 1] = upper, model_value(model, upper, to_sink, t + 1)
        if min(upper, to_sink) == bounds.total:
            return t + 1
    return len(permutation) + 1


@compiled
def sizes_bounded_by_flow(bounds: CoalitionBounds, by_player: Ints, permutations: Ints) -> int:
    """Return the largest size at which `supply_upper_bound` is below the other upper bounds of a prefix.

    Args:
        bounds: of the game, with ``flow_sizes`` 0.
        by_player: (n, P), the weights of the cuts.
        permutations: (m, n).
    """
    n = permutations.shape[1]
    high, sums = np.empty(n + 1, dtype=np.int64), np.empty(by_player.shape[1], dtype=np.int64)
    modelled, supply = np.empty(n + 1), np.empty(bounds.sent.shape[1], dtype=np.int64)
    largest = 0
    for row in range(len(permutations)):
        reached = model_values(bounds, by_player, permutations[row], high, modelled, sums)
        fill(high, reached, bounds.total)
        fill(supply, 0, 0)
        last = 0
        for size in range(1, n + 1):
            for j in range(len(supply)):
                supply[j] += bounds.sent[permutations[row, size - 1], j]
            if supply_upper_bound(supply, bounds.above) < high[size]:
                last = size
        largest = max(largest, last)
    return largest
