"""Cuts from the exact values of prefixes of permutations, and the difference that remains between bounds and game.

Both compute exact values of some prefixes of random permutations: one at a random size of each of a sequence of ranges
of sizes, in which the largest size is about a quarter larger than the smallest. A value counts for its whole range.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.layer import LayerSolver
from lightning_attnflow.flow.engine.layer_bounds import NO_POSITION, LayerBounds, bounds_of_supply
from lightning_attnflow.flow.engine.outflow_bounds import outflow_bound
from lightning_attnflow.flow.engine.permutations import CoalitionBounds, fill, prefix_bounds, upper_bounds
from lightning_attnflow.flow.engine.solve import CutPool, Flags, Ints, add_cut, empty_pool, pool_bound
from lightning_attnflow.flow.solvers.dinic import Residual, next_flow
from lightning_attnflow.flow.solvers.jit import compiled
from lightning_attnflow.shapley.intervals import RULE_OF_THREE, permutation_interval, samples_needed
from lightning_attnflow.shapley.statistics import SampleStatistics

Floats = NDArray[np.float64]
_FIRST_SAMPLES = 32
_MAX_SAMPLES = 2**20
_LEARNING_STEP = 8  # permutations between two checks
_LEARNED_CUTS = 512
_QUANTILE = 2.0
_SIZE_RATIO = 1.25


def learn_cuts(
    solver: LayerSolver,
    bounds: CoalitionBounds,
    flows: Ints,
    room: float,
    generator: np.random.Generator,
    stop: Flags,
) -> tuple[CutPool, Floats]:
    """Collect minimum cuts of prefixes of random permutations.

    Ends when `bias_correction` is expected to need no more permutations than were used here.

    Returns:
        The cuts, and (k, n), the corrections of the Shapley values by the last permutations before their cuts were
        added.
    """
    done = 0
    pool = empty_pool(solver.players.sent.shape[1], _LEARNED_CUTS)
    while True:
        permutations, amounts = _excess(solver, bounds, bounds, flows, _LEARNING_STEP, generator, pool, stop)
        inside, outside = _shapley_shares(permutations, amounts[0])
        corrections, done = outside - inside, done + _LEARNING_STEP
        expected = (_QUANTILE * np.sqrt((corrections**2).mean(axis=0).max()) / room) ** 2
        if expected <= done or pool.used[0] == _LEARNED_CUTS or stop[0]:
            return pool, corrections


def bias_correction(
    solver: LayerSolver,
    bounds: CoalitionBounds,
    before: CoalitionBounds,
    flows: Ints,
    learned: Floats,
    room: Floats,
    generator: np.random.Generator,
    stop: Flags,
) -> tuple[SampleStatistics, Floats]:
    """Sample the correction of the Shapley values of the upper bounds until its 95% interval is narrow enough.

    Args:
        solver: of the layer.
        bounds: of its game.
        before: bounds from fewer cuts, whose lower bounds are used.
        flows: (K, T), outflows that give further lower bounds, see `outflows`.
        learned: (k, n), corrections from permutations with fewer cuts: the largest that may have been missed.
        room: (n,), half-width to reach.
        generator: of the permutations.
        stop: (1,), set to 1 by another thread to stop.

    Returns:
        The corrections, one sample per permutation, and (n,) an addition to the half-width for permutations that were
        not sampled, by the rule of three: the mean over the players, because few of them are seen early.
    """
    n = len(room)
    samples, most = SampleStatistics.empty(n), 0.0
    n_samples = _FIRST_SAMPLES
    while True:
        permutations, amounts = _excess(solver, bounds, before, flows, n_samples, generator, None, stop)
        excess = amounts[0]
        if bounds.full_player == NO_POSITION:  # equal amounts have no effect if every player may take every place
            excess = excess - _control_variate(excess)
        inside, outside = _shapley_shares(permutations, excess)
        of_possible = np.maximum(*_shapley_shares(permutations, amounts[1])).mean()
        most += (of_possible - most) * (n_samples / (samples.count + n_samples))
        samples = samples + SampleStatistics.of(outside - inside)
        samples = replace(
            samples,
            low=np.minimum(samples.low, learned.min(axis=0)),
            high=np.maximum(samples.high, learned.max(axis=0)),
        )
        unseen = np.full(n, RULE_OF_THREE / samples.count * most)
        low, high = permutation_interval(samples)
        radius = (high - low) / 2
        if (radius + unseen <= room).all() or samples.count >= _MAX_SAMPLES or stop[0]:
            return samples, unseen
        n_samples = max(_FIRST_SAMPLES, samples_needed(samples, radius, room, unseen) - samples.count)


def _random_sizes(n: int, n_samples: int, generator: np.random.Generator) -> Ints:
    """Return for each sample and size, int64 (samples, n + 1), the number of sizes that it stands for, or 0."""
    edges = [2]
    while edges[-1] < n:
        edges.append(min(n, max(edges[-1] + 1, int(edges[-1] * _SIZE_RATIO))))
    start, width = np.array(edges[:-1]), np.diff(edges)
    chosen = start + (generator.random((n_samples, len(start))) * width).astype(np.int64)
    counts = np.zeros((n_samples, n + 1), dtype=np.int64)
    np.put_along_axis(counts, chosen, width[None], axis=1)
    return counts


def _excess(
    solver: LayerSolver,
    bounds: CoalitionBounds,
    before: CoalitionBounds,
    flows: Ints,
    n_samples: int,
    generator: np.random.Generator,
    learned: CutPool | None,
    stop: Flags,
) -> tuple[Ints, Floats]:
    """Return random permutations, (samples, n), and amounts by size of their prefixes, (2, samples, n).

    The amounts are the excess of the upper bounds over the values, and the largest excess that is possible by the lower
    bounds.

    A player with the value v(N) is last in every permutation, because no coalition with it has an excess; the excess of
    s other players is multiplied by the probability that it is not among the first s players.
    """
    n = len(bounds.alone)
    players = np.arange(n)
    if bounds.full_player != NO_POSITION:
        players = np.append(np.delete(players, bounds.full_player), bounds.full_player)
        movable = n - 1
    else:
        movable = n
    permutations = np.tile(players, (n_samples, 1))
    generator.permuted(permutations[:, :movable], axis=1, out=permutations[:, :movable])
    # consecutive flows share a player; the order of the permutations is of no importance
    permutations = permutations[np.lexsort((bounds.alone[permutations[:, 1]], permutations[:, 0]))]
    counts, amounts = _random_sizes(n, n_samples, generator), np.zeros((2, *permutations.shape), dtype=np.int64)
    net, first = solver.nets.above(solver.players.layer)
    pool, learn = (solver.pool, False) if learned is None else (learned, True)
    by_player = np.ascontiguousarray(bounds.weights.T)
    sent = solver.players.sent
    above, limit = solver.above, solver.limit
    _exact_prefixes(
        net,
        first,
        sent,
        above,
        limit,
        bounds,
        by_player,
        before,
        flows,
        permutations,
        counts,
        pool,
        learn,
        amounts,
        stop,
    )
    shares = counts[:, :-1].astype(np.float64)
    if movable < n:
        shares *= 1 - np.arange(n) / n
    return permutations, amounts * shares


def _control_variate(excess: Floats) -> Floats:
    """Return the mean excess of prefixes of the same size over all other samples, which introduces no bias."""
    of_others: Floats = (excess.sum(axis=0) - excess) / (len(excess) - 1)
    return of_others


def _shapley_shares(permutations: Ints, amounts: Floats) -> tuple[Floats, Floats]:
    """Return the Shapley values of the excess of prefixes, as a part inside and a part outside the prefix, (m, n).

    An excess a of a prefix of s players adds a / s to each of them and subtracts a / (n - s) from each other player, on
    average over all permutations that begin with the same s players. ``amounts`` is (m, n), by size of the prefix.
    """
    n = permutations.shape[1]
    sizes = np.arange(1, n)
    inside, outside = np.zeros(amounts.shape), np.zeros(amounts.shape)  # by place in the permutation
    inside[:, :-1] = np.cumsum((amounts[:, 1:] / sizes)[:, ::-1], axis=1)[:, ::-1]
    outside[:, 1:] = np.cumsum(amounts[:, 1:] / (n - sizes), axis=1)
    places = np.argsort(permutations, axis=1)
    return np.take_along_axis(inside, places, axis=1), np.take_along_axis(outside, places, axis=1)


@compiled
def _exact_prefixes(
    net: Residual,
    first: int,
    sent: Ints,
    above: LayerBounds,
    limit: int,
    bounds: CoalitionBounds,
    by_player: Ints,
    before: CoalitionBounds,
    flows: Ints,
    permutations: Ints,
    counts: Ints,
    pool: CutPool,
    learn: bool,
    amounts: Ints,
    stop: Flags,
) -> None:
    """Compute the exact value of some prefixes of permutations.

    Args:
        net: residual network; each flow starts from the one before.
        first: the layer above the players.
        sent: (n, T), the capacity from each player to each position of the layer ``first``.
        above: bounds of that layer.
        limit: the sum of the readout.
        bounds: of the game.
        by_player: (n, P), the weights of its cuts.
        before: bounds from fewer cuts.
        flows: (K, T), see `outflows`.
        permutations: (m, n).
        counts: (m, n + 1), zero at sizes that are left out.
        pool: minimum cuts that are found are added to it if ``learn``.
        learn: whether cuts added meanwhile count for the upper bounds.
        amounts: (2, m, n), zeros, output, see `_excess`.
        stop: (1,), set to 1 by another thread to stop.
    """
    n = permutations.shape[1]
    high, sums = np.empty(n + 1, dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    low, high_before = np.empty(n + 1, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    sums_before, least = (
        np.empty(len(before.constants), dtype=np.int64),
        np.empty(len(before.constants), dtype=np.int64),
    )
    supply = np.empty(sent.shape[1], dtype=np.int64)
    for row in range(len(permutations)):
        if stop[0]:
            return
        reached = upper_bounds(bounds, by_player, permutations[row], high, sums)
        fill(high, reached, bounds.total)
        proven = prefix_bounds(before, permutations[row], low, high_before, sums_before, least)
        fill(supply, 0, 0)
        value = 0
        for size in range(1, proven):
            player = permutations[row, size - 1]
            for j in range(len(supply)):
                supply[j] += sent[player, j]
            if counts[row, size] == 0:
                continue
            lower, upper = bounds_of_supply(supply, above, limit)
            value = max(value, lower, low[size])
            if value < high[size]:
                value = max(value, outflow_bound(flows, supply))
            upper = min(upper, high[size], high_before[size])
            if learn:
                upper = min(upper, pool_bound(pool, supply))
            if value < high[size]:
                amounts[1, row, size] = high[size] - value
            if value < upper:
                value = next_flow(net, first, supply, upper)
                if learn and value < upper:
                    add_cut(pool, net.unseen[first], supply, value)
            amounts[0, row, size] = (upper if learn else high[size]) - value
