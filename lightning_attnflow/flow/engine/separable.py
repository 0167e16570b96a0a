"""Shapley values of the layer below the readout, whose game is v(S) = sum_j min(readout_j, received_j(S)).

Each j is a game of two cuts. The marginal of a player after an arc of a permutation that is closed to a circle is its
whole weight while the arc is short, then the rest of ``readout[j]``, then 0. From one player to the next both limits
only move forward, and running sums give the sum over all arcs between them: all cyclic shifts of a permutation take n
steps instead of n^2. Every game has its own permutations, because the errors of the same permutation would add up. As
they are independent, two permutations of each game give a variance of the sum with many degrees of freedom.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from lightning_attnflow.flow.engine.permutations import Flags, Floats, Ints, shuffle
from lightning_attnflow.flow.solvers.dinic import Words
from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner
from lightning_attnflow.shapley.intervals import RULE_OF_THREE

_FIRST_SAMPLES = 2  # of each game
_MAX_SAMPLES = 2**20
_EMPHASIS = 2
_MAX_GROWTH = 1.5  # the variances are estimates from few samples
_MIN_GROWTH = 1.25
_MARGIN = 1.1
_NORMAL_QUANTILE = 1.96


class SeparableSamples(NamedTuple):
    """Marginals of each of T games of two cuts from the third place on, over samples of 2 n permutations."""

    counts: Ints  # (T,)
    mean: Floats  # (T, n)
    m2: Floats  # (T, n): sum of squared deviations from the mean

    def variances(self) -> Floats:
        """Return the variance of each mean, (T, n)."""
        of_means: Floats = self.m2 / (self.counts * (self.counts - 1.0))[:, None]
        return of_means

    def radius(self) -> Floats:
        """Return half-widths of 95% intervals of the sum over the games, (n,)."""
        of_games = self.variances()
        total = of_games.sum(axis=0)
        squares = (of_games**2 / (self.counts - 1.0)[:, None]).sum(axis=0)
        degrees = np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)  # Satterthwaite 1946
        half_widths: Floats = stdtrit(np.maximum(degrees, 1.0), 0.975) * self.spread()
        return half_widths

    def spread(self) -> Floats:
        """Return standard errors of the sum over the games, (n,).

        By the rule of three, three samples are added at the deviation of the game with the largest variance.
        """
        of_games = self.variances()
        errors: Floats = np.sqrt(of_games.sum(axis=0) + RULE_OF_THREE * of_games.max(axis=0))
        return errors


def separable_samples(received: Ints, readout: Ints, room: float, state: Words, stop: Flags) -> SeparableSamples:
    """Sample until all half-widths are at most ``room``, games with a large variance more often.

    Args:
        received: (T, n), the capacity into each position from each player.
        readout: (T,).
        room: half-width to reach.
        state: (1,), of the random number generator.
        stop: (1,), set to 1 by another thread to stop.
    """
    samples = SeparableSamples(np.zeros(len(received), dtype=np.int64), *np.zeros((2, *received.shape)))
    more, permutation = np.full(len(received), _FIRST_SAMPLES), np.arange(received.shape[1])
    while True:
        _sample(received, readout, more, permutation, state, samples, stop)
        radius = samples.radius()
        if radius.max() <= room or samples.counts.min() >= _MAX_SAMPLES or stop[0]:
            return samples
        # of one sample of each game, for the players with wide intervals
        spread = np.sqrt(samples.variances() * samples.counts[:, None] @ radius**_EMPHASIS)
        # with few samples the quantile is large, but more samples make it smaller
        expected = _NORMAL_QUANTILE * float(samples.spread().max())
        growth = min(max(_MARGIN * (expected / room) ** 2, _MIN_GROWTH), _MAX_GROWTH)
        wanted = growth * samples.counts.mean() * spread / spread.mean()
        more = np.maximum(np.ceil(wanted).astype(np.int64) - samples.counts, 0)
        more[np.argmax(spread / samples.counts)] += 1


def first_two_places_separable(received: Ints, readout: Ints) -> Floats:
    """Return the part of the Shapley values from the first two places of permutations, (n,)."""
    n = received.shape[1]
    alone = np.minimum(received, readout[:, None])
    ordered = np.sort(alone, axis=1)
    largest = np.zeros((len(alone), n + 1), dtype=np.int64)  # [j, k] the sum of all but the k smallest
    largest[:, :-1] = np.cumsum(ordered[:, ::-1], axis=1)[:, ::-1]
    marginals: Floats = alone.sum(axis=0) / n
    for j in range(len(alone)):  # the marginal of i after k is min(alone[i], readout - alone[k])
        left = readout[j] - alone[j]
        whole = np.searchsorted(ordered[j], left, side="right")
        of_pairs = whole * alone[j] + (n - whole) * readout[j] - largest[j, whole] - np.minimum(alone[j], left)
        marginals += of_pairs / (n * (n - 1.0))
    return marginals


@compiled
def _sample(
    received: Ints,
    readout: Ints,
    more: Ints,
    permutation: Ints,
    state: Words,
    samples: SeparableSamples,
    stop: Flags,
) -> None:
    """Add ``more[j]`` samples of each game j to ``samples``; ``permutation`` (n,) is shuffled in place."""
    n = len(permutation)
    sums, sums_of_sums = np.empty(2 * n + 1, dtype=np.int64), np.empty(2 * n + 1, dtype=np.int64)
    sums[0], sums_of_sums[0] = 0, 0
    marginals = np.empty(n)
    for j in range(len(received)):
        if stop[0]:
            return
        for _ in range(more[j]):
            for player in range(len(marginals)):
                marginals[player] = 0
            shuffle(permutation, state)
            for _ in range(2):
                _two_cut_marginals(received[j], readout[j], permutation, sums, sums_of_sums, marginals)
                _reverse(permutation)
            samples.counts[j] += 1
            for i in range(n):  # Welford 1962
                before = marginals[i] - samples.mean[j, i]
                samples.mean[j, i] += before / samples.counts[j]
                samples.m2[j, i] += before * (marginals[i] - samples.mean[j, i])


@compiled_inner
def _reverse(permutation: Ints) -> None:
    n = len(permutation)
    for t in range(n // 2):
        permutation[t], permutation[n - 1 - t] = permutation[n - 1 - t], permutation[t]


@compiled_inner
def _two_cut_marginals(
    weights: Ints, bound: int, permutation: Ints, sums: Ints, sums_of_sums: Ints, marginals: Floats
) -> None:
    """Add half the mean marginals of min(bound, weight(S)) over all cyclic shifts to ``marginals`` (n,).

    Marginals in the first two places are left out.

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
        previous = min(sums[place] - sums[place - 1], bound)
        of_arcs -= min(weight, bound) + min(weight, bound - previous)
        marginals[permutation[place - n]] += of_arcs / (2.0 * n)
