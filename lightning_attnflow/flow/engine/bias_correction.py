"""Estimate of the difference between the Shapley values of upper bounds and of the game, from exact prefix values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.layer import LayerSolver
from lightning_attnflow.flow.engine.layer_bounds import supply_bound
from lightning_attnflow.flow.engine.permutations import CoalitionBounds, prefix_bounds
from lightning_attnflow.flow.engine.solve import Flags, Ints
from lightning_attnflow.flow.solvers.dinic import Residual, next_flow
from lightning_attnflow.flow.solvers.jit import compiled
from lightning_attnflow.shapley.intervals import RULE_OF_THREE, permutation_interval, samples_needed
from lightning_attnflow.shapley.statistics import SampleStatistics

Floats = NDArray[np.float64]
_FIRST_SAMPLES = 8
_MAX_SAMPLES = 2**20


def bias_correction(
    solver: LayerSolver,
    bounds: CoalitionBounds,
    gaps: Floats,
    n_known: int,
    room: Floats,
    generator: np.random.Generator,
    stop: Flags,
) -> tuple[SampleStatistics, Floats]:
    """Sample the correction of the Shapley values of the upper bounds until its 95% interval is narrow enough.

    Args:
        solver: of the layer.
        bounds: of its game.
        gaps: (2, n), mean difference of the bounds of a coalition over ``n_known`` antithetic pairs of permutations:
            of the coalition with the player, and of the coalition that it joins.
        n_known: number of these pairs.
        room: (n,), half-width to reach.
        generator: of the permutations.
        stop: (1,), set to 1 by another thread to stop.

    Returns:
        The corrections, one sample per antithetic pair, and (n,) an addition to the half-width for permutations that
        were not sampled: the larger of the rule of three and of the part of ``gaps`` that neither the samples nor two
        standard errors explain.
    """
    n = len(room)
    samples, seen, most = SampleStatistics.empty(n), SampleStatistics.empty(2 * n), np.zeros(n)
    n_samples = _FIRST_SAMPLES
    while True:
        forward = generator.permuted(np.tile(np.arange(n), (n_samples, 1)), axis=1)
        permutations = np.concatenate([forward, forward[:, ::-1]])
        excess, possible, bounded = np.zeros((3, 2 * n_samples, n), dtype=np.int64)
        players, (net, first) = solver.players, solver.nets.above(solver.players.layer)
        _exact_prefixes(
            net,
            first,
            players.sent,
            solver.sizes_above.values,
            bounds,
            permutations,
            excess,
            possible,
            bounded,
            stop,
        )
        inside, outside = _shapley_shares(permutations, excess - _control_variate(excess))
        of_possible = np.maximum(*_shapley_shares(permutations, possible)).mean(axis=0)
        most += (of_possible - most) * (n_samples / (samples.count + n_samples))
        of_bounds = np.hstack(_shapley_shares(permutations, bounded))
        seen = seen + SampleStatistics.of(of_bounds.reshape(2, n_samples, 2 * n).mean(axis=0))
        samples = samples + SampleStatistics.of((outside - inside).reshape(2, n_samples, n).mean(axis=0))
        missing = gaps - (seen.mean + 2 * seen.stderr).reshape(2, n)
        pooled = n_known / (n_known + samples.count)
        unseen = np.maximum(RULE_OF_THREE / (2 * samples.count) * most, pooled * missing.max(axis=0))
        low, high = permutation_interval(samples)
        radius = (high - low) / 2
        if (radius + unseen <= room).all() or samples.count >= _MAX_SAMPLES or stop[0]:
            return samples, unseen
        n_samples = max(_FIRST_SAMPLES, samples_needed(samples, radius, room, unseen) - samples.count)


def _control_variate(excess: Ints) -> Floats:
    """Return the mean excess of prefixes of the same size over all other samples, which introduces no bias."""
    n_samples = len(excess) // 2
    of_samples = excess[:n_samples] + excess[n_samples:]
    of_others: Floats = (of_samples.sum(axis=0) - of_samples) / (2 * n_samples - 2)
    return np.concatenate([of_others, of_others])


def _shapley_shares(permutations: Ints, amounts: NDArray[np.int64] | Floats) -> tuple[Floats, Floats]:
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
    above: Ints,
    bounds: CoalitionBounds,
    permutations: Ints,
    excess: Ints,
    possible: Ints,
    bounded: Ints,
    stop: Flags,
) -> None:
    """Compute the exact value of every prefix of permutations.

    Args:
        net: residual network; each flow starts from the one before.
        first: the layer above the players.
        sent: (n, T), the capacity from each player to each position of the layer ``first``.
        above: (T + 1,), size bounds of the layer above.
        bounds: of the game.
        permutations: (m, n).
        excess: (m, n), zeros, output: upper bound less value, by size of the prefix.
        possible: (m, n), zeros, output: upper bound less the best lower bound without a maximum flow.
        bounded: (m, n), zeros, output: upper bound less lower bound of ``bounds``.
        stop: (1,), set to 1 by another thread to stop.
    """
    n = permutations.shape[1]
    low, high = np.empty(n + 1, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    sums, least = np.empty(len(bounds.constants), dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    supply = np.empty(sent.shape[1], dtype=np.int64)
    for row in range(len(permutations)):
        if stop[0]:
            return
        permutation = permutations[row]
        reached = prefix_bounds(bounds, permutation, low, high, sums, least)
        for size in range(1, reached):
            bounded[row, size] = high[size] - low[size]
        for j in range(len(supply)):
            supply[j] = 0
        value, proven = 0, 0
        for size in range(1, reached):
            player = permutation[size - 1]
            for j in range(len(supply)):
                supply[j] += sent[player, j]
            proven = max(proven, low[size])
            if proven < high[size]:
                proven = max(proven, supply_bound(supply, above))
            if proven == bounds.total:
                break
            value = max(value, proven)
            if value < high[size]:
                value = next_flow(net, first, supply, high[size])
            possible[row, size], excess[row, size] = high[size] - proven, high[size] - value
