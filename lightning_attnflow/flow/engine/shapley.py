"""The Shapley values of the flow game of one layer: in closed form if there is one, otherwise sampled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.bias_correction import bias_correction
from lightning_attnflow.flow.engine.layer import LayerGame, LayerValues
from lightning_attnflow.flow.engine.layer_bounds import NO_POSITION
from lightning_attnflow.flow.engine.permutations import CoalitionBounds, sample_bounds, sample_separable
from lightning_attnflow.flow.engine.solve import Flags
from lightning_attnflow.flow.layer import EXACT_PLAYERS
from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.intervals import permutation_interval, samples_needed
from lightning_attnflow.shapley.statistics import SampleStatistics
from lightning_attnflow.shapley.wrappers import FunctionGame

Floats = NDArray[np.float64]

_FIRST_PERMUTATIONS = 384
_MAX_SAMPLES = 2**20


class Estimate(NamedTuple):
    """Shapley values in integer units with standard error, 95% interval and number of permutations."""

    values: Floats
    stderr: Floats
    low: Floats
    high: Floats
    n_permutations: int


def shapley_values(game: LayerGame, tolerance: float, seed: int, stop: Flags) -> Estimate:
    """Return the Shapley value of every player of a layer."""
    values, n = game.values, len(game.values.alone)
    if (values.alone == values.leave_one_out).all():
        return _exact(values.alone.astype(np.float64))
    bounds = game.solver.bounds(values) if game.solver is not None else None
    closed = _closed_form(values, bounds)
    if closed is not None:
        return _exact(closed)
    if n <= EXACT_PLAYERS:
        return _exact(exact_shapley(FunctionGame(lambda coalitions: _values(game, coalitions), n)).values)
    return _sampled(game, bounds, tolerance, np.random.SeedSequence([seed, game.layer]), stop)


def _exact(values: Floats) -> Estimate:
    return Estimate(values, np.zeros_like(values), values, values, 0)


def _values(game: LayerGame, coalitions: NDArray[np.bool_]) -> Floats:
    if game.solver is not None:
        return game.solver.of_coalitions(coalitions).astype(np.float64)
    assert game.players is not None  # a game without players is modular
    payoffs: Floats = np.minimum(coalitions @ game.players.sent, game.readout).sum(axis=1).astype(np.float64)
    return payoffs


def _closed_form(values: LayerValues, bounds: CoalitionBounds | None) -> Floats | None:
    """Return the Shapley values if the game is proven to be one of two simple games.

    *Any two players have the value v(N).* The marginal of i is v({i}) as the first player, v(N) - v({j}) after one
    other player j, and 0 otherwise.
    *One player r has the value v(N) alone*, and one cut, b + w(S), is tight at every other player alone and at all of
    them together, hence at every set between (see `lightning_attnflow.flow.engine.layer_bounds`). The marginal of any
    other player i is w_i before r, in half of the permutations, plus b if i is the first player.
    """
    n = len(values.alone)
    any_two = bounds is not None and bounds.by_size[2] == values.total
    if np.count_nonzero(values.alone < values.total) <= 1 or any_two:
        missing = values.total - values.alone
        shares: Floats = (values.alone + (missing.sum() - missing) / max(n - 1, 1)) / n
        return shares
    if bounds is None or bounds.full_player == NO_POSITION:
        return None
    loose = np.count_nonzero(bounds.slack, axis=1) - (bounds.slack[:, bounds.full_player] != 0)
    tight = np.flatnonzero((loose == 0) & (bounds.gap_without_full == 0))
    if len(tight) == 0:
        return None
    phi: Floats = bounds.weights[tight[0]] / 2 + bounds.constants[tight[0]] / n
    phi[bounds.full_player] += values.total - phi.sum()
    return phi


def _sampled(
    game: LayerGame, bounds: CoalitionBounds | None, tolerance: float, seeds: np.random.SeedSequence, stop: Flags
) -> Estimate:
    """Sample marginals until the interval is narrow enough, with maximum flows only if the bounds are too loose."""
    n = len(game.values.alone)
    state = seeds.generate_state(1, dtype=np.uint64).astype(np.uint64)
    samples, before, after = SampleStatistics.empty(n), np.zeros(n), np.zeros(n)
    n_samples = max(3, _FIRST_PERMUTATIONS // (2 * n))
    while True:
        marginals, gaps, permutation = np.zeros((n_samples, n)), np.zeros((2, n)), np.arange(n)
        if bounds is None:
            assert game.players is not None
            received = np.ascontiguousarray(game.players.sent.T)
            sample_separable(received, game.readout, permutation, state, marginals, stop)
        else:
            sample_bounds(bounds, permutation, state, marginals, gaps[0], gaps[1], stop)
        share = n_samples / (samples.count + n_samples)
        before, after = before + (gaps[0] - before) * share, after + (gaps[1] - after) * share
        samples = samples + SampleStatistics.of(marginals)
        doubt = (before + after) / 2
        loose = doubt.max() > 0.5 * tolerance
        radius, room = _radius(samples), 0.7 * tolerance if loose else tolerance - doubt.max()
        if radius.max() <= room or samples.count >= _MAX_SAMPLES or stop[0]:
            break
        n_samples = samples_needed(samples, radius, np.full(n, room), np.zeros(n)) - samples.count
    stderr, n_permutations = samples.stderr, 2 * n * samples.count
    if loose:
        assert bounds is not None
        assert game.solver is not None  # a separable game has no bounds
        left = np.sqrt(np.maximum(tolerance**2 - radius**2, (0.3 * tolerance) ** 2))
        gaps, n_known = np.stack([after, before]), n * samples.count
        generator = np.random.default_rng(seeds)
        correction, unseen = bias_correction(game.solver, bounds, gaps, n_known, left, generator, stop)
        values = samples.mean + correction.mean
        radius = np.hypot(radius, _radius(correction) + unseen)
        stderr = np.hypot(stderr, correction.stderr)
        n_permutations += 2 * correction.count
    else:
        values = samples.mean + (before - after) / 2
        radius = radius + doubt
    low, high = game.values.leave_one_out.astype(np.float64), game.values.alone.astype(np.float64)
    values = _efficient(values, low, high, float(game.values.total))
    return Estimate(
        values,
        np.where(low < high, stderr, 0.0),
        np.clip(values - radius, low, high),
        np.clip(values + radius, low, high),
        n_permutations,
    )


def _efficient(values: Floats, low: Floats, high: Floats, total: float) -> Floats:
    """Return the nearest values between ``low`` and ``high`` with the sum ``total``, as the exact values have."""
    shifted: Floats = values + (total - values.sum()) / len(values)
    if (low <= shifted).all() and (shifted <= high).all():
        return shifted
    shifts = np.sort(np.concatenate([low - values, high - values]))  # between two of them the sum is linear
    totals = np.clip(values[:, None] + shifts, low[:, None], high[:, None]).sum(axis=0)
    nearest: Floats = np.clip(values + np.interp(total, totals, shifts), low, high)
    return nearest


def _radius(statistics: SampleStatistics) -> Floats:
    low, high = permutation_interval(statistics)
    return (high - low) / 2
