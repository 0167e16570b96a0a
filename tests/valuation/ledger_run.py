"""A run with a ledger for tests that kill and resume it: ``python ledger_run.py LEDGER OUTPUT``.

Prints the number of evaluations. Evaluations are slow, so that the run can be killed before it ends.
"""

from __future__ import annotations

import sys

import numpy as np

from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley


class SlowGame:
    n_players, calls = 8, 0

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        self.calls += len(coalitions)
        for _ in range(len(coalitions)):
            sum(range(80_000))  # a few milliseconds
        return np.sqrt(coalitions @ np.arange(8.0))

    def configuration(self) -> dict[str, object]:
        return {"game": "slow"}


def values_and_intervals(ledger: str | None, game: SlowGame | None = None) -> np.ndarray:
    result = DataShapley(game or SlowGame(), stop=MaxPermutations(60), ledger=ledger).fit().result
    return np.stack([result.values, *result.interval()])


if __name__ == "__main__":
    game = SlowGame()
    with open(sys.argv[2], "wb") as file:
        np.save(file, values_and_intervals(sys.argv[1], game))
    print(game.calls)
