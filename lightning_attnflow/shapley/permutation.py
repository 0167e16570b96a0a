"""Shapley values from sampled orders: each player's mean marginal over random orders (Castro et al. 2009)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.shapley.exact import exact_shapley
from lightning_attnflow.shapley.game import Game, evaluate_empty_and_full, marginal_bounds, number_of_players
from lightning_attnflow.shapley.permutation_sampling import draw_permutations, permutation_marginals
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.statistics import SampleStatistics
from lightning_attnflow.shapley.stopping import Stop
from lightning_attnflow.shapley.truncation import Truncation, check_truncation
from lightning_attnflow.shapley.wrappers import partition

FloatArray = NDArray[np.float64]
_BLOCK_MARGINALS = 2**20  # marginals of one block: 8 MB, and the coalitions are cut into blocks of their own


def permutation_shapley(
    game: Game,
    *,
    stop: Stop,
    antithetic: bool = True,
    truncation: Truncation | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    seed: int = 0,
) -> ShapleyResult:
    """Estimate Shapley values from random orders.

    Args:
        game: the game; a deterministic one, for the ends are evaluated once.
        stop: when to stop, see ``shapley.stopping``.
        antithetic: walk each order backwards too and treat both as one observation.
        truncation: when to cut an order short; None walks every order to its end.
        groups: a partition of the players. Permutations then keep the players of a group together, and the values are
            Owen values: within a group they add up to the group's Shapley value in ``GroupedGame(game, groups)``.
        seed: of the orders; order (pair) number j depends on the seed and j alone.

    Returns:
        The values with standard errors and intervals.

    Raises:
        InputError: if an argument is of another type, or the stopping criterion does not allow a single order (pair).
        GameError: if the game raises or returns what is not a payoff.

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
        raise InputError("stop", got=repr(stop), expected="a stopping criterion", remedy="Pass MaxPermutations(1000).")
    if not isinstance(antithetic, (bool, np.bool_)):
        raise InputError("antithetic", got=repr(antithetic), expected="True or False", remedy="Pass antithetic=True.")
    parts = None if groups is None else partition(groups, n)
    if n <= 1:  # there is one order, and nothing to draw
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
    problem = stop.minimum_problem(estimate)
    if problem is not None:
        raise problem
    largest_block = max(1, _BLOCK_MARGINALS // max(1, n * estimate.permutations_per_sample))
    while not stop.is_met(estimate):
        n_samples = int(max(1, min(stop.room(estimate), largest_block)))
        units = draw_permutations(
            seed,
            range(estimate.n_samples, estimate.n_samples + n_samples),
            n,
            antithetic=antithetic,
            groups=parts,
        )
        walk = permutation_marginals(game, units.reshape(-1, n), v_empty=v_empty, v_full=v_full, truncation=truncation)
        estimate.update(
            units,
            walk.marginals.reshape(units.shape),
            n_evaluations=walk.n_evaluations,
            n_truncated=walk.n_truncated,
        )
    return estimate.result()


class PermutationEstimate:
    """Accumulates finished units of a permutation estimate, wherever they were computed.

    A unit is one random order or, antithetic, an order followed by its reverse. Whoever computes units (this process,
    workers, a ledger that is read again) calls :meth:`update` with their orders and marginals, asks any stopping
    criterion ``stop.is_met(estimate)``, and takes :meth:`result` at any time. The result depends on the set of
    units alone, up to rounding, so they may come in any order and any number at a time; feed each only once::

        estimate = PermutationEstimate(n, v_empty=v_empty, v_full=v_full, seed=seed, n_evaluations=2,
                                       truncation=truncation)
        while not stop.is_met(estimate):
            units = draw_permutations(seed, range(estimate.n_samples, estimate.n_samples + 1), n)   # (1, 2, n)
            walk = permutation_marginals(game, units[0], v_empty=v_empty, v_full=v_full, truncation=truncation)
            estimate.update(units, walk.marginals[None], n_evaluations=walk.n_evaluations,
                            n_truncated=walk.n_truncated)
        result = estimate.result()

    ``stop.room(estimate)`` says how many more units may be drawn before ``stop`` has to be asked again.

    Args:
        n_players: number of players, n.
        v_empty: payoff of the empty coalition.
        v_full: payoff of all players.
        antithetic: whether a unit is an order with its reverse.
        seed: of the orders, kept in the result so that two runs can be merged.
        n_evaluations: evaluations spent before the first unit (usually 2, for both ends).
        bounds: (low (n,), high (n,)) that every marginal is proven to lie in, or None.
        truncation: what the orders are cut short by, kept in the result; None if by nothing.
        groups: the partition whose parts the orders keep together, kept in the result; None if there is none.

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
        self.n_players = n_players
        self.v_empty = v_empty
        self.v_full = v_full
        self.antithetic = antithetic
        self.seed = None if seed is None else check_seed(seed)
        self.n_evaluations = n_evaluations
        self.n_truncated = 0
        self._bounds = bounds
        self._truncation = truncation
        self._groups = groups
        self._statistics = SampleStatistics.empty(n_players)
        self._started = time.monotonic()

    def update(
        self, orders: NDArray[np.intp], marginals: FloatArray, *, n_evaluations: int, n_truncated: int = 0
    ) -> None:
        """Take in finished units.

        Args:
            orders: intp (units, k, n), k = 2 if antithetic else 1; each row a permutation of the players.
            marginals: float (units, k, n), by player: ``marginals[u, r, i]`` is what player i added in that order.
            n_evaluations: evaluations these units cost.
            n_truncated: how many of their orders were cut short.

        Raises:
            InputError: if a shape is wrong.
            GameError: if a marginal is not finite.
        """
        expected = (self.permutations_per_sample, self.n_players)
        if np.ndim(marginals) != 3 or marginals.shape[1:] != expected or np.shape(orders) != marginals.shape:
            raise InputError(
                "orders and marginals",
                got=f"shapes {np.shape(orders)} and {np.shape(marginals)}",
                expected=f"(units, {expected[0]}, {expected[1]}) both",
                remedy="Pass whole units.",
            )
        if not np.isfinite(marginals).all():
            raise GameError(
                "marginals", got="NaN or infinity", expected="finite numbers", remedy="Check what the game returns."
            )
        self._statistics = self._statistics + SampleStatistics.of(marginals.mean(axis=1))
        self.n_evaluations += n_evaluations
        self.n_truncated += n_truncated

    @property
    def n_samples(self) -> int:
        """Units taken in so far."""
        return self._statistics.count

    @property
    def permutations_per_sample(self) -> int:
        """2 if antithetic, else 1."""
        return 2 if self.antithetic else 1

    @property
    def max_evaluations_per_sample(self) -> int:
        """What a unit costs if nothing is truncated; 1 where it is free, so that a bound on evaluations still binds."""
        return max(1, self.permutations_per_sample * (self.n_players - 1))

    @property
    def n_permutations(self) -> int:
        """Permutations taken in so far."""
        return self.n_samples * self.permutations_per_sample

    @property
    def seconds(self) -> float:
        """Time since this object was made."""
        return time.monotonic() - self._started

    @property
    def values(self) -> FloatArray:
        """The estimate so far, (n,)."""
        return self._statistics.mean

    @property
    def stderr(self) -> FloatArray:
        """Its standard errors, (n,); infinite before the second unit."""
        return self._statistics.stderr

    def interval(self, confidence: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Confidence interval of each value so far, as :meth:`ShapleyResult.interval`."""
        return self.result().interval(confidence)

    def result(self) -> ShapleyResult:
        """The estimate so far as a result."""
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
