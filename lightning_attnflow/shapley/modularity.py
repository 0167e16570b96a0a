"""Check whether a game is a sum over its players."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lightning_attnflow._checks import check_integer, check_nonnegative, check_seed
from lightning_attnflow.shapley.axioms import MAX_EXHAUSTIVE_PLAYERS, random_coalitions
from lightning_attnflow.shapley.exact import coalitions_of
from lightning_attnflow.shapley.game import Game, evaluate, number_of_players


@dataclass(frozen=True)
class Modularity:
    """Result of :func:`is_modular`, usable as a bool.

    Args:
        modular: whether the game is modular on the checked coalitions.
        violation: largest ``|v(S) - v(empty) - sum of (v(i) - v(empty)) over S|``.
        witness: the coalition with the largest violation.
        exhaustive: whether all coalitions were checked.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> game = FunctionGame(lambda coalitions: 2.0 * coalitions[:, 0] + coalitions[:, 1:].all(axis=1), n_players=3)
        >>> found = is_modular(game)
        >>> bool(found), found.witness, round(found.violation, 4)
        (False, (1, 2), 1.0)
    """

    modular: bool
    violation: float
    witness: tuple[int, ...]
    exhaustive: bool

    def __bool__(self) -> bool:
        return self.modular


def is_modular(game: Game, *, tolerance: float = 1e-9, n_samples: int = 1000, seed: int = 0) -> Modularity:
    """Check whether a game is modular: the value of each coalition is the sum of the values of its players.

    Up to 12 players, all coalitions are checked; above, the coalitions of 0, 1, n - 1 and n players, all pairs if there
    are at most ``n_samples``, and ``n_samples`` random coalitions.

    Args:
        game: the game.
        tolerance: relative to the largest evaluated ``|v(S) - v(empty)|``, >= 0.
        n_samples: random coalitions above 12 players, >= 1.
        seed: of the sample.

    Returns:
        The answer, with the coalition of the largest violation.

    Raises:
        InputError: an argument is out of range.
        GameError: the game raises or returns an invalid payoff.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> is_modular(FunctionGame(lambda coalitions: coalitions.sum(axis=1) ** 2.0, n_players=3))
        Modularity(modular=False, violation=6.0, witness=(0, 1, 2), exhaustive=True)
    """
    n = number_of_players(game)
    check_nonnegative("tolerance", tolerance)
    check_integer("n_samples", n_samples)
    exhaustive = n <= MAX_EXHAUSTIVE_PLAYERS
    generator = np.random.default_rng(np.random.SeedSequence(check_seed(seed)))
    singles = np.eye(n, dtype=bool)
    if exhaustive:
        coalitions = coalitions_of(np.arange(2**n), n)
    else:
        first, second = np.triu_indices(n, 1)
        pairs = singles[first] | singles[second] if len(first) <= n_samples else singles[:0]
        empty_and_full = np.stack([np.zeros(n, dtype=bool), np.ones(n, dtype=bool)])
        coalitions = np.concatenate([empty_and_full, ~singles, pairs, random_coalitions(n, n_samples, generator)])
    gains = evaluate(game, coalitions)
    v_empty = gains[0]
    gains = gains - v_empty
    alone = evaluate(game, singles) - v_empty
    gaps = np.abs(gains - coalitions @ alone)
    worst = int(gaps.argmax())
    slack = tolerance * max(np.abs(gains).max(), np.abs(alone).max(initial=0.0))
    witness = tuple(np.flatnonzero(coalitions[worst]).tolist())
    return Modularity(bool(gaps[worst] <= slack), float(gaps[worst]), witness, exhaustive)
