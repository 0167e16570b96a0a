"""The walk along the orders of one unit, with truncation and, for audited units, what the truncation lost."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley import Game, Truncation, draw_permutations, permutation_marginals

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
    permutations = draw_permutations(plan.seed, [index], n, antithetic=plan.antithetic)[0]  # (k, n)
    k = len(permutations)
    marginals, lost, seconds, noise = np.empty((k, n)), np.empty((k, n)), np.empty(k), np.empty(k)
    evaluations, cuts = np.empty(k, np.int64), np.empty(k, np.int64)
    audited = plan.audits(index)
    pop_training_variance = getattr(game, "pop_training_variance", lambda: (0.0, 0))
    pop_training_variance()
    for row in range(k):
        began = time.perf_counter()
        found = permutation_marginals(
            game,
            permutations[row : row + 1],
            v_empty=plan.v_empty,
            v_full=plan.v_full,
            truncation=plan.truncation,
            audit=audited,
        )
        seconds[row] = time.perf_counter() - began
        marginals[row], evaluations[row], cuts[row] = found.marginals[0], found.evaluations[0], found.cuts[0]
        if found.lost is not None:
            lost[row] = found.lost[0]
        variance, count = pop_training_variance()
        noise[row] = variance / count if count else np.nan
    return Unit(index, marginals, lost if audited else None, evaluations, cuts, seconds, noise)
