"""The walk along the orders of one unit, with truncation and, for audited units, what the truncation lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import GameError
from lightning_attnflow.shapley import Game, GroupedGame, Truncation, draw_permutations, permutation_marginals
from lightning_attnflow.shapley.game import evaluate

FloatArray = NDArray[np.float64]

_ALWAYS_AUDITED = 2  # units: fewer say nothing about the error of the measured bias


@dataclass(frozen=True)
class Plan:
    """What a unit of a run depends on besides the game; a worker needs nothing else.

    Args:
        seed: of the run.
        antithetic: whether a unit is an order with its reverse.
        truncation: when to cut an order short, or None.
        audit: share of the units that are walked to the end although truncated.
        v_empty: payoff of the empty coalition.
        v_full: payoff of all players.
        threads: torch threads of one evaluation.
    """

    seed: int
    antithetic: bool
    truncation: Truncation | None
    audit: float
    v_empty: float
    v_full: float
    threads: int

    def audits(self, index: int) -> bool:
        """Whether unit ``index`` is audited: the first two, and a share decided by seed and index alone."""
        if self.truncation is None:
            return False
        if index < _ALWAYS_AUDITED:
            return True
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(index, 1))))
        return bool(generator.random() < self.audit)


@dataclass(frozen=True)
class Unit:
    """A finished unit: an order, or an order with its reverse.

    Args:
        index: of the unit in its run.
        marginals: float (k, n), by player; what the estimate is made of.
        lost: float (k, n), marginals of the full walk minus ``marginals``, if the unit was audited, else None.
        evaluations: int (k,), coalitions evaluated in each order.
        cuts: int (k,), players in the prefix after which the order was truncated; n if it was not.
        seconds: float (k,).
        noise: float (k,), mean variance of a payoff of each order due to the training seed; NaN if it is unknown.
    """

    index: int
    marginals: FloatArray
    lost: FloatArray | None
    evaluations: NDArray[np.int64]
    cuts: NDArray[np.int64]
    seconds: FloatArray
    noise: FloatArray


def walk_unit(game: Game, plan: Plan, index: int) -> Unit:
    """Walk unit ``index`` of a run: what comes out depends on game, plan and index alone.

    Raises:
        GameError: if the game raises or returns what is not a payoff; it carries the coalition.
    """
    n = game.n_players
    orders = draw_permutations(plan.seed, [index], n, antithetic=plan.antithetic)[0]  # (k, n)
    shape = orders.shape
    marginals, lost, seconds, noise = np.empty(shape), np.zeros(shape), np.zeros(len(orders)), np.empty(len(orders))
    evaluations, cuts = np.zeros(len(orders), np.int64), np.full(len(orders), n, np.int64)
    _drain_noise(game)
    audited = plan.audits(index)
    for row, order in enumerate(orders):
        began = time.perf_counter()
        if plan.truncation is None or n < 2:
            walk = permutation_marginals(game, order[None], v_empty=plan.v_empty, v_full=plan.v_full)
            marginals[row], evaluations[row] = walk.marginals[0], walk.n_evaluations
        else:
            cut, full = _walk_truncated(game, order, plan, plan.truncation, to_the_end=audited)
            marginals[row, order] = np.diff(cut.values)
            lost[row, order] = np.diff(full) - np.diff(cut.values)
            evaluations[row], cuts[row] = cut.evaluations, cut.size
        seconds[row], noise[row] = time.perf_counter() - began, _drain_noise(game)
    return Unit(index, marginals, lost if audited else None, evaluations, cuts, seconds, noise)


@dataclass(frozen=True)
class _Cut:
    values: FloatArray  # (n + 1,) of the prefixes, constant after the cut
    size: int
    evaluations: int


def _walk_truncated(
    game: Game, order: NDArray[np.intp], plan: Plan, truncation: Truncation, *, to_the_end: bool
) -> tuple[_Cut, FloatArray]:
    """The prefix values as truncation leaves them, and as they are (known to the end only if asked for)."""
    n = len(order)
    values = np.full(n + 1, plan.v_full)
    values[0] = plan.v_empty
    state, alone = truncation.begin(n_permutations=1, v_empty=plan.v_empty, v_full=plan.v_full), np.zeros(1, np.intp)
    state.step(values[:1], alone)
    cut, size = n, 1
    for payoffs in _prefix_payoffs(game, order):
        _check_finite(payoffs, order, size)
        values[size : size + len(payoffs)] = payoffs
        for offset in range(len(payoffs)):
            # After the last inner prefix only v(N) is left, and that is known.
            if cut == n and state.step(payoffs[offset : offset + 1], alone)[0] and size + offset < n - 1:
                cut = size + offset
        size += len(payoffs)
        if cut < n and not to_the_end:
            break
    truncated = values.copy()
    truncated[cut + 1 :] = truncated[cut]
    if cut == n:
        truncated = values
    return _Cut(truncated, cut, size - 1), values if to_the_end else truncated


def _drain_noise(game: Game) -> float:
    """Mean variance of the payoffs since the last call due to the training seed; NaN if it is not measured."""
    drain = getattr(game.game if isinstance(game, GroupedGame) else game, "drain_noise", None)
    total, count = (0.0, 0) if drain is None else drain()
    return total / count if count else np.nan


def _prefix_payoffs(game: Game, order: NDArray[np.intp]) -> Iterator[FloatArray]:
    """Payoffs of the prefixes of 1, 2, ..., n - 1 players, in chunks if the game has ``prefix_chunks``."""
    n = len(order)
    inner = game.game if isinstance(game, GroupedGame) else game
    chunks = getattr(inner, "prefix_chunks", None)
    if chunks is not None:
        players, sizes = order, list(range(1, n))
        if isinstance(game, GroupedGame):
            members = [game.groups[group] for group in order]
            players = np.array([player for group in members for player in group], dtype=np.intp)
            sizes = np.cumsum([len(group) for group in members])[:-1].tolist()
        yield from chunks(players, sizes)
        return
    coalition = np.zeros((1, n), dtype=bool)
    for player in order[:-1]:
        coalition[0, player] = True
        yield evaluate(game, coalition.copy())


def _check_finite(payoffs: FloatArray, order: NDArray[np.intp], size: int) -> None:
    if not np.isfinite(payoffs).all():
        step = int(np.flatnonzero(~np.isfinite(payoffs))[0])
        raise GameError.of_coalition(
            "payoff",
            sorted(order[: size + step].tolist()),
            got=payoffs[step],
            expected="a finite number",
            remedy="Make the payoff defined for this coalition.",
        )
