"""What sampled orders are off by where their bounds are loose: a few more orders, walked exactly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.layer import LayerSolver
from lightning_attnflow.flow.engine.permutations import CoalitionBounds, bounds_along
from lightning_attnflow.flow.engine.size_bounds import least_of_supply
from lightning_attnflow.flow.engine.solve import Flags, Ints
from lightning_attnflow.flow.solvers.dinic import Residual, Words, maximise, undo
from lightning_attnflow.flow.solvers.jit import compiled
from lightning_attnflow.shapley.intervals import RULE_OF_THREE, permutation_interval, samples_needed
from lightning_attnflow.shapley.statistics import SampleStatistics

Floats = NDArray[np.float64]
_FIRST_PAIRS = 8
_MOST_PAIRS = 2**20


def corrections(
    solver: LayerSolver,
    bounds: CoalitionBounds,
    gaps: Floats,
    n_known: int,
    room: Floats,
    generator: np.random.Generator,
    stop: Flags,
) -> tuple[SampleStatistics, Floats]:
    """Sample what the Shapley values of the upper bounds are off by, until the 95% interval is narrow enough.

    Args:
        solver: of the layer.
        bounds: of its game.
        gaps: (2, n), how much less than its upper bound a coalition may be paid, mean over ``n_known`` pairs of orders:
            the coalition that a player completes, and the one that it joins.
        n_known: how many pairs of orders that was.
        room: (n,), half-width to reach.
        generator: of the orders.
        stop: (1,), set to 1 by another thread to give up.

    Returns:
        The corrections, an order with its reverse a unit, and (n,) what orders that were not seen may add to the
        half-width: by the rule of three, or because ``gaps`` tells of more than was seen and chance (two standard
        errors) explains, whichever is more.
    """
    n = len(room)
    units, seen, most, n_pairs = SampleStatistics.empty(n), SampleStatistics.empty(2 * n), np.zeros(n), _FIRST_PAIRS
    while True:
        forward = generator.permuted(np.tile(np.arange(n), (n_pairs, 1)), axis=1)
        orders = np.concatenate([forward, forward[:, ::-1]])
        excess, possible, bounded = np.zeros((3, 2 * n_pairs, n), dtype=np.int64)
        players, (net, first) = solver.players, solver.nets.above(solver.players.layer)
        _walk(
            net,
            first,
            players.masks,
            players.sent,
            solver.least_above.values,
            bounds,
            orders,
            excess,
            possible,
            bounded,
            stop,
        )
        inside, outside = _shares(orders, excess - _usual(excess))
        most += (np.maximum(*_shares(orders, possible)).mean(axis=0) - most) * (n_pairs / (units.count + n_pairs))
        seen = seen + SampleStatistics.of(np.hstack(_shares(orders, bounded)).reshape(2, n_pairs, 2 * n).mean(axis=0))
        units = units + SampleStatistics.of((outside - inside).reshape(2, n_pairs, n).mean(axis=0))
        missing = gaps - (seen.mean + 2 * seen.stderr).reshape(2, n)
        pooled = n_known / (n_known + units.count)
        unseen = np.maximum(RULE_OF_THREE / (2 * units.count) * most, pooled * missing.max(axis=0))
        low, high = permutation_interval(units)
        radius = (high - low) / 2
        if (radius + unseen <= room).all() or units.count >= _MOST_PAIRS or stop[0]:
            return units, unseen
        n_pairs = max(_FIRST_PAIRS, samples_needed(units, radius, room, unseen) - units.count)


def _usual(excess: Ints) -> Floats:
    """The mean excess of prefixes of the same size in all other pairs: a control variate that leaves no bias."""
    n_pairs = len(excess) // 2
    of_pairs = excess[:n_pairs] + excess[n_pairs:]
    of_others: Floats = (of_pairs.sum(axis=0) - of_pairs) / (2 * n_pairs - 2)
    return np.concatenate([of_others, of_others])


def _shares(orders: Ints, amounts: NDArray[np.int64] | Floats) -> tuple[Floats, Floats]:
    """Share out what prefixes of each size were paid too much, (m, n), to the players, each (m, n) by player.

    An amount a on a prefix of s players has given each of them a / s too much and each other player a / (n - s) too
    little, on average over all orders that begin with the same s players.
    """
    n = orders.shape[1]
    sizes = np.arange(1, n)
    inside, outside = np.zeros(amounts.shape), np.zeros(amounts.shape)  # by place in the order
    inside[:, :-1] = np.cumsum((amounts[:, 1:] / sizes)[:, ::-1], axis=1)[:, ::-1]
    outside[:, 1:] = np.cumsum(amounts[:, 1:] / (n - sizes), axis=1)
    places = np.argsort(orders, axis=1)
    return np.take_along_axis(inside, places, axis=1), np.take_along_axis(outside, places, axis=1)


@compiled
def _walk(
    net: Residual,
    first: int,
    masks: Words,
    sent: Ints,
    above: Ints,
    bounds: CoalitionBounds,
    orders: Ints,
    excess: Ints,
    possible: Ints,
    bounded: Ints,
    stop: Flags,
) -> None:
    """Find the exact value of every prefix of some orders.

    Args:
        net: residual network of zero flow, left as it was found.
        first: the layer of the players.
        masks: (n, W), the positions of each player.
        sent: (n, T), what each player can send to each position of the next layer.
        above: (T + 1,), lower bounds by size of the next layer.
        bounds: of the game.
        orders: (m, n).
        excess: (m, n), zeros, written to: by size of the prefix, its upper bound less its value.
        possible: (m, n), zeros, written to: the most that could have been, without a flow.
        bounded: (m, n), zeros, written to: the most that could have been by ``bounds`` alone.
        stop: (1,), set to 1 by another thread to give up.
    """
    n = orders.shape[1]
    low, high = np.empty(n + 1, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    sums, least = np.empty(len(bounds.constants), dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    sources, supply = np.empty(masks.shape[1], dtype=np.uint64), np.empty(sent.shape[1], dtype=np.int64)
    for row in range(len(orders)):
        if stop[0]:
            return
        order = orders[row]
        reached = bounds_along(bounds, order, low, high, sums, least)
        for size in range(1, reached):
            bounded[row, size] = high[size] - low[size]
        for w in range(len(sources)):
            sources[w] = 0
        for j in range(len(supply)):
            supply[j] = 0
        pushed, value, proven = 0, 0, 0
        for size in range(1, reached):
            player = order[size - 1]
            for w in range(len(sources)):
                sources[w] |= masks[player, w]
            for j in range(len(supply)):
                supply[j] += sent[player, j]
            proven = max(proven, low[size])
            if proven < high[size]:
                proven = max(proven, least_of_supply(supply, above))
            if proven == bounds.total:
                break
            value = max(value, proven)
            if value < high[size]:
                pushed += maximise(net, first, sources, high[size] - pushed)
                value = pushed
            possible[row, size], excess[row, size] = high[size] - proven, high[size] - value
        undo(net)
