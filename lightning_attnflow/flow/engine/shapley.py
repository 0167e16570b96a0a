"""The Shapley value of one layer's flow game: in closed form where the game is proven to have one, else sampled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.bias_correction import corrections
from lightning_attnflow.flow.engine.layer import Coalitions
from lightning_attnflow.flow.engine.layer_bounds import NOWHERE
from lightning_attnflow.flow.engine.network import LayerGame
from lightning_attnflow.flow.engine.permutations import CoalitionBounds, sample_bounds, sample_separable
from lightning_attnflow.flow.engine.solve import Flags
from lightning_attnflow.flow.layer import EXACT_PLAYERS
from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.intervals import permutation_interval, samples_needed
from lightning_attnflow.shapley.statistics import SampleStatistics
from lightning_attnflow.shapley.wrappers import FunctionGame

Floats = NDArray[np.float64]

_FIRST_ORDERS = 384
_MOST_RINGS = 2**20


class Estimate(NamedTuple):
    """Shapley values in integer units, their standard error, 95% interval and the orders they took."""

    values: Floats
    stderr: Floats
    low: Floats
    high: Floats
    n_permutations: int


def shapley_values(game: LayerGame, tolerance: float, seed: int, stop: Flags) -> Estimate:
    """Return the Shapley value of every player of a layer.

    Args:
        game: the layer with its exact values.
        tolerance: half-width of the 95% interval at which sampling stops, in units.
        seed: of the orders, with the layer.
        stop: (1,), set to 1 by another thread to give up.
    """
    values, n = game.values, len(game.values.alone)
    if (values.alone == values.last).all():
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
        return game.solver.of_members(coalitions).astype(np.float64)
    assert game.players is not None  # a game without players is modular
    payoffs: Floats = np.minimum(coalitions @ game.players.sent, game.readout).sum(axis=1).astype(np.float64)
    return payoffs


def _closed_form(values: Coalitions, bounds: CoalitionBounds | None) -> Floats | None:
    """Return the Shapley values if the game is proven to be one of two simple ones.

    *Any two reach it.* No two players are paid less than v(N): a player adds v({i}) as the first and what
    is missing after another as the second.
    *One decides.* Player r alone is paid v(N), and one cut, b + w(S), is tight at every other player alone and at all
    of them together, hence (see `lightning_attnflow.flow.engine.layer_bounds`) at everything between. Any i but r adds
    w_i if it comes before r, half of the orders, and b if it is the very first.
    """
    n = len(values.alone)
    if np.count_nonzero(values.alone < values.total) <= 1 or (bounds is not None and bounds.least[2] == values.total):
        missing = values.total - values.alone
        pairwise: Floats = (values.alone + (missing.sum() - missing) / max(n - 1, 1)) / n
        return pairwise
    if bounds is None or bounds.reader == NOWHERE:
        return None
    loose = np.count_nonzero(bounds.slack, axis=1) - (bounds.slack[:, bounds.reader] != 0)
    tight = np.flatnonzero((loose == 0) & (bounds.gap_without_reader == 0))
    if len(tight) == 0:
        return None
    phi: Floats = bounds.weights[tight[0]] / 2 + bounds.constants[tight[0]] / n
    phi[bounds.reader] += values.total - phi.sum()
    return phi


def _sampled(
    game: LayerGame, bounds: CoalitionBounds | None, tolerance: float, seeds: np.random.SeedSequence, stop: Flags
) -> Estimate:
    """Sample rings of orders until the interval is narrow enough, with flows only if the bounds are too loose."""
    n = len(game.values.alone)
    state = seeds.generate_state(1, dtype=np.uint64).astype(np.uint64)
    rings, before, after = SampleStatistics.empty(n), np.zeros(n), np.zeros(n)
    n_rings = max(3, _FIRST_ORDERS // (2 * n))
    while True:
        units, gaps, order = np.zeros((n_rings, n)), np.zeros((2, n)), np.arange(n)
        if bounds is None:
            assert game.players is not None
            sample_separable(np.ascontiguousarray(game.players.sent.T), game.readout, order, state, units, stop)
        else:
            sample_bounds(bounds, order, state, units, gaps[0], gaps[1], stop)
        share = n_rings / (rings.count + n_rings)
        before, after = before + (gaps[0] - before) * share, after + (gaps[1] - after) * share
        rings = rings + SampleStatistics.of(units)
        doubt = (before + after) / 2
        loose = doubt.max() > 0.5 * tolerance
        radius, room = _radius(rings), 0.7 * tolerance if loose else tolerance - doubt.max()
        if radius.max() <= room or rings.count >= _MOST_RINGS or stop[0]:
            break
        n_rings = samples_needed(rings, radius, np.full(n, room), np.zeros(n)) - rings.count
    stderr, n_permutations = rings.stderr, 2 * n * rings.count
    if loose:
        assert bounds is not None
        assert game.solver is not None  # a separable game has no bounds that could be loose
        left = np.sqrt(np.maximum(tolerance**2 - radius**2, (0.3 * tolerance) ** 2))
        gaps, n_known = np.stack([after, before]), n * rings.count
        pairs, unseen = corrections(game.solver, bounds, gaps, n_known, left, np.random.default_rng(seeds), stop)
        values = rings.mean + pairs.mean
        radius = np.hypot(radius, _radius(pairs) + unseen)
        stderr = np.hypot(stderr, pairs.stderr)
        n_permutations += 2 * pairs.count
    else:
        values = rings.mean + (before - after) / 2
        radius = radius + doubt
    low, high = game.values.last.astype(np.float64), game.values.alone.astype(np.float64)
    values = _efficient(values, low, high, float(game.values.total))
    return Estimate(
        values,
        np.where(low < high, stderr, 0.0),
        np.clip(values - radius, low, high),
        np.clip(values + radius, low, high),
        n_permutations,
    )


def _efficient(values: Floats, low: Floats, high: Floats, total: float) -> Floats:
    """The nearest values between ``low`` and ``high`` that add up to ``total``: the true ones do both."""
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
