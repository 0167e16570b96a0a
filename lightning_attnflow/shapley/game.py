"""Cooperative games: the protocols and the checked evaluation of coalitions.

A game is any object with ``n_players`` and a call that maps coalitions, bool (m, n), to payoffs, float64 (m,).
Shapley (1953) assumes v(empty) = 0; here v(empty) is arbitrary and every method subtracts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_integer
from lightning_attnflow._words import counted
from lightning_attnflow.errors import GameError, InputError

Coalitions = NDArray[np.bool_]  # (m, n), True = the player is present
Payoffs = NDArray[np.float64]  # (m,)
Permutations = NDArray[np.intp]  # (m, n), each row a permutation of the players
Bounds = tuple[NDArray[np.float64], NDArray[np.float64]]  # low (n,) and high (n,)

BLOCK_BYTES = 64 * 2**20  # size limit of the coalitions passed to a game in one call


@runtime_checkable
class Game(Protocol):
    """Any object with ``n_players`` and a call from coalitions to payoffs; see `Utility` for optional methods.

    Example:
        >>> class Majority:
        ...     n_players = 3
        ...
        ...     def __call__(self, coalitions):
        ...         return (coalitions.sum(axis=1) >= 2) * 1.0
        >>> from lightning_attnflow.shapley import exact_shapley
        >>> isinstance(Majority(), Game), exact_shapley(Majority()).values.round(4).tolist()
        (True, [0.3333, 0.3333, 0.3333])
    """

    @property
    def n_players(self) -> int: ...

    def __call__(self, coalitions: Coalitions, /) -> Payoffs: ...


class Utility(Game, Protocol):
    """A game with all optional methods.

    Every function that accepts a game uses those of the methods below that the game has. Implement any subset, in a
    class that does not inherit from this one.

    Example:
        >>> class Squares:
        ...     n_players = 3
        ...
        ...     def __call__(self, coalitions):
        ...         return coalitions.sum(axis=1) ** 2.0
        ...
        ...     def prefix_values(self, permutations):
        ...         return np.tile(np.arange(4) ** 2.0, (len(permutations), 1))
        >>> from lightning_attnflow.shapley import MaxPermutations, permutation_shapley
        >>> permutation_shapley(Squares(), stop=MaxPermutations(20)).values.tolist()
        [3.0, 3.0, 3.0]
    """

    def prefix_values(self, permutations: Permutations, /) -> NDArray[np.float64]:
        """Payoffs of all prefixes of each permutation, (m, n) to (m, n + 1); column 0 is v(empty), column n is v(N).

        Used by permutation sampling in place of the call, for games that compute nested coalitions faster together.
        """
        ...

    def prefix_chunks(self, permutation: NDArray[np.intp], sizes: Sequence[int], /) -> Iterator[NDArray[np.float64]]:
        """Payoffs of the prefixes of one permutation, (n,), with the given ascending sizes, in chunks of any length.

        Used by truncated sampling, which stops the iteration once the permutation is truncated.
        """
        ...

    def marginal_bounds(self) -> Bounds:
        """Proven bounds (low (n,), high (n,)) of every marginal of each player; they tighten confidence intervals."""
        ...

    def pop_training_variance(self) -> tuple[float, int]:
        """Sum of the variances of the payoffs due to the training seed, and their number, since the last call.

        Used by Data Shapley to report the part of the standard error that is due to the training seed.
        """
        ...

    def configuration(self) -> Mapping[str, Any]:
        """JSON values on which the payoffs depend, such as a hash of the data; required by the ledger of Data Shapley.

        A ledger refuses to continue with a utility whose configuration differs.
        """
        ...


def evaluate(game: Game, coalitions: Coalitions) -> Payoffs:
    """Evaluate coalitions in blocks and check the payoffs.

    Args:
        game: the game.
        coalitions: bool (m, n_players).

    Returns:
        float64 (m,).

    Raises:
        GameError: the game raises, or returns another shape or a payoff that is not a finite real number; the error
            contains the coalition.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> evaluate(FunctionGame(lambda coalitions: coalitions.sum(axis=1), n_players=2), np.eye(2, dtype=bool))
        array([1., 1.])
    """
    rows = max(1, BLOCK_BYTES // max(1, game.n_players))
    blocks = [_evaluate_block(game, coalitions[start : start + rows]) for start in range(0, len(coalitions), rows)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def evaluate_empty_and_full(game: Game) -> tuple[float, float]:
    """The payoffs v(empty) and v(N); one evaluation if there is no player, else two."""
    n = game.n_players
    payoffs = evaluate(game, np.array([[False] * n, [True] * n], dtype=bool)[: 1 if n == 0 else 2])
    return float(payoffs[0]), float(payoffs[-1])


def number_of_players(game: object) -> int:
    """The number of players; raises InputError if the object is not a game."""
    if not callable(game) or not hasattr(game, "n_players"):
        raise InputError(
            "game",
            got=type(game).__name__,
            expected="an object with n_players and a call from coalitions to payoffs",
            remedy="Wrap a function: FunctionGame(function, n_players)." if callable(game) else None,
        )
    return check_integer("n_players", game.n_players, minimum=0)


def marginal_bounds(game: Game) -> Bounds | None:
    """The checked ``marginal_bounds`` of a game, or None if it has none."""
    method = getattr(game, "marginal_bounds", None)
    return None if method is None else checked_bounds(method(), game.n_players)


def checked_bounds(bounds: Any, n_players: int) -> Bounds:
    """Bounds as float64; raises GameError unless low <= high are finite and of shape (n,)."""
    try:
        low, high = (np.asarray(bound, dtype=np.float64) for bound in bounds)
    except (TypeError, ValueError) as error:
        raise GameError("marginal_bounds", got=repr(bounds), expected="a pair of arrays, low and high") from error
    shape = (n_players,)
    if low.shape != shape or high.shape != shape or not (low <= high).all() or not np.isfinite(high - low).all():
        raise GameError(
            "marginal_bounds",
            got=f"shapes {low.shape} and {high.shape}, low {low.tolist()}, high {high.tolist()}",
            expected=f"finite low <= high of shape {shape} each",
        )
    return low, high


def real_numbers(name: str, returned: object) -> NDArray[np.float64]:
    """A return value as float64; complex numbers, which NumPy would cast to their real parts, are an error."""
    try:
        numbers = np.asarray(returned)
        if np.iscomplexobj(numbers):
            raise TypeError("complex numbers")
        return np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise GameError(name, got=f"{type(returned).__name__!r}, {error}", expected="real numbers") from error


def not_finite(coalition: Sequence[int], payoff: float) -> GameError:
    """The error for a payoff that is NaN or infinite."""
    return GameError.of_coalition("payoff", coalition, got=payoff, expected="a finite number")


def _evaluate_block(game: Game, coalitions: Coalitions) -> Payoffs:
    try:
        returned = game(coalitions)
    except GameError:
        raise
    except Exception as error:
        raise _raised(game, coalitions, error) from error
    payoffs = real_numbers("payoffs", returned)
    if payoffs.shape != (len(coalitions),):
        raise GameError.of_coalition(
            "payoffs",
            np.flatnonzero(coalitions[0]).tolist(),
            got=f"shape {payoffs.shape} for {counted(len(coalitions), 'coalition')}, of which this is the first",
            expected=f"shape ({len(coalitions)},)",
        )
    if not np.isfinite(payoffs).all():
        row = int(np.flatnonzero(~np.isfinite(payoffs))[0])
        raise not_finite(np.flatnonzero(coalitions[row]).tolist(), payoffs[row])
    return payoffs


def _raised(game: Game, coalitions: Coalitions, error: Exception) -> GameError:
    """The error for a game that raised; the coalition is found by bisection of the batch."""
    got = f"{type(error).__name__}: {error}"
    while len(coalitions) > 1:
        half = len(coalitions) // 2
        for part in (coalitions[:half], coalitions[half:]):
            try:
                game(part)
            except Exception:
                coalitions = part
                break
        else:  # only the whole batch fails
            return GameError("payoff raised on a batch", got=got, expected="a payoff")
    members = np.flatnonzero(coalitions[0]).tolist()
    return GameError.of_coalition("payoff raised", members, got=got, expected="a payoff")


def signs_of(coalitions: Coalitions) -> NDArray[np.float32]:
    """+1 for members and -1 for other players."""
    signs = coalitions.astype(np.float32)
    signs *= 2
    signs -= 1
    return signs
