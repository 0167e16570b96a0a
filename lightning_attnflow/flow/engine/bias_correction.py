"""Cuts from the exact values of prefixes of permutations, and the difference that remains between bounds and game.

Both compute exact values of some prefixes of random permutations: one at a random size of each of a sequence of ranges
of sizes, in which the largest size is about a quarter larger than the smallest. A value counts for its whole range.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.control_variates import (
    AdditiveFit,
    Prefixes,
    SizeRanges,
    shapley_shares,
    size_ranges,
)
from lightning_attnflow.flow.engine.flow_model import fit_model
from lightning_attnflow.flow.engine.layer import LayerSolver
from lightning_attnflow.flow.engine.layer_bounds import LayerBounds, bounds_of_supply
from lightning_attnflow.flow.engine.outflow_bounds import outflow_bound
from lightning_attnflow.flow.engine.permutations import CoalitionBounds, fill, model_values, prefix_bounds
from lightning_attnflow.flow.engine.solve import CutPool, Flags, Ints, add_cut, empty_pool, pool_bound
from lightning_attnflow.flow.solvers.dinic import Residual, next_flow
from lightning_attnflow.flow.solvers.jit import compiled
from lightning_attnflow.shapley.intervals import RULE_OF_THREE, permutation_interval, samples_needed

Floats = NDArray[np.float64]
_FIRST_SAMPLES = 32  # with fewer, intervals of players with rare and large corrections cover less often
_MAX_SAMPLES = 2**20
_LEARNING_STEP = 8  # permutations between two checks
_LEARNED_CUTS = 128  # each one lengthens every sample of the upper bounds
_QUANTILE = 2.0
_INEXACT_FOR_MODEL = 16  # expected inexact bounds per player from which a model is worth a flow for each of them


def learn_cuts(
    solver: LayerSolver,
    bounds: CoalitionBounds,
    flows: Ints,
    room: float,
    generator: np.random.Generator,
    stop: Flags,
) -> tuple[CutPool, Floats]:
    """Collect minimum cuts of prefixes of random permutations.

    Ends when `BiasCorrection` is expected to need no more permutations than were used here.

    Returns:
        The cuts, and (k, n), the corrections of the Shapley values by the last permutations before their cuts were
        added.
    """
    done = 0
    pool = empty_pool(solver.players.sent.shape[1], _LEARNED_CUTS)
    while True:
        prefixes = _prefixes(solver, bounds, bounds, flows, _LEARNING_STEP, generator, pool, stop)
        corrections, done = AdditiveFit(_ranges(bounds)).add(prefixes), done + _LEARNING_STEP
        expected = (_QUANTILE * np.sqrt((corrections**2).mean(axis=0).max()) / room) ** 2
        if expected <= done or pool.used[0] == _LEARNED_CUTS or stop[0]:
            return pool, corrections


class BiasCorrection:
    """Samples of the difference between the Shapley values of a game and those of the model in its bounds.

    Args:
        solver: of the layer.
        bounds: of its game.
        before: bounds from fewer cuts, whose lower bounds are used.
        flows: (K, T), outflows that give further lower bounds, see `outflows`.
        learned: (k, n), corrections from permutations with fewer cuts: the largest that may have been missed.
        generator: of the permutations.
        stop: (1,), set to 1 by another thread to stop.

    Attributes:
        bounds: of the game.
        samples: the corrections, one per permutation.
        unseen: an addition to the half-widths for permutations that were not sampled, by the rule of three: the mean
            over the players, because few of them are seen early.
    """

    def __init__(
        self,
        solver: LayerSolver,
        bounds: CoalitionBounds,
        before: CoalitionBounds,
        flows: Ints,
        learned: Floats,
        generator: np.random.Generator,
        stop: Flags,
    ) -> None:
        self.bounds, self._ranges = bounds, _ranges(bounds)
        self._fit, self._possible = AdditiveFit(self._ranges), 0.0
        self._solver, self._before, self._flows, self._learned = solver, before, flows, learned
        self._generator, self._stop = generator, stop
        self._first = self._sample(_FIRST_SAMPLES)

    def _sample(self, n_samples: int) -> Prefixes:
        ranges, fit = self._ranges, self._fit
        prefixes = _prefixes(
            self._solver, self.bounds, self._before, self._flows, n_samples, self._generator, None, self._stop
        )
        amounts = prefixes.possible * ranges.weights(prefixes.sizes)
        possible = np.maximum(*shapley_shares(prefixes.permutations, prefixes.sizes, amounts)).mean()
        self._possible += (possible - self._possible) * (n_samples / (fit.statistics.count + n_samples))
        fit.add(prefixes)
        self.samples = replace(
            fit.statistics,
            low=np.minimum(fit.statistics.low, self._learned.min(axis=0)),
            high=np.maximum(fit.statistics.high, self._learned.max(axis=0)),
        )
        self.unseen = float(RULE_OF_THREE / self.samples.count * self._possible)
        return prefixes

    def radius(self) -> Floats:
        """Return half-widths of 95% intervals, (n,), without ``unseen``."""
        low, high = permutation_interval(self.samples)
        radius: Floats = (high - low) / 2
        return radius

    def sample_until(self, room: Floats) -> None:
        """Sample until the half-widths are at most ``room`` (n,)."""
        while (self.radius() + self.unseen > room).any() and self.samples.count < _MAX_SAMPLES and not self._stop[0]:
            unseen = np.full(len(room), self.unseen)
            needed = samples_needed(self.samples, self.radius(), room, unseen)
            self._sample(max(_FIRST_SAMPLES, needed - self.samples.count))

    def with_model(self, room: Floats) -> BiasCorrection:
        """Return a correction of a model that is nearer to the exact values, or this one if that is not worth it."""
        n, solver, first = len(room), self._solver, self._first
        inexact = np.count_nonzero(first.excess) / len(first.excess)  # prefixes of a permutation
        expected = self.samples.count * float(((self.radius() + self.unseen) / room).max()) ** 2
        if expected * inexact < _INEXACT_FOR_MODEL * n or self._stop[0]:
            return self
        net, layer = solver.nets.above(solver.players.layer)
        model = fit_model(net, layer, solver.players.sent, self.bounds.alone, first, self._ranges, self._stop)
        if model is None:
            return self
        bounds = self.bounds._replace(model=model)
        return BiasCorrection(solver, bounds, self._before, self._flows, self._learned, self._generator, self._stop)


def _ranges(bounds: CoalitionBounds) -> SizeRanges:
    """Return the ranges of sizes of prefixes.

    A player with the value v(N) is last in every permutation, because no coalition with it has an excess.
    """
    return size_ranges(np.arange(len(bounds.alone)) != bounds.full_player)


def _prefixes(
    solver: LayerSolver,
    bounds: CoalitionBounds,
    before: CoalitionBounds,
    flows: Ints,
    n_samples: int,
    generator: np.random.Generator,
    learned: CutPool | None,
    stop: Flags,
) -> Prefixes:
    """Return prefixes of random permutations with their excess, and the excess that is possible by the lower bounds."""
    ranges = _ranges(bounds)
    players, n_movable = np.argsort(~ranges.movable, kind="stable"), int(ranges.movable.sum())
    permutations = np.tile(players, (n_samples, 1))
    generator.permuted(permutations[:, :n_movable], axis=1, out=permutations[:, :n_movable])
    # consecutive flows share a player; the order of the permutations is of no importance
    permutations = permutations[np.lexsort((bounds.alone[permutations[:, 1]], permutations[:, 0]))]
    sizes = ranges.draw(n_samples, generator)
    prefixes = Prefixes(permutations, sizes, *np.zeros((3, *sizes.shape)))
    net, first = solver.nets.above(solver.players.layer)
    pool, learn = (solver.pool, False) if learned is None else (learned, True)
    by_player = np.ascontiguousarray(bounds.weights.T)
    sent, above, limit = solver.players.sent, solver.above, solver.limit
    _exact_prefixes(net, first, sent, above, limit, bounds, by_player, before, flows, prefixes, pool, learn, stop)
    return prefixes


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
    prefixes: Prefixes,
    pool: CutPool,
    learn: bool,
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
        prefixes: with zero ``excess``, ``possible`` and ``upper``, which are output.
        pool: minimum cuts that are found are added to it if ``learn``.
        learn: whether cuts added meanwhile count for the upper bounds.
        stop: (1,), set to 1 by another thread to stop.
    """
    permutations, sizes = prefixes.permutations, prefixes.sizes
    n = permutations.shape[1]
    high, sums = np.empty(n + 1, dtype=np.int64), np.empty(len(bounds.constants), dtype=np.int64)
    low, high_before = np.empty(n + 1, dtype=np.int64), np.empty(n + 1, dtype=np.int64)
    sums_before, least = (
        np.empty(len(before.constants), dtype=np.int64),
        np.empty(len(before.constants), dtype=np.int64),
    )
    modelled, supply = np.empty(n + 1), np.empty(sent.shape[1], dtype=np.int64)
    for row in range(len(permutations)):
        if stop[0]:
            return
        reached = model_values(bounds, by_player, permutations[row], high, modelled, sums)
        for size in range(reached, n + 1):
            high[size] = modelled[size] = bounds.total
        proven = prefix_bounds(before, permutations[row], low, high_before, sums_before, least)
        fill(supply, 0, 0)
        value, at = 0, 0
        for size in range(1, n):
            player = permutations[row, size - 1]
            for j in range(len(supply)):
                supply[j] += sent[player, j]
            if at == sizes.shape[1] or sizes[row, at] != size:
                continue
            lower, upper = bounds_of_supply(supply, above, limit)
            upper = min(upper, high[size])
            if size < proven:
                value, upper = max(value, lower, low[size]), min(upper, high_before[size])
            else:
                value = bounds.total
            if value < upper:
                value = max(value, outflow_bound(flows, supply))
            if learn:
                upper = min(upper, pool_bound(pool, supply))
            estimate = float(upper) if learn else modelled[size]
            prefixes.upper[row, at] = upper if learn else high[size]
            prefixes.possible[row, at] = max(estimate - value, upper - estimate)
            if value < upper:
                value = next_flow(net, first, supply, upper)
                if learn and value < upper:
                    add_cut(pool, net.unseen[first], supply, value)
            prefixes.excess[row, at] = estimate - value
            at += 1
            if size >= proven and size >= reached:
                break
