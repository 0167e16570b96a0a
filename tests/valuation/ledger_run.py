"""A run on a ledger, to be started, killed and started again: ``python ledger_run.py LEDGER OUTPUT``.

A unit takes a few milliseconds, so that a kill hits the middle of a run.
"""

from __future__ import annotations

import sys

import numpy as np

from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley


class SlowGame:
    n_players = 8

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        for _ in range(len(coalitions)):
            sum(range(80_000))  # work of a few milliseconds on one thread
        return np.sqrt(coalitions @ np.arange(8.0))

    def configuration(self) -> dict[str, object]:
        return {"game": "slow"}


def values_and_intervals(ledger: str | None) -> np.ndarray:
    result = DataShapley(SlowGame(), stop=MaxPermutations(60), ledger=ledger).fit().result
    return np.stack([result.values, *result.interval()])


if __name__ == "__main__":
    with open(sys.argv[2], "wb") as file:
        np.save(file, values_and_intervals(sys.argv[1]))
