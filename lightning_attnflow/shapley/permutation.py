"""Shapley values from sampled permutations: the mean marginal of each player (Castro et al. 2009)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_bool, check_integer, check_number, check_numbers, check_seed
from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.game import (
    Game,
    checked_bounds,
    evaluate_empty_and_full,
    marginal_bounds,
    number_of_players,
)
from lightning_attnflow.shapley.permutation_sampling import draw_permutations, permutation_marginals
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.statistics import SampleStatistics
from lightning_attnflow.shapley.stopping import Stop
from lightning_attnflow.shapley.truncation import Truncation, check_truncation
from lightning_attnflow.shapley.wrappers import partition

FloatArray = NDArray[np.float64]
_BLOCK_MARGINALS = 2**20  # marginals of one block, 8 MB


def permutation_shapley(
    game: Game,
    *,
    stop: Stop,
    antithetic: bool = True,
    truncation: Truncation | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
) -> ShapleyResult:
    """Estimate Shapley values from random permutations.

    Args:
        game: the game; its optional methods are described in `Utility`. v(empty) and v(N) are evaluated once.
        stop: a stopping criterion, such as ``MaxEvaluations(10_000)``.
        antithetic: evaluate each permutation and its reverse, as one sample.
        truncation: when to truncate a permutation, or None.
        groups: a partition of the players. The players of a group are then adjacent in every permutation, and the
            values are Owen values: within a group they add up to its Shapley value in ``GroupedGame(game, groups)``.
        seed: of the permutations; sample number j depends on the seed and j only.

    Returns:
        The values with standard errors and intervals.

    Raises:
        InputError: an argument is invalid, or the stopping criterion does not allow a single sample.
        GameError: the game raises or returns an invalid payoff.

    Source: Castro, Gomez & Tejada (2009); antithetic: Mitchell et al. (2022), Sampling permutations for Shapley value
    estimation; truncation: Ghorbani & Zou (2019); groups: Owen (1977).

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, MaxPermutations
        >>> shoes = FunctionGame(lambda c: np.minimum(c[:, :2].sum(1), c[:, 2:].sum(1)), n_players=4)
        >>> permutation_shapley(shoes, stop=MaxPermutations(200)).values.round(4).tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    n = number_of_players(game)
    seed = check_seed(seed)
    check_truncation(truncation)
    if not isinstance(stop, Stop):
        raise InputError("stop", got=repr(stop), expected="a stopping criterion such as MaxPermutations(1000)")
    antithetic = check_bool("antithetic", antithetic)
    parts = None if groups is None else partition(groups, n)
    if n <= 1:  # there is only one permutation
        method = _method(antithetic, grouped=parts is not None)
        return replace(exact_shapley(game), method=method, seed=seed, truncation=truncation, groups=parts)
    v_empty, v_full = evaluate_empty_and_full(game)
    estimate = PermutationEstimate(
        n,
        v_empty=v_empty,
        v_full=v_full,
        antithetic=antithetic,
        seed=seed,
        n_evaluations=2,
        bounds=marginal_bounds(game),
        truncation=truncation,
        groups=parts,
    )
    error = stop.error_if_unreachable(estimate)
    if error is not None:
        raise error
    largest_block = max(1, _BLOCK_MARGINALS // max(1, n * estimate.permutations_per_sample))
    while not stop.is_met(estimate):
        n_samples = int(max(1, min(stop.samples_until_next_check(estimate), largest_block)))
        indices = range(estimate.n_samples, estimate.n_samples + n_samples)
        permutations = draw_permutations(seed, indices, n, antithetic=antithetic, groups=parts)
        found = permutation_marginals(
            game, permutations.reshape(-1, n), v_empty=v_empty, v_full=v_full, truncation=truncation
        )
        marginals = found.marginals.reshape(permutations.shape)
        estimate.update(permutations, marginals, n_evaluations=found.n_evaluations, n_truncated=found.n_truncated)
    return estimate.result()


class PermutationEstimate:
    """Accumulates the samples of a permutation estimate, wherever they were computed.

    A sample is one random permutation or, antithetic, a permutation followed by its reverse. Whatever computes samples
    (this process, workers, a ledger) passes their permutations and marginals to :meth:`update`. The result depends on
    the set of samples only, up to rounding; each sample must be added once::

        estimate = PermutationEstimate(n, v_empty=v_empty, v_full=v_full, seed=seed, n_evaluations=2)
        while not stop.is_met(estimate):
            permutations = draw_permutations(seed, [estimate.n_samples], n)   # (1, 2, n)
            found = permutation_marginals(game, permutations[0], v_empty=v_empty, v_full=v_full)
            estimate.update(permutations, found.marginals[None], n_evaluations=found.n_evaluations)
        result = estimate.result()

    Args:
        n_players: number of players, n.
        v_empty: payoff of the empty coalition.
        v_full: payoff of all players.
        antithetic: whether a sample is a permutation and its reverse.
        seed: of the permutations; needed to merge results.
        n_evaluations: evaluations before the first sample, usually 2 for v(empty) and v(N).
        bounds: proven bounds (low (n,), high (n,)) of every marginal, or None.
        truncation: of the permutations, or None; part of the result.
        groups: the partition whose parts are adjacent in every permutation, or None; part of the result.

    Example:
        >>> estimate = PermutationEstimate(2, v_empty=0.0, v_full=3.0)
        >>> estimate.update(np.array([[[0, 1], [1, 0]]]), np.array([[[1.0, 2.0], [0.0, 3.0]]]), n_evaluations=2)
        >>> estimate.values.tolist(), estimate.n_permutations
        ([0.5, 2.5], 2)
    """

    def __init__(
        self,
        n_players: int,
        *,
        v_empty: float,
        v_full: float,
        antithetic: bool = True,
        seed: int | None = None,
        n_evaluations: int = 0,
        bounds: tuple[FloatArray, FloatArray] | None = None,
        truncation: Truncation | None = None,
        groups: tuple[tuple[int, ...], ...] | None = None,
    ) -> None:
        check_truncation(truncation)
        self.n_players = check_integer("n_players", n_players, minimum=0)
        self.v_empty = check_number("v_empty", v_empty)
        self.v_full = check_number("v_full", v_full)
        self.antithetic = check_bool("antithetic", antithetic)
        self.seed = None if seed is None else check_seed(seed)
        self.n_evaluations = check_integer("n_evaluations", n_evaluations, minimum=0)
        self.n_truncated = 0
        self._bounds = None if bounds is None else checked_bounds(bounds, n_players)
        self._truncation = truncation
        self._groups = None if groups is None else partition(groups, n_players)
        self._statistics = SampleStatistics.empty(n_players)
        self._started = time.monotonic()

    def update(
        self, permutations: NDArray[np.intp], marginals: FloatArray, *, n_evaluations: int, n_truncated: int = 0
    ) -> None:
        """Add samples.

        Args:
            permutations: intp (samples, k, n), k = 2 if antithetic else 1.
            marginals: float (samples, k, n), by player: ``marginals[u, r, i]`` is what player i adds in that
                permutation.
            n_evaluations: evaluations for these samples.
            n_truncated: number of truncated permutations.

        Raises:
            InputError: a shape is wrong.
            GameError: a marginal is not finite.
        """
        marginals = check_numbers("marginals", marginals, "numbers (samples, k, n)")
        expected = (self.permutations_per_sample, self.n_players)
        if np.ndim(marginals) != 3 or marginals.shape[1:] != expected or np.shape(permutations) != marginals.shape:
            raise InputError(
                "permutations and marginals",
                got=f"shapes {np.shape(permutations)} and {np.shape(marginals)}",
                expected=f"(samples, {expected[0]}, {expected[1]}) both",
            )
        if not np.isfinite(marginals).all():
            raise GameError("marginals", got="NaN or infinity", expected="finite numbers")
        self._statistics = self._statistics + SampleStatistics.of(marginals.mean(axis=1))
        self.n_evaluations += check_integer("n_evaluations", n_evaluations, minimum=0)
        self.n_truncated += check_integer("n_truncated", n_truncated, minimum=0)

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return self._statistics.count

    @property
    def permutations_per_sample(self) -> int:
        """2 if antithetic, else 1."""
        return 2 if self.antithetic else 1

    @property
    def max_evaluations_per_sample(self) -> int:
        """Evaluations of a sample without truncation; at least 1, so that MaxEvaluations terminates."""
        return max(1, self.permutations_per_sample * (self.n_players - 1))

    @property
    def n_permutations(self) -> int:
        """Number of permutations."""
        return self.n_samples * self.permutations_per_sample

    @property
    def seconds(self) -> float:
        """Time since this object was created."""
        return time.monotonic() - self._started

    @property
    def values(self) -> FloatArray:
        """The current estimate, (n,)."""
        return self._statistics.mean

    @property
    def stderr(self) -> FloatArray:
        """Standard errors, (n,); infinite with fewer than two samples."""
        return self._statistics.stderr

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Confidence interval of each value, see :meth:`ShapleyResult.interval`."""
        return self.result().interval(confidence)

    def result(self) -> ShapleyResult:
        """The current estimate as a result."""
        return ShapleyResult(
            values=self.values,
            stderr=self.stderr,
            counts=np.full(self.n_players, self.n_permutations, dtype=np.int64),
            v_empty=self.v_empty,
            v_full=self.v_full,
            method=_method(self.antithetic, grouped=self._groups is not None),
            seed=self.seed,
            n_evaluations=self.n_evaluations,
            n_permutations=self.n_permutations,
            n_truncated=self.n_truncated,
            statistics=self._statistics,
            bounds=self._bounds,
            truncation=self._truncation,
            groups=self._groups,
        )


def _method(antithetic: bool, *, grouped: bool) -> str:
    options = ", ".join(["antithetic"] * antithetic + ["grouped"] * grouped)
    return f"permutation_shapley({options})" if options else "permutation_shapley"
