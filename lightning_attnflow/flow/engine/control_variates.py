"""Shapley values of sampled amounts of coalitions, with an additive control variate for each range of sizes.

An amount a(S) of a coalition S of s players adds a(S) / s to each of them and subtracts a(S) / (n - s) from each other
player, on average over all permutations that begin with S. Only the additive part of a over the coalitions of one size
has an effect on the Shapley values, but all of a adds to their variance. Therefore the amounts are replaced by their
difference from an additive function,

    g(S) = c + sum of a_i over S,

whose effect is known exactly. Its coefficients come from the other samples (cross-fitting), so there is no bias.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.solve import Ints
from lightning_attnflow.flow.solvers.jit import compiled
from lightning_attnflow.shapley.statistics import SampleStatistics

Floats = NDArray[np.float64]
_FOLDS = 4
_SIZE_RATIO = 1.25
_MOST_KEPT = 2**22  # players of all permutations, 32 MiB


class Prefixes(NamedTuple):
    """Prefixes of permutations, one of a random size in each range of sizes, and amounts for each of them."""

    permutations: Ints  # (m, n); a player that does not move is last
    sizes: Ints  # (m, R), ascending
    excess: Floats  # (m, R): value in the model less exact value
    possible: Floats  # (m, R): the largest absolute excess that is possible by the bounds
    upper: Floats  # (m, R): upper bound


class SizeRanges(NamedTuple):
    """Ranges of coalition sizes 2 ... n - 1 whose largest size is about a quarter larger than the smallest.

    With a player that is last in every permutation, an amount of s players counts only if that player is not among
    the first s players, that is with probability 1 - s / n.
    """

    movable: NDArray[np.bool_]  # (n,)
    starts: Ints  # (R,)
    widths: Ints  # (R,)

    def draw(self, n_samples: int, generator: np.random.Generator) -> Ints:
        """Return one random size in each range, int64 (samples, R)."""
        return self.starts + (generator.random((n_samples, len(self.starts))) * self.widths).astype(np.int64)

    def weights(self, sizes: Ints) -> Floats:
        """Return the number of sizes that a size drawn from each range stands for, times its probability, (..., R)."""
        return self.widths * self.probabilities(sizes)

    def probabilities(self, sizes: Ints) -> Floats:
        """Return the probability that an amount of coalitions of these sizes counts."""
        if self.movable.all():
            return np.ones(np.shape(sizes))
        probabilities: Floats = 1 - sizes / len(self.movable)
        return probabilities


def size_ranges(movable: NDArray[np.bool_]) -> SizeRanges:
    """Return the ranges of sizes of prefixes of players, of which all or all but one move."""
    n, edges = len(movable), [2]
    while edges[-1] < n:
        edges.append(min(n, max(edges[-1] + 1, int(edges[-1] * _SIZE_RATIO))))
    return SizeRanges(movable, np.array(edges[:-1]), np.diff(edges))


class _Sums(NamedTuple):
    """Sums over the samples of each fold."""

    counts: Floats  # (F,)
    amounts: Floats  # (F, R)
    counts_inside: Floats  # (F, R, n): samples with the player in the prefix
    amounts_inside: Floats  # (F, R, n)
    squares: Floats  # (F, R)


class AdditiveFit:
    """Samples of the excess with additive functions that are fitted again as samples are added.

    Attributes:
        statistics: of the corrections, the Shapley values of the excess with the opposite sign, by all samples.
    """

    def __init__(self, ranges: SizeRanges) -> None:
        n = len(ranges.movable)
        self._ranges, self._kept = ranges, list[Prefixes]()
        self._before, self._final = _empty_sums(1, ranges), SampleStatistics.empty(n)
        self.statistics = SampleStatistics.empty(n)

    def add(self, prefixes: Prefixes) -> Floats:
        """Add samples; return the corrections by all samples that are kept, one per permutation, (m, n)."""
        self._kept.append(prefixes)
        kept = Prefixes(*(np.concatenate(arrays) for arrays in zip(*self._kept, strict=True)))
        corrections, total = self._corrections(kept)
        self.statistics = self._final + SampleStatistics.of(corrections)
        if kept.permutations.size > _MOST_KEPT:
            self._kept, self._before, self._final = [], total, self.statistics
        return corrections

    def _corrections(self, prefixes: Prefixes) -> tuple[Floats, _Sums]:
        """Return the corrections, (m, n), and the sums over all samples so far."""
        ranges, n_samples = self._ranges, len(prefixes.permutations)
        if not prefixes.excess.any() and not self._before.amounts.any():
            return np.zeros(prefixes.permutations.shape), self._before
        folds = np.arange(n_samples) % min(_FOLDS, n_samples)
        sums = _empty_sums(folds.max() + 1, ranges)
        excess = prefixes.excess.copy()
        _add(prefixes.permutations, prefixes.sizes, excess, folds, *sums)
        pairs = zip(sums, self._before, strict=True)
        total = _Sums(*(of_folds.sum(axis=0, keepdims=True) + of_before for of_folds, of_before in pairs))
        others = _Sums(*(of_all - of_folds for of_all, of_folds in zip(total, sums, strict=True)))
        constants, slopes = self._coefficients(others)
        _subtract(prefixes.permutations, prefixes.sizes, folds, constants, slopes, excess)
        inside, outside = shapley_shares(prefixes.permutations, prefixes.sizes, excess * ranges.weights(prefixes.sizes))
        return outside - inside + self._effects(constants, slopes)[folds], total

    def _coefficients(self, sums: _Sums) -> tuple[Floats, Floats]:
        """Return c (F, R) and a (F, R, n), which has the sum 0, shrunk by the share of noise in its variance."""
        movable, middle = self._ranges.movable, self._ranges.starts + (self._ranges.widths - 1) / 2
        counts = np.maximum(sums.counts, 1.0)[:, None]
        constants = sums.amounts / counts
        counts_inside = sums.counts_inside[..., movable] + 1  # one more sample without a difference
        differences = (sums.amounts_inside[..., movable] + constants[..., None]) / counts_inside
        differences = differences - differences.mean(axis=2, keepdims=True)
        variance = np.maximum(sums.squares / counts - constants**2, 0.0)
        noise = variance * (1 / counts_inside).mean(axis=2)
        found = (differences**2).mean(axis=2)
        signal = np.divide(np.maximum(found - noise, 0.0), found, out=np.zeros_like(found), where=found > 0)
        # a player inside leaves fewer places for others, whose coefficients add up to the opposite of its own
        scale = (movable.sum() - 1) / np.maximum(movable.sum() - middle, 1.0)
        slopes = np.zeros(sums.counts_inside.shape)
        slopes[..., movable] = differences * (signal * scale)[..., None]
        return constants, slopes

    def _effects(self, constants: Floats, slopes: Floats) -> Floats:
        """Return the exact Shapley values of the additive functions, (F, n)."""
        movable, widths = self._ranges.movable, self._ranges.widths
        n, n_movable = len(movable), int(movable.sum())
        sizes, of_size = np.arange(2, n), np.repeat(np.arange(len(widths)), widths)
        shares, inside = self._ranges.probabilities(sizes), sizes / n_movable
        of_constant = np.bincount(of_size, shares * ((1 - inside) / (n - sizes) - inside / sizes))
        spread = inside * (n_movable - sizes) / max(n_movable - 1, 1)
        of_slope = np.bincount(of_size, -shares * spread * (1 / (n - sizes) + 1 / sizes))
        effects: Floats = (constants @ of_constant)[:, None] + np.einsum("frn,r->fn", slopes, of_slope)
        effects[:, ~movable] = (constants @ np.bincount(of_size, shares / (n - sizes)))[:, None]
        return effects


def _empty_sums(n_folds: int, ranges: SizeRanges) -> _Sums:
    shape = (n_folds, len(ranges.starts))
    inside = (*shape, len(ranges.movable))
    return _Sums(np.zeros(n_folds), np.zeros(shape), np.zeros(inside), np.zeros(inside), np.zeros(shape))


@compiled
def shapley_shares(permutations: Ints, sizes: Ints, amounts: Floats) -> tuple[Floats, Floats]:
    """Return what amounts of prefixes (m, R) add to the players inside and subtract from those outside, (m, n) each."""
    n = permutations.shape[1]
    inside, outside = np.zeros(permutations.shape), np.zeros(permutations.shape)
    for row in range(len(permutations)):
        total, at = 0.0, sizes.shape[1] - 1
        for place in range(n - 1, -1, -1):
            while at >= 0 and sizes[row, at] > place:
                total += amounts[row, at] / sizes[row, at]
                at -= 1
            inside[row, permutations[row, place]] = total
        total, at = 0.0, 0
        for place in range(n):
            while at < sizes.shape[1] and sizes[row, at] <= place:
                total += amounts[row, at] / (n - sizes[row, at])
                at += 1
            outside[row, permutations[row, place]] = total
    return inside, outside


@compiled
def _add(
    permutations: Ints,
    sizes: Ints,
    excess: Floats,
    folds: Ints,
    counts: Floats,
    amounts: Floats,
    counts_inside: Floats,
    amounts_inside: Floats,
    squares: Floats,
) -> None:
    """Add samples to the sums of their folds."""
    for row in range(len(permutations)):
        fold = folds[row]
        counts[fold] += 1
        for at in range(sizes.shape[1]):
            amount = excess[row, at]
            amounts[fold, at] += amount
            squares[fold, at] += amount**2
            for place in range(sizes[row, at]):
                counts_inside[fold, at, permutations[row, place]] += 1
                amounts_inside[fold, at, permutations[row, place]] += amount


@compiled
def _subtract(permutations: Ints, sizes: Ints, folds: Ints, constants: Floats, slopes: Floats, excess: Floats) -> None:
    """Subtract the additive function of each fold from the excess of its samples."""
    for row in range(len(permutations)):
        fold = folds[row]
        for at in range(sizes.shape[1]):
            total = constants[fold, at]
            for place in range(sizes[row, at]):
                total += slopes[fold, at, permutations[row, place]]
            excess[row, at] -= total
