"""The removal curve: how the score changes as the examples of lowest, highest or random value are removed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow.errors import InputError, MissingDependencyError
from lightning_attnflow.shapley import Game
from lightning_attnflow.shapley.game import evaluate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FloatArray = NDArray[np.float64]

_STYLES = {  # by line: colour (Okabe & Ito, told apart by the colour-blind) and dash
    "lowest value first": ("#0072B2", "-"),
    "highest value first": ("#D55E00", "--"),
    "at random": ("#555555", ":"),
}


@dataclass(frozen=True)
class RemovalCurve:
    """Scores after removing shares of the players.

    Args:
        fractions: float (f,), shares removed.
        lowest_first: float (f,), score with the lowest values removed.
        highest_first: float (f,), score with the highest values removed.
        at_random: float (orders, f), scores along random orders of removal.
    """

    fractions: FloatArray
    lowest_first: FloatArray
    highest_first: FloatArray
    at_random: FloatArray

    @classmethod
    def of(
        cls,
        game: Game,
        values: ArrayLike,
        *,
        fractions: Sequence[float] = tuple(np.arange(0, 0.91, 0.05).tolist()),
        random_orders: int = 20,
        seed: int = 0,
    ) -> RemovalCurve:
        """Ask a game for the scores; best one on sentences that the values were not computed with.

        Args:
            game: pays the score of what is left.
            values: float (n,).
            fractions: shares to remove, in [0, 1).
            random_orders: random orders of removal.
            seed: of these.

        Raises:
            InputError: if the values are not n numbers or a share is out of range.

        Example:
            >>> from lightning_attnflow.shapley import FunctionGame
            >>> additive = FunctionGame(lambda coalitions: coalitions @ np.array([1.0, 2.0, 3.0, 4.0]), n_players=4)
            >>> curve = RemovalCurve.of(additive, [1, 2, 3, 4], fractions=(0, 0.5))
            >>> curve.lowest_first.tolist(), curve.highest_first.tolist()
            ([10.0, 7.0], [10.0, 3.0])
        """
        column = np.asarray(values, dtype=np.float64)
        shares = np.asarray(fractions, dtype=np.float64)
        if column.shape != (game.n_players,):
            raise InputError(
                "values", got=f"shape {column.shape}", expected=f"({game.n_players},)", remedy="Pass one a player."
            )
        if not len(shares) or shares.min() < 0 or shares.max() >= 1:
            raise InputError("fractions", got=fractions, expected="shares in [0, 1)", remedy="Pass (0, 0.1, 0.2).")
        lowest = np.argsort(column, kind="stable")
        generator = np.random.default_rng(np.random.SeedSequence(seed))
        orders = [lowest, lowest[::-1], *(generator.permutation(game.n_players) for _ in range(random_orders))]
        removed = np.round(shares * game.n_players).astype(np.intp)
        left = np.argsort(orders, axis=1)[:, None, :] >= removed[:, None]  # (orders, f, n)
        scores = evaluate(game, left.reshape(-1, game.n_players)).reshape(len(orders), -1)
        return cls(shares, scores[0], scores[1], scores[2:])

    def figure(self, *, score: str = "accuracy", title: str = "") -> Figure:
        """Draw the three lines; the band holds the middle 90% of the random orders.

        Args:
            score: name of the score.
            title: of the figure.

        Raises:
            MissingDependencyError: if matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingDependencyError(
                "matplotlib",
                got="no such package",
                expected="it for a figure",
                remedy="pip install 'lightning-attnflow[plots]'",
            ) from error
        figure = Figure(figsize=(7, 4.2), layout="constrained")
        axes = figure.subplots()
        percent = 100 * self.fractions
        lines = (self.lowest_first, self.highest_first, self.at_random.mean(axis=0))
        for (name, (colour, dash)), line in zip(_STYLES.items(), lines, strict=True):
            axes.plot(percent, line, dash, color=colour, label=name, marker="o", markersize=3)
        low, high = np.quantile(self.at_random, [0.05, 0.95], axis=0)
        axes.fill_between(percent, low, high, color=_STYLES["at random"][0], alpha=0.15, linewidth=0)
        axes.set(xlabel="removed (% of the training sentences)", ylabel=score, title=title)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        return figure
