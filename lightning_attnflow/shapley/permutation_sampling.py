"""Random orders of the players that anyone can draw again, one by one, and the walk along them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.errors import GameError
from lightning_attnflow.shapley.game import BLOCK_BYTES, Game, Permutations, evaluate, real_numbers
from lightning_attnflow.shapley.truncation import Truncation, check_truncation

FloatArray = NDArray[np.float64]


def random_permutation(seed: int, index: int, n_players: int) -> NDArray[np.intp]:
    """Order number ``index`` of a run: it depends on the seed and the index alone, not on the orders before it.

    Args:
        seed: of the run, >= 0.
        index: number of the order (antithetic sampling: of the pair), >= 0.
        n_players: number of players.

    Returns:
        intp (n_players,), a permutation of the players.

    Example:
        >>> random_permutation(seed=0, index=3, n_players=4).tolist() == random_permutation(0, 3, 4).tolist()
        True
    """
    generator = _generator(seed, index)
    return generator.permutation(n_players).astype(np.intp, copy=False)


def grouped_permutation(seed: int, index: int, groups: Sequence[Sequence[int]]) -> NDArray[np.intp]:
    """Order number ``index`` of a run in which the players of a group follow each other.

    The groups are in random order, and so are the players within each.

    Example:
        >>> order = grouped_permutation(0, 1, [[0, 1, 2], [3, 4]]).tolist()
        >>> set(order[:3]) == {0, 1, 2} or set(order[2:]) == {0, 1, 2}
        True
    """
    generator = _generator(seed, index)
    parts = [generator.permutation(groups[group]) for group in generator.permutation(len(groups))]
    return np.concatenate(parts).astype(np.intp, copy=False)


def draw_permutations(
    seed: int,
    indices: Iterable[int],
    n_players: int,
    *,
    antithetic: bool = True,
    groups: Sequence[Sequence[int]] | None = None,
) -> NDArray[np.intp]:
    """The orders of some units: (units, 2, n) with each order's reverse if antithetic, else (units, 1, n).

    Args:
        seed: of the run.
        indices: numbers of the units.
        n_players: number of players, n.
        antithetic: add each order's reverse.
        groups: a partition of the players whose parts stay together, or None.

    Example:
        >>> draw_permutations(0, range(5), 3).shape
        (5, 2, 3)
    """
    orders = [
        random_permutation(seed, index, n_players) if groups is None else grouped_permutation(seed, index, groups)
        for index in indices
    ]
    first = np.array(orders, dtype=np.intp).reshape(len(orders), 1, n_players)
    return np.concatenate([first, first[:, :, ::-1]], axis=1) if antithetic else first


@dataclass(frozen=True)
class PermutationMarginals:
    """What was seen along a block of orders.

    Args:
        marginals: float (m, n), by player: ``marginals[r, i]`` is what player i added in order r.
        n_evaluations: coalitions the game was asked for.
        truncated: bool (m,), whether the order was cut short, its last players getting 0.
    """

    marginals: FloatArray
    n_evaluations: int
    truncated: NDArray[np.bool_]


def permutation_marginals(
    game: Game, orders: Permutations, *, v_empty: float, v_full: float, truncation: Truncation | None = None
) -> PermutationMarginals:
    """Marginal of each player in each order; no coalition is evaluated twice within an order.

    Args:
        game: the game; its ``prefix_values`` is used if it has one and nothing is truncated.
        orders: intp (m, n), each row a permutation of the players.
        v_empty: payoff of the empty coalition, known beforehand.
        v_full: payoff of all players, known beforehand.
        truncation: when to cut an order short; the orders are then walked side by side, one game call a step.

    Returns:
        The walk.

    Raises:
        InputError: if the truncation is none.
        GameError: if the game raises or returns what is not a payoff.
    """
    check_truncation(truncation)
    m, n = orders.shape
    values = np.full((m, n + 1), v_full)  # of the prefixes
    values[:, 0] = v_empty
    truncated = np.zeros(m, dtype=bool)
    n_evaluations = m * max(0, n - 1)
    if n > 1 and truncation is not None:
        n_evaluations = _walk_truncated(game, orders, values, truncated, truncation)
    elif n > 1:
        prefix_values = getattr(game, "prefix_values", None)
        values[:, 1:n] = (
            _prefixes_by_coalition(game, orders)
            if prefix_values is None
            else _prefixes_by_game(prefix_values, orders, v_empty, v_full)
        )
    marginals = np.empty((m, n))
    np.put_along_axis(marginals, orders, np.diff(values, axis=1), axis=1)
    return PermutationMarginals(marginals, n_evaluations, truncated)


def _prefixes_by_coalition(game: Game, orders: Permutations) -> FloatArray:
    m, n = orders.shape
    ranks = np.argsort(orders, axis=1)  # (m, n) position of each player
    at_once = max(1, BLOCK_BYTES // (n * n))  # orders whose coalitions are held together
    values = np.empty((m, n - 1))
    for start in range(0, m, at_once):
        block = ranks[start : start + at_once]
        coalitions = block[:, None, :] < np.arange(1, n)[:, None]  # (block, n - 1, n)
        values[start : start + at_once] = evaluate(game, coalitions.reshape(-1, n)).reshape(len(block), n - 1)
    return values


def _prefixes_by_game(
    prefix_values: Callable[[Permutations], object], orders: Permutations, v_empty: float, v_full: float
) -> FloatArray:
    """The inner prefixes (m, n - 1) from the game's own walk, checked in shape, in being finite and at both ends."""
    m, n = orders.shape
    try:
        returned = prefix_values(orders)
    except GameError:
        raise
    except Exception as error:
        raise GameError(
            "prefix_values",
            got=f"{type(error).__name__}: {error} for {m} orders, the first of which is {orders[0].tolist()}",
            expected="payoffs",
            remedy="Make the payoff defined for every prefix.",
        ) from error
    values = real_numbers("prefix_values", returned)
    if values.shape != (m, n + 1):
        raise GameError(
            "prefix_values", got=f"shape {values.shape}", expected=f"{(m, n + 1)}", remedy="Return one row an order."
        )
    if not np.isfinite(values).all():
        row, step = np.argwhere(~np.isfinite(values))[0]
        raise GameError.of_coalition(
            "payoff",
            sorted(orders[row, :step].tolist()),
            got=values[row, step],
            expected="a finite number",
            remedy="Make the payoff defined for this coalition.",
        )
    slack = 1e-6 * max(1.0, abs(v_empty), abs(v_full))
    gaps = np.abs(values[:, [0, n]] - (v_empty, v_full)).max(axis=1)  # (m,)
    if gaps.max(initial=0.0) > slack:
        row = int(gaps.argmax())
        raise GameError(
            "prefix_values",
            got=f"ends {tuple(values[row, [0, n]].tolist())} of order {orders[row].tolist()}",
            expected=f"v(empty) and v(N), {v_empty, v_full}",
            remedy="Make prefix_values agree with the game's call.",
        )
    return values[:, 1:n]


def _walk_truncated(
    game: Game, orders: Permutations, values: FloatArray, truncated: NDArray[np.bool_], truncation: Truncation
) -> int:
    """Fill in the prefix values (m, n + 1) step by step and mark the orders cut short; return the evaluations."""
    m, n = orders.shape
    walk = truncation.begin(
        n_permutations=m, v_empty=float(values[0, 0]) if m else 0.0, v_full=float(values[0, n]) if m else 0.0
    )
    ranks = np.argsort(orders, axis=1)
    active = np.arange(m)
    n_evaluations = 0
    for size in range(1, n):
        payoffs = evaluate(game, ranks[active] < size)
        n_evaluations += len(active)
        values[active, size] = payoffs
        stopped = walk.step(payoffs, active)
        if size < n - 1:  # after the last inner prefix only v(N) is left, and that is known
            cut = active[stopped]
            values[cut, size + 1 :] = values[cut, size, None]
            truncated[cut] = True
            active = active[~stopped]
        if len(active) == 0:
            break
    return n_evaluations


def _generator(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(check_seed(seed), spawn_key=(index,))))
