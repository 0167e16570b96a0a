"""Evaluation of one sample of a Data Shapley run: a random permutation and its reverse."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley import Game, Truncation, draw_permutations, permutation_marginals

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_ALWAYS_AUDITED = 2  # samples; with fewer, the standard error of the bias is unknown


@dataclass(frozen=True)
class SampleSettings:
    """Everything a sample depends on besides the game and its index.

    Args:
        seed: seed of the run.
        truncation: truncation rule, or None.
        audit: fraction of audited samples, which are evaluated to the end.
        v_empty: empty value.
        v_full: full value.
        threads: torch threads of one evaluation.
    """

    seed: int
    truncation: Truncation | None
    audit: float
    v_empty: float
    v_full: float
    threads: int

    def is_audited(self, index: int) -> bool:
        """Whether a sample is audited; this depends on the seed and the index only."""
        if self.truncation is None:
            return False
        if index < _ALWAYS_AUDITED:
            return True
        generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(self.seed, spawn_key=(index, 1))))
        return bool(generator.random() < self.audit)


@dataclass(frozen=True)
class PermutationSample:
    """Marginals along the k permutations of a sample.

    Args:
        index: index of the sample.
        marginals: float (k, n), indexed by player.
        lost: float (k, n), marginals without truncation minus ``marginals``; None if the sample is not audited.
        evaluations: int (k,), evaluated coalitions.
        cuts: int (k,), players before the truncation, n without truncation.
        seconds: float (k,), duration.
        training_variance: float (k,), mean variance of a payoff due to the training seed; NaN if unknown.
    """

    index: int
    marginals: FloatArray
    lost: FloatArray | None
    evaluations: IntArray
    cuts: IntArray
    seconds: FloatArray
    training_variance: FloatArray


def evaluate_sample(game: Game, settings: SampleSettings, index: int) -> PermutationSample:
    """Evaluate a sample; the result depends on the arguments only."""
    n = game.n_players
    permutations = draw_permutations(settings.seed, [index], n, antithetic=True)[0]  # (k, n)
    is_audited = settings.is_audited(index)
    pop_training_variance = getattr(game, "pop_training_variance", lambda: (0.0, 0))
    pop_training_variance()
    found, seconds, variances = [], [], []
    for permutation in permutations:
        start = time.perf_counter()
        found.append(
            permutation_marginals(
                game,
                permutation[None],
                v_empty=settings.v_empty,
                v_full=settings.v_full,
                truncation=settings.truncation,
                audit=is_audited,
            )
        )
        seconds.append(time.perf_counter() - start)
        variance, count = pop_training_variance()
        variances.append(variance / count if count else np.nan)
    return PermutationSample(
        index,
        marginals=np.concatenate([part.marginals for part in found]),
        lost=np.concatenate([part.lost for part in found if part.lost is not None]) if is_audited else None,
        evaluations=np.concatenate([part.evaluations for part in found]),
        cuts=np.concatenate([part.cuts for part in found]),
        seconds=np.array(seconds),
        training_variance=np.array(variances),
    )
