"""Resuming after kill -9: kills a run with a ledger at random moments and compares the final values bit by bit.

Each round starts the same command and kills it, at a random moment or shortly after it wrote a permutation. In every
other round a second process uses the same ledger and is killed too. At the end the command runs to completion, and
values and intervals must equal those of a run without interruption. About two minutes.

    python recipes/benchmarks/kills.py [--kills 20]
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley

PERMUTATIONS = 4000


class MajorityVotes:
    """A game of 40 players: the fraction of 60 items on which the majority of the coalition is correct."""

    n_players = 40

    def __init__(self) -> None:
        self.votes = np.random.default_rng(0).random((40, 60)) < np.linspace(0.3, 0.9, 40)[:, None]

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        """Return payoffs."""
        sizes = np.maximum(1, coalitions.sum(axis=1, keepdims=True))
        return ((coalitions @ self.votes) / sizes > 0.5).mean(axis=1)

    def configuration(self) -> dict[str, object]:
        """Return everything the payoffs depend on."""
        return {"game": "votes"}


def run(ledger: str | None) -> np.ndarray:
    """Values and intervals, (3, 40)."""
    result = DataShapley(MajorityVotes(), stop=MaxPermutations(PERMUTATIONS), ledger=ledger).fit().result
    return np.stack([result.values, *result.interval()])


def completed_permutations(ledger: Path) -> int:
    """Number of permutations in the ledger."""
    if not ledger.exists():
        return 0
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM permutations").fetchone()[0])
    finally:
        connection.close()


def main(kills: int) -> None:
    """Kill and resume the run; exit with an error if a value differs."""
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        ledger, output = Path(folder) / "run.ledger", Path(folder) / "values.npy"
        command = [sys.executable, __file__, "--ledger", str(ledger), "--output", str(output)]
        for number in range(1, kills + 1):
            before = completed_permutations(ledger)
            processes = [subprocess.Popen(command) for _ in range(1 + number % 2)]
            while number % 3 and completed_permutations(ledger) == before and processes[0].poll() is None:
                time.sleep(0.01)
            time.sleep(generator.random() * (0.5 if number % 3 else 3))
            alive = [process.poll() is None for process in processes]
            for process in processes:
                process.kill()  # SIGKILL
                process.wait()
            after = completed_permutations(ledger)
            print(f"round {number:2d}: {sum(alive)} killed, permutations {before} -> {after}", flush=True)
        subprocess.run(command, check=True)
        same = (np.load(output) == run(None)).all()
        print(f"{completed_permutations(ledger)} permutations: {'bit-identical' if same else 'DIFFERENT'}")
    if not same:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--ledger")
    parser.add_argument("--output")
    arguments = parser.parse_args()
    if arguments.ledger:
        with open(arguments.output, "wb") as file:
            np.save(file, run(arguments.ledger))
    else:
        main(arguments.kills)
