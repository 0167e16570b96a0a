"""Removal curves: the score after removing the examples of lowest, highest or random value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._checks import check_integer, check_numbers, check_seed, check_string
from lightning_attnflow._figures import new_axes
from lightning_attnflow._results import SavedResult, to_dataframe
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import Game
from lightning_attnflow.shapley.game import evaluate, number_of_players

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = NDArray[np.float64]

_STYLES = {  # colour (Okabe & Ito) and dash of each line
    "lowest value first": ("#0072B2", "-"),
    "highest value first": ("#D55E00", "--"),
    "random order": ("#555555", ":"),
}


@dataclass(frozen=True, eq=False, repr=False)
class RemovalCurve(SavedResult):
    """Scores after removing fractions of the players.

    Args:
        fractions: float (f,), removed fractions.
        lowest_first: float (f,), scores without the players of lowest value.
        highest_first: float (f,), scores without the players of highest value.
        random: float (permutations, f), scores without random players.

    Example:
        >>> from lightning_attnflow.shapley import FunctionGame, exact_shapley
        >>> game = FunctionGame(lambda coalitions: coalitions @ [0.1, 0.2, 0.3, -0.1], n_players=4)
        >>> curve = RemovalCurve.of(game, exact_shapley(game).values, fractions=(0, 0.25, 0.5))
        >>> curve.lowest_first.round(4).tolist(), curve.highest_first.round(4).tolist()
        ([0.5, 0.6, 0.5], [0.5, 0.2, 0.0])
        >>> curve.random.mean(axis=0).round(4).tolist()
        [0.5, 0.36, 0.23]
    """

    fractions: FloatArray
    lowest_first: FloatArray
    highest_first: FloatArray
    random: FloatArray

    @classmethod
    def of(
        cls,
        game: Game,
        values: ArrayLike,
        *,
        fractions: Sequence[float] = tuple(np.arange(0, 0.91, 0.05).tolist()),
        n_permutations: int = 20,
        seed: int = 0,
    ) -> RemovalCurve:
        """Evaluate a game without some of its players.

        Args:
            game: the score of the remaining players, preferably on sentences that were not used for the values.
            values: float (n,).
            fractions: fractions to remove, in [0, 1).
            n_permutations: number of random permutations.
            seed: seed of the random permutations.

        Raises:
            InputError: there are not n values, a value is NaN, or a fraction is not in [0, 1).

        Example:
            >>> from lightning_attnflow.shapley import FunctionGame
            >>> additive = FunctionGame(lambda coalitions: coalitions @ np.array([1.0, 2.0, 3.0, 4.0]), n_players=4)
            >>> curve = RemovalCurve.of(additive, [1, 2, 3, 4], fractions=(0, 0.5))
            >>> curve.lowest_first.tolist(), curve.highest_first.tolist()
            ([10.0, 7.0], [10.0, 3.0])
        """
        n_players = number_of_players(game)
        value = check_numbers("values", values, f"{counted(n_players, 'number')}, one for each player")
        removed_fractions = check_numbers("fractions", fractions, "numbers in [0, 1)")
        if value.shape != (n_players,):
            raise InputError("values", got=f"shape {value.shape}", expected=f"shape ({n_players},)")
        if np.isnan(value).any():
            raise InputError("values", got=f"NaN at index {int(np.isnan(value).argmax())}", expected="numbers")
        if not removed_fractions.size or not ((removed_fractions >= 0) & (removed_fractions < 1)).all():
            raise InputError("fractions", got=fractions, expected="numbers in [0, 1)")
        lowest = np.argsort(value, kind="stable")
        generator = np.random.default_rng(np.random.SeedSequence(check_seed(seed)))
        drawn = [generator.permutation(game.n_players) for _ in range(check_integer("n_permutations", n_permutations))]
        permutations = [lowest, lowest[::-1], *drawn]
        removed = np.round(removed_fractions * game.n_players).astype(np.intp)
        remaining = np.argsort(permutations, axis=1)[:, None, :] >= removed[:, None]  # (permutations, f, n)
        scores = evaluate(game, remaining.reshape(-1, game.n_players)).reshape(len(permutations), -1)
        return cls(removed_fractions, scores[0], scores[1], scores[2:])

    def to_pandas(self) -> Any:
        """Return a pandas DataFrame with one row for each fraction; ``random`` is the mean over the permutations.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        return to_dataframe({**vars(self), "random": self.random.mean(axis=0)})

    def plot(self, *, score: str = "score", title: str = "", ax: Axes | None = None) -> Axes:
        """Draw the three curves and a band that contains 90% of the random permutations.

        Args:
            score: label of the vertical axis.
            title: of the axes.
            ax: axes to draw on; default: those of a new figure.

        Raises:
            MissingDependencyError: matplotlib is not installed.
        """
        check_string("score", score)
        check_string("title", title)
        ax = new_axes(7.0, 4.2) if ax is None else ax
        percent = 100 * self.fractions
        lines = (self.lowest_first, self.highest_first, self.random.mean(axis=0))
        for (name, (colour, dash)), line in zip(_STYLES.items(), lines, strict=True):
            ax.plot(percent, line, dash, color=colour, label=name, marker="o", markersize=3)
        low, high = np.quantile(self.random, [0.05, 0.95], axis=0)
        ax.fill_between(percent, low, high, color=_STYLES["random order"][0], alpha=0.15, linewidth=0)
        ax.set(xlabel="removed training sentences (%)", ylabel=score, title=title)
        ax.grid(alpha=0.3)
        ax.legend(frameon=False)
        return ax
