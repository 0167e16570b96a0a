"""The Shapley values of the flow game of one layer: in closed form if there is one, otherwise sampled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.bias_correction import BiasCorrection, learn_cuts
from lightning_attnflow.flow.engine.layer import LayerGame, LayerSolver, LayerValues
from lightning_attnflow.flow.engine.layer_bounds import NO_POSITION
from lightning_attnflow.flow.engine.outflow_bounds import outflows
from lightning_attnflow.flow.engine.permutations import (
    CoalitionBounds,
    first_two_places,
    sample_bounds,
    sample_model,
    sizes_bounded_by_flow,
)
from lightning_attnflow.flow.engine.separable import first_two_places_separable, separable_samples
from lightning_attnflow.flow.engine.solve import Flags
from lightning_attnflow.flow.layer import EXACT_PLAYERS
from lightning_attnflow.flow.solvers.dinic import Words
from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.intervals import permutation_interval, samples_needed
from lightning_attnflow.shapley.statistics import SampleStatistics
from lightning_attnflow.shapley.wrappers import FunctionGame

Floats = NDArray[np.float64]

_FIRST_PERMUTATIONS, _FIRST_SAMPLES = 384, 3
_MAX_SAMPLES = 2**20
_PILOT_PERMUTATIONS = 8
_STOPPING = 1.05  # half-widths are too small where sampling stops because they are small
_SHARE_OF_MODEL = 0.7  # of the tolerance; the samples with maximum flows get the rest


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
    state = seeds.generate_state(1, dtype=np.uint64).astype(np.uint64)
    n = len(game.values.alone)
    if bounds is None or game.solver is None:
        assert game.players is not None  # a game without players is modular
        received = np.ascontiguousarray(game.players.sent.T)
        of_games = separable_samples(received, game.readout, tolerance, state, stop)
        values = first_two_places_separable(received, game.readout) + of_games.mean.sum(axis=0)
        stderr = np.sqrt(of_games.variances().sum(axis=0))
        return _within_range(game, values, stderr, of_games.radius(), 2 * n * int(of_games.counts.mean()))
    known, samples, gaps = _samples(bounds, tolerance, state, stop)
    doubt = gaps.sum(axis=0) / 2
    if doubt.max() <= tolerance / 2:
        values, radius = known + samples.mean + (gaps[0] - gaps[1]) / 2, _radius(samples) + doubt
        return _within_range(game, values, samples.stderr, radius, 2 * n * samples.count)
    return _with_flows(game, game.solver, bounds, tolerance, np.random.default_rng(seeds), state, stop)


def _with_flows(
    game: LayerGame,
    solver: LayerSolver,
    bounds: CoalitionBounds,
    tolerance: float,
    generator: np.random.Generator,
    state: Words,
    stop: Flags,
) -> Estimate:
    """Sample marginals of upper bounds, and the difference from the game by maximum flows."""
    n = len(bounds.alone)
    tolerance /= _STOPPING
    permutations = generator.permuted(np.tile(np.arange(n), (_PILOT_PERMUTATIONS, 1)), axis=1)
    sizes = max(2, sizes_bounded_by_flow(bounds, np.ascontiguousarray(bounds.weights.T), permutations))
    net, first = solver.nets.above(solver.players.layer)
    flows = outflows(net, first, solver.players.sent, bounds.total, stop)
    unlearned = bounds._replace(flow_sizes=sizes)
    pool, learned = learn_cuts(solver, unlearned, flows, tolerance, generator, stop)
    upper = solver.bounds(game.values, pool)._replace(flow_sizes=sizes)
    expected = np.full(n, tolerance * np.sqrt(1 - _SHARE_OF_MODEL**2))
    correction = BiasCorrection(solver, upper, bounds, flows, learned, generator, stop).with_model(expected)
    known, samples, _ = _samples(correction.bounds, _SHARE_OF_MODEL * tolerance, state, stop)
    radius = _radius(samples)
    correction.sample_until(np.sqrt(np.maximum(tolerance**2 - radius**2, 0.0)))
    corrections = correction.samples
    return _within_range(
        game,
        known + samples.mean + corrections.mean,
        np.hypot(samples.stderr, corrections.stderr),
        _STOPPING * np.hypot(radius, correction.radius() + correction.unseen),
        2 * n * samples.count + corrections.count,
    )


def _samples(
    bounds: CoalitionBounds, room: float, state: Words, stop: Flags
) -> tuple[Floats, SampleStatistics, Floats]:
    """Sample marginals of the upper bounds until all half-widths of their intervals are at most ``room``.

    Stops after the first samples if the gaps between the bounds are larger than ``room``, unless the upper bounds are
    those by flow, whose gaps are not computed.

    Returns:
        The exact part of the values (n,), the samples of the rest, and the gaps between the bounds (2, n).
    """
    n = len(bounds.alone)
    samples, gaps = SampleStatistics.empty(n), np.zeros((2, n))
    by_player, permutation = np.ascontiguousarray(bounds.weights.T), np.flatnonzero(np.arange(n) != bounds.full_player)
    known = first_two_places(bounds)
    first = max(_FIRST_SAMPLES, _FIRST_PERMUTATIONS // (2 * n))
    n_samples = first if bounds.flow_sizes else 1  # one sample shows whether the gaps are too large
    while True:
        marginals, of_batch = np.zeros((n_samples, n)), np.zeros((2, n))
        if bounds.flow_sizes:
            sample_model(bounds, by_player, permutation, state, marginals, stop)
        else:
            sample_bounds(bounds, permutation, state, marginals, of_batch[0], of_batch[1], stop)
        gaps += (of_batch - gaps) * (n_samples / (samples.count + n_samples))
        samples = samples + SampleStatistics.of(marginals)
        radius, doubt = _radius(samples).max(), gaps.sum(axis=0).max() / 2
        if radius + doubt <= room or doubt > room / 2 or samples.count >= _MAX_SAMPLES or stop[0]:
            return known, samples, gaps
        if samples.count == 1:
            n_samples = first - 1
            continue
        left = np.full(n, room - doubt)
        n_samples = samples_needed(samples, _radius(samples), left, np.zeros(n)) - samples.count


def _within_range(game: LayerGame, values: Floats, stderr: Floats, radius: Floats, n_permutations: int) -> Estimate:
    """Return values with the sum v(N), and they and their intervals within the range of all maximum flows."""
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
