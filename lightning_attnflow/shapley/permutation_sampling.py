"""Random permutations of the players, each reproducible from seed and index, and the marginals along them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_bool, check_integer, check_items, check_number, check_seed
from lightning_attnflow._words import counted
from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.shapley.game import (
    BLOCK_BYTES,
    Game,
    Permutations,
    evaluate,
    not_finite,
    number_of_players,
    real_numbers,
)
from lightning_attnflow.shapley.truncation import Truncation, check_truncation
from lightning_attnflow.shapley.wrappers import partition

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def random_permutation(seed: int, index: int, n_players: int) -> NDArray[np.intp]:
    """Permutation number ``index`` of a run; it depends on the seed and the index only.

    Args:
        seed: of the run, >= 0.
        index: of the permutation (antithetic sampling: of the pair), >= 0.
        n_players: number of players.

    Returns:
        intp (n_players,), a permutation of the players.

    Raises:
        InputError: an argument is not an integer >= 0.

    Example:
        >>> random_permutation(seed=0, index=3, n_players=4).tolist() == random_permutation(0, 3, 4).tolist()
        True
    """
    check_integer("n_players", n_players, minimum=0)
    return _generator(seed, index).permutation(n_players).astype(np.intp, copy=False)


def grouped_permutation(seed: int, index: int, groups: Sequence[Sequence[int]]) -> NDArray[np.intp]:
    """Permutation number ``index`` of a run in which the players of each group are adjacent.

    The groups are in random order, and so are the players within each group.

    Example:
        >>> permutation = grouped_permutation(0, 1, [[0, 1, 2], [3, 4]]).tolist()
        >>> set(permutation[:3]) == {0, 1, 2} or set(permutation[2:]) == {0, 1, 2}
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
    """The permutations of some samples: (samples, 2, n), each with its reverse, if antithetic, else (samples, 1, n).

    Args:
        seed: of the run.
        indices: of the samples.
        n_players: number of players, n.
        antithetic: add the reverse of each permutation.
        groups: a partition of the players; the players of a group are adjacent.

    Raises:
        InputError: the seed, an index or the number of players is not an integer >= 0, or ``groups`` is no partition.

    Example:
        >>> draw_permutations(0, range(5), 3).shape
        (5, 2, 3)
    """
    check_integer("n_players", n_players, minimum=0)
    check_bool("antithetic", antithetic)
    parts = None if groups is None else partition(groups, n_players)
    permutations = [
        random_permutation(seed, index, n_players) if parts is None else grouped_permutation(seed, index, parts)
        for index in check_items("indices", indices, "integers >= 0")
    ]
    first = np.array(permutations, dtype=np.intp).reshape(len(permutations), 1, n_players)
    return np.concatenate([first, first[:, :, ::-1]], axis=1) if antithetic else first


@dataclass(frozen=True)
class PermutationMarginals:
    """Marginals of all players along m permutations.

    Args:
        marginals: float (m, n), indexed by player: ``marginals[r, i]`` is what player i adds in permutation r.
        evaluations: int (m,), coalitions evaluated in each permutation.
        cuts: int (m,), players before the truncation of each permutation, whose other players have marginal 0;
            n if it was not truncated.
        lost: float (m, n), marginals without truncation minus ``marginals``; None without ``audit``.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> game = FunctionGame(lambda coalitions: np.minimum(coalitions.sum(axis=1), 2) * 1.0, n_players=5)
        >>> permutations = draw_permutations(0, range(50), 5).reshape(-1, 5)
        >>> found = permutation_marginals(game, permutations, v_empty=0.0, v_full=2.0, truncation=Truncation())
        >>> found.marginals.mean(axis=0).round(4).tolist(), found.n_truncated, found.n_evaluations
        ([0.41, 0.44, 0.39, 0.37, 0.39], 100, 300)
    """

    marginals: FloatArray
    evaluations: IntArray
    cuts: IntArray
    lost: FloatArray | None = None

    @property
    def n_evaluations(self) -> int:
        """Coalitions evaluated in all permutations."""
        return int(self.evaluations.sum())

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Whether each permutation was truncated, bool (m,)."""
        truncated: NDArray[np.bool_] = self.cuts < self.marginals.shape[1]
        return truncated

    @property
    def n_truncated(self) -> int:
        """Number of truncated permutations."""
        return int(self.truncated.sum())


def permutation_marginals(
    game: Game,
    permutations: Permutations,
    *,
    v_empty: float,
    v_full: float,
    truncation: Truncation | None = None,
    audit: bool = False,
) -> PermutationMarginals:
    """Marginal of each player in each permutation; v(empty) and v(N) are not evaluated again.

    Without truncation the game's ``prefix_values`` is used if it exists; with truncation its ``prefix_chunks``, else
    its ``prefix_values``. A game without them is called with the prefixes, with truncation one size after the other.

    Args:
        game: the game.
        permutations: intp (m, n), each row a permutation of the players.
        v_empty: payoff of the empty coalition.
        v_full: payoff of all players.
        truncation: when to truncate a permutation, or None.
        audit: evaluate truncated permutations to the end to measure the marginals lost by truncation.

    Returns:
        The marginals, the number of evaluations and where permutations were truncated.

    Raises:
        InputError: ``permutations`` are no permutations of the players, or another argument is invalid.
        GameError: the game raises or returns an invalid payoff.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame
        >>> game = FunctionGame(lambda coalitions: np.minimum(coalitions.sum(axis=1), 2) * 1.0, n_players=5)
        >>> found = permutation_marginals(game, np.arange(5)[None], v_empty=0.0, v_full=2.0, truncation=Truncation())
        >>> found.marginals.tolist(), found.cuts.tolist(), found.n_evaluations
        ([[1.0, 1.0, 0.0, 0.0, 0.0]], [3], 3)
    """
    check_truncation(truncation)
    check_bool("audit", audit)
    permutations = _checked_permutations(permutations, number_of_players(game))
    v_empty, v_full = check_number("v_empty", v_empty), check_number("v_full", v_full)
    m, n = permutations.shape
    values = np.full((m, n + 1), v_full)  # of the prefixes
    values[:, 0] = v_empty
    evaluations, cuts = np.full(m, max(0, n - 1), dtype=np.int64), np.full(m, n, dtype=np.int64)
    if n > 1 and truncation is None:
        prefix_values = getattr(game, "prefix_values", None)
        values[:, 1:n] = (
            _prefixes_by_coalition(game, permutations)
            if prefix_values is None
            else _prefixes_by_game(prefix_values, permutations, v_empty, v_full)
        )
    elif n > 1 and m > 0 and truncation is not None:
        evaluations, cuts = _truncated_prefixes(game, permutations, values, truncation, audit=audit)
    at_cut = values[np.arange(m), cuts][:, None]
    marginals = _by_player(permutations, np.where(np.arange(n + 1) > cuts[:, None], at_cut, values))
    lost = _by_player(permutations, values) - marginals if audit else None
    return PermutationMarginals(marginals, evaluations, cuts, lost)


def _checked_permutations(permutations: object, n_players: int) -> Permutations:
    """Return permutations (m, n) of the players, or raise."""
    try:
        array = np.asarray(permutations)
    except ValueError:  # rows of different lengths
        array = np.zeros(0)
    shape_is_valid = array.ndim == 2 and array.shape[1] == n_players and array.dtype.kind in "iu"
    if not shape_is_valid or not (np.sort(array, axis=1) == np.arange(n_players)).all():
        raise InputError(
            "permutations",
            got=f"{type(permutations).__name__} of shape {array.shape} and dtype {array.dtype}",
            expected=f"integers (m, {n_players}), each row a permutation of the players",
        )
    return array.astype(np.intp, copy=False)


def _by_player(permutations: Permutations, values: FloatArray) -> FloatArray:
    """Marginals (m, n) by player from the values (m, n + 1) of all prefixes."""
    marginals = np.empty(permutations.shape)
    np.put_along_axis(marginals, permutations, np.diff(values, axis=1), axis=1)
    return marginals


def _prefixes_by_coalition(game: Game, permutations: Permutations) -> FloatArray:
    """Payoffs (m, n - 1) of the prefixes of 1, ..., n - 1 players."""
    m, n = permutations.shape
    ranks = np.argsort(permutations, axis=1)  # (m, n) position of each player
    rows = max(1, BLOCK_BYTES // (n * n))
    values = np.empty((m, n - 1))
    for start in range(0, m, rows):
        block = ranks[start : start + rows]
        coalitions = block[:, None, :] < np.arange(1, n)[:, None]  # (rows, n - 1, n)
        values[start : start + rows] = evaluate(game, coalitions.reshape(-1, n)).reshape(len(block), n - 1)
    return values


def _prefixes_by_game(
    prefix_values: Callable[[Permutations], object], permutations: Permutations, v_empty: float, v_full: float
) -> FloatArray:
    """Payoffs (m, n - 1) of the prefixes of 1, ..., n - 1 players from the game's own method, checked."""
    m, n = permutations.shape
    try:
        returned = prefix_values(permutations)
    except GameError:
        raise
    except Exception as error:
        first = f"the first of which is {permutations[0].tolist()}"
        got = f"{type(error).__name__}: {error} for {counted(m, 'permutation')}, {first}"
        raise GameError("prefix_values", got=got, expected="payoffs") from error
    values = real_numbers("prefix_values", returned)
    if values.shape != (m, n + 1):
        raise GameError("prefix_values", got=f"shape {values.shape}", expected=f"shape {(m, n + 1)}")
    if not np.isfinite(values).all():
        row, size = np.argwhere(~np.isfinite(values))[0]
        raise not_finite(sorted(permutations[row, :size].tolist()), values[row, size])
    tolerance = 1e-6 * max(1.0, abs(v_empty), abs(v_full))
    gaps = np.abs(values[:, [0, n]] - (v_empty, v_full)).max(axis=1)  # (m,)
    if gaps.max(initial=0.0) > tolerance:
        row = int(gaps.argmax())
        found = tuple(values[row, [0, n]].tolist())
        raise GameError(
            "prefix_values",
            got=f"empty and full value {found} of permutation {permutations[row].tolist()}",
            expected=f"the payoffs returned by the game's call, {v_empty, v_full}",
        )
    return values[:, 1:n]


def _truncated_prefixes(
    game: Game, permutations: Permutations, values: FloatArray, truncation: Truncation, *, audit: bool
) -> tuple[IntArray, IntArray]:
    """Fill in the values (m, n + 1) of the evaluated prefixes; return evaluations (m,) and cuts (m,)."""
    m, n = permutations.shape
    v_empty, v_full = float(values[0, 0]), float(values[0, n])
    state, rows = truncation.begin(n_permutations=m, v_empty=v_empty, v_full=v_full), np.arange(m)
    state.step(values[:, 0], rows)
    evaluations, cuts = np.zeros(m, dtype=np.int64), np.full(m, n, dtype=np.int64)

    def record(rows: NDArray[np.intp], size: int, payoffs: FloatArray) -> None:
        values[rows, size] = payoffs
        evaluations[rows] += 1
        stopped = state.step(payoffs, rows) & (cuts[rows] == n)
        if size < n - 1:  # after the prefix of n - 1 players only v(N) is left, and that is known
            cuts[rows[stopped]] = size

    prefix_chunks, prefix_values = getattr(game, "prefix_chunks", None), getattr(game, "prefix_values", None)
    if prefix_chunks is not None:
        for row in range(m):
            for size, chunk in _checked_chunks(prefix_chunks, permutations[row]):
                for offset in range(len(chunk)):
                    record(rows[row : row + 1], size + offset, chunk[offset : offset + 1])
                if cuts[row] < n and not audit:
                    break
    elif prefix_values is not None:
        inner = _prefixes_by_game(prefix_values, permutations, v_empty, v_full)
        for size in range(1, n):
            record(rows, size, inner[:, size - 1])
    else:
        ranks = np.argsort(permutations, axis=1)
        for size in range(1, n):
            record(rows, size, evaluate(game, ranks[rows] < size))
            rows = rows if audit else rows[cuts[rows] == n]
            if len(rows) == 0:
                break
    return evaluations, cuts


def _checked_chunks(
    prefix_chunks: Callable[[NDArray[np.intp], Sequence[int]], Iterator[object]], permutation: NDArray[np.intp]
) -> Iterator[tuple[int, FloatArray]]:
    """The chunks of the prefixes of 1, ..., n - 1 players, each with the size of its first prefix."""
    n, size = len(permutation), 1
    try:
        for returned in prefix_chunks(permutation, list(range(1, n))):
            chunk = real_numbers("prefix_chunks", returned)
            if chunk.ndim != 1 or size + len(chunk) > n:
                got = f"shape {chunk.shape} after {counted(size - 1, 'payoff')}"
                raise GameError(
                    "prefix_chunks", got=got, expected=f"{counted(n - 1, 'payoff')} in all, in chunks of shape (k,)"
                )
            if not np.isfinite(chunk).all():
                step = int(np.flatnonzero(~np.isfinite(chunk))[0])
                raise not_finite(sorted(permutation[: size + step].tolist()), chunk[step])
            yield size, chunk
            size += len(chunk)
    except GameError:
        raise
    except Exception as error:
        got = f"{type(error).__name__}: {error} for permutation {permutation.tolist()}"
        raise GameError("prefix_chunks", got=got, expected="payoffs") from error
    if size < n:
        raise GameError("prefix_chunks", got=counted(size - 1, "payoff"), expected=f"{n - 1}")


def _generator(seed: int, index: int) -> np.random.Generator:
    key = (check_integer("index", index, minimum=0),)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(check_seed(seed), spawn_key=key)))
