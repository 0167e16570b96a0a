"""Checks of the Shapley axioms, each with its largest violation and the players that show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._checks import check_integer, check_nonnegative, check_seed
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley.exact import coalition_table
from lightning_attnflow.shapley.game import Coalitions, Game, evaluate, evaluate_empty_and_full, number_of_players
from lightning_attnflow.shapley.result import ShapleyResult
from lightning_attnflow.shapley.wrappers import FunctionGame

FloatArray = NDArray[np.float64]
MAX_EXHAUSTIVE_PLAYERS = 12  # 4,096 coalitions


@dataclass(frozen=True)
class AxiomCheck:
    """One axiom on one game.

    Args:
        axiom: its name.
        violation: largest violation in units of the payoff; 0 if the axiom applies to no player.
        witness: players with the largest violation: all (efficiency), one (null player, additivity), two (symmetry);
            empty if the axiom applies to no player.
        holds: whether the violation is within the tolerance.
        exhaustive: whether all coalitions were checked; if not, a sample was.
        explanation: the players and their values in words.

    Example:
        >>> pair = FunctionGame(lambda coalitions: coalitions[:, :2].all(axis=1) * 1.0, n_players=3)
        >>> check = audit_axioms(pair, [0.5, 0.25, 0.25]).symmetry
        >>> check.holds, check.violation, check.witness
        (False, 0.25, (0, 1))
        >>> check.explanation
        'players 0 and 1 are interchangeable and have values 0.5 and 0.25'
    """

    axiom: str
    violation: float
    witness: tuple[int, ...]
    holds: bool
    exhaustive: bool
    explanation: str


@dataclass(frozen=True)
class AxiomReport:
    """The checks of :func:`audit_axioms`; prints as a table.

    Args:
        efficiency, null_player, symmetry: one check for each axiom.

    Example:
        >>> from lightning_attnflow.shapley import leave_one_out
        >>> game = FunctionGame(lambda coalitions: coalitions.sum(axis=1) ** 2.0, n_players=3)
        >>> report = audit_axioms(game, leave_one_out(game))
        >>> report.holds, [check.axiom for check in report.checks if not check.holds]
        (False, ['efficiency'])
        >>> report.efficiency.explanation
        'values add up to 15, v(N) - v(empty) = 9'
    """

    efficiency: AxiomCheck
    null_player: AxiomCheck
    symmetry: AxiomCheck

    @property
    def checks(self) -> tuple[AxiomCheck, ...]:
        """All checks."""
        return self.efficiency, self.null_player, self.symmetry

    @property
    def holds(self) -> bool:
        """Whether every axiom holds on the checked coalitions."""
        return all(check.holds for check in self.checks)

    def __str__(self) -> str:
        return "\n".join(
            f"{check.axiom:<12} {_verdict(check):<6} {check.violation:<10.4g} "
            f"{'all coalitions' if check.exhaustive else 'sampled':<15} {check.explanation}"
            for check in self.checks
        )


def audit_axioms(
    game: Game, values: ArrayLike, *, tolerance: float = 1e-9, n_samples: int = 200, seed: int = 0
) -> AxiomReport:
    """Check efficiency, the null player axiom and symmetry of values on a game.

    Up to 12 players, all coalitions are checked. Above, the coalitions of 0, 1, n - 1 and n players and a sample of
    others are checked; violations are then printed as ``FAILS?``, because a player that is null in the sample, or two
    players that are symmetric in it, may not be so in other coalitions.

    Args:
        game: the game.
        values: float (n,), by any method.
        tolerance: of payoffs and values, relative to the largest evaluated ``|v(S) - v(empty)|``, >= 0.
        n_samples: sampled coalitions above 12 players, >= 1; each needs up to n + 1 evaluations.
        seed: of the sample.

    Returns:
        The report.

    Raises:
        InputError: the values are not n finite numbers, or an argument is out of range.
        GameError: the game raises or returns an invalid payoff.

    Source: Shapley (1953); Ethayarajh & Jurafsky (2021), section 2.

    Example:
        >>> pair = FunctionGame(lambda coalitions: coalitions[:, :2].all(axis=1) * 1.0, n_players=3)
        >>> print(audit_axioms(pair, [0.5, 0.25, 0.25]))
        efficiency   holds  0          all coalitions  values add up to 1, v(N) - v(empty) = 1
        null player  FAILS  0.25       all coalitions  player 2 never changes the payoff and has value 0.25
        symmetry     FAILS  0.25       all coalitions  players 0 and 1 are interchangeable and have values 0.5 and 0.25
    """
    n = number_of_players(game)
    values = _finite(values, n)
    check_nonnegative("tolerance", tolerance)
    check_integer("n_samples", n_samples)
    exhaustive = n <= MAX_EXHAUSTIVE_PLAYERS
    joined, v_empty, v_full = _payoffs_of_joining(game, n_samples, check_seed(seed))
    slack = tolerance * _scale(joined, v_empty, v_full)
    return AxiomReport(
        _efficiency(values, v_full - v_empty, slack),
        _null_player(values, joined, slack, exhaustive),
        _symmetry(values, joined, slack, exhaustive),
    )


def audit_additivity(
    method: Callable[[Game], ShapleyResult | ArrayLike], game_a: Game, game_b: Game, *, tolerance: float = 1e-9
) -> AxiomCheck:
    """Check that the values of the sum of two games are the sums of their values.

    Args:
        method: maps a game to values (n,) or to a result.
        game_a, game_b: two games of the same players.
        tolerance: relative to the largest value.

    Returns:
        The check; its witness is the player with the largest violation.

    Raises:
        InputError: the games have different numbers of players, ``method`` is no function or does not return one
            finite number for each player, or the tolerance is negative.

    Example:
        >>> first, second = (FunctionGame(lambda c, k=k: c.sum(axis=1) ** float(k), n_players=3) for k in (1, 2))
        >>> from lightning_attnflow.shapley import exact_shapley
        >>> audit_additivity(exact_shapley, first, second).holds
        True
    """
    if not callable(method):
        raise InputError("method", got=repr(method), expected="a function from a game to its values or a result")
    check_nonnegative("tolerance", tolerance)
    if number_of_players(game_a) != number_of_players(game_b):
        raise InputError("games", got=f"{game_a.n_players} and {game_b.n_players} players", expected="the same number")
    both = FunctionGame(lambda coalitions: game_a(coalitions) + game_b(coalitions), game_a.n_players)
    values = (_finite(_values(method(game)), game_a.n_players) for game in (game_a, game_b, both))
    return additivity_of(*values, tolerance=tolerance)


def additivity_of(of_a: FloatArray, of_b: FloatArray, of_both: FloatArray, *, tolerance: float) -> AxiomCheck:
    """Check additivity of the values (n,) of two games and of their sum."""
    if len(of_both) == 0:
        return AxiomCheck("additivity", 0.0, (), True, True, "there are no players")
    gaps = np.abs(of_both - of_a - of_b)
    worst = int(gaps.argmax())
    slack = tolerance * max(np.abs(of_both).max(), np.abs(of_a).max(), np.abs(of_b).max())
    explanation = f"player {worst} has {of_a[worst]:.6g} and {of_b[worst]:.6g} alone, {of_both[worst]:.6g} in the sum"
    return AxiomCheck("additivity", float(gaps[worst]), (worst,), bool(gaps[worst] <= slack), True, explanation)


def _payoffs_of_joining(game: Game, n_samples: int, seed: int) -> tuple[FloatArray, float, float]:
    """For coalitions S, ``v(S + i)`` of each player outside and ``v(S)`` in the last column; NaN for members.

    Above 12 players, the last row is ``v(empty) + v(N) - v(N - i)`` of each player, and ``v(empty)``; its differences
    are those of joining N - i and N - i - j.
    """
    n = game.n_players
    if n <= MAX_EXHAUSTIVE_PLAYERS:
        table = coalition_table(game)
        indices = np.arange(len(table))
        masks = 2 ** np.arange(n)
        joined = np.where(indices[:, None] & masks, np.nan, table[indices[:, None] | masks])
        return np.column_stack([joined, table]), float(table[0]), float(table[-1])
    generator = np.random.default_rng(np.random.SeedSequence(seed))
    coalitions = np.concatenate([np.zeros((1, n), dtype=bool), random_coalitions(n, n_samples, generator)])
    joined = np.full((len(coalitions) + 1, n + 1), np.nan)
    for row, coalition in enumerate(coalitions):
        outside = np.flatnonzero(~coalition)
        extended = np.repeat(coalition[None], len(outside) + 1, axis=0)
        extended[np.arange(len(outside)), outside] = True
        joined[row, [*outside.tolist(), n]] = evaluate(game, extended)
    v_empty, v_full = evaluate_empty_and_full(game)
    joined[-1] = [*(v_empty + v_full - evaluate(game, ~np.eye(n, dtype=bool))), v_empty]
    return joined, v_empty, v_full


def random_coalitions(n_players: int, n_samples: int, generator: np.random.Generator) -> Coalitions:
    """Coalitions with sizes uniform in 0..n - 1, as in the Shapley value."""
    sizes = generator.integers(0, n_players, n_samples)
    coalitions: Coalitions = np.argsort(generator.random((n_samples, n_players)), axis=1) < sizes[:, None]
    return coalitions


def _scale(joined: FloatArray, v_empty: float, v_full: float) -> float:
    return max(float(np.nanmax(np.abs(joined - v_empty))), abs(v_full - v_empty))


def _efficiency(values: FloatArray, total: float, slack: float) -> AxiomCheck:
    gap = abs(total - float(values.sum()))
    explanation = f"values add up to {values.sum():.6g}, v(N) - v(empty) = {total:.6g}"
    return AxiomCheck("efficiency", gap, tuple(range(len(values))), gap <= slack, True, explanation)


def _null_player(values: FloatArray, joined: FloatArray, slack: float, exhaustive: bool) -> AxiomCheck:
    largest = np.nan_to_num(np.abs(joined[:, :-1] - joined[:, -1:])).max(axis=0)  # (n,) marginals
    null = np.flatnonzero(largest <= slack)
    if len(null) == 0:
        return AxiomCheck("null player", 0.0, (), True, exhaustive, "there is no null player")
    worst = int(null[np.abs(values[null]).argmax()])
    changes = "never changes the payoff" if exhaustive else "changes the payoff of no sampled coalition"
    explanation = f"player {worst} {changes} and has value {values[worst]:.6g}"
    violation = float(abs(values[worst]))
    return AxiomCheck("null player", violation, (worst,), violation <= slack, exhaustive, explanation)


def _symmetry(values: FloatArray, joined: FloatArray, slack: float, exhaustive: bool) -> AxiomCheck:
    n = len(values)
    worst: tuple[float, tuple[int, ...]] = (-1.0, ())
    for first in range(n):
        differences = np.nan_to_num(np.abs(joined[:, first + 1 : n] - joined[:, first, None]))
        for second in first + 1 + np.flatnonzero(differences.max(axis=0, initial=0.0) <= slack):
            violation = float(abs(values[first] - values[second]))
            if violation > worst[0]:
                worst = (violation, (first, int(second)))
    if not worst[1]:
        return AxiomCheck("symmetry", 0.0, (), True, exhaustive, "no two players are interchangeable")
    one, other = worst[1]
    alike = "are interchangeable" if exhaustive else "are interchangeable in all sampled coalitions"
    explanation = f"players {one} and {other} {alike} and have values {values[one]:.6g} and {values[other]:.6g}"
    return AxiomCheck("symmetry", worst[0], worst[1], worst[0] <= slack, exhaustive, explanation)


def _verdict(check: AxiomCheck) -> str:
    if check.holds:
        return "holds"
    return "FAILS" if check.exhaustive else "FAILS?"


def _values(returned: ShapleyResult | ArrayLike) -> ArrayLike:
    return returned.values if isinstance(returned, ShapleyResult) else returned


def _finite(values: ArrayLike, n_players: int) -> FloatArray:
    try:
        array = np.asarray(values, dtype=np.float64)
        got = f"shape {array.shape}" if np.isfinite(array).all() else "NaN or infinity"
        if array.shape == (n_players,) and np.isfinite(array).all():
            return array
    except (TypeError, ValueError):
        got = repr(values)
    raise InputError("values", got=got, expected=f"{counted(n_players, 'finite number')}, one per player")
