"""Does a run survive kill -9? Kills a run on a ledger again and again at random moments, then compares the bits.

Each turn starts the same command and kills it: at any moment from its start, or shortly after it wrote an order; in
every other turn a second process works on the same ledger, which is killed as well. At the end the command runs
through, and values and intervals must equal those of a run that was never interrupted. About two minutes.

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

ORDERS = 4000


class Classes:
    """A game of 40 players: the mean over 60 items of the share of right votes, some players vote better."""

    n_players = 40

    def __init__(self) -> None:
        self.votes = np.random.default_rng(0).random((40, 60)) < np.linspace(0.3, 0.9, 40)[:, None]

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        """Return payoffs."""
        sizes = np.maximum(1, coalitions.sum(axis=1, keepdims=True))
        return ((coalitions @ self.votes) / sizes > 0.5).mean(axis=1)

    def configuration(self) -> dict[str, object]:
        """Return what the payoffs depend on."""
        return {"game": "votes"}


def run(ledger: str | None) -> np.ndarray:
    """Values and intervals, (3, 40)."""
    result = DataShapley(Classes(), stop=MaxPermutations(ORDERS), ledger=ledger).fit().result
    return np.stack([result.values, *result.interval()])


def orders(ledger: Path) -> int:
    """Orders in the ledger."""
    if not ledger.exists():
        return 0
    connection = sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM orders").fetchone()[0])
    finally:
        connection.close()


def main(kills: int) -> None:
    """Kill, go on, compare; exit with an error if a bit differs."""
    generator = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        ledger, output = Path(folder) / "run.ledger", Path(folder) / "values.npy"
        command = [sys.executable, __file__, "--ledger", str(ledger), "--output", str(output)]
        for turn in range(1, kills + 1):
            before = orders(ledger)
            processes = [subprocess.Popen(command) for _ in range(1 + turn % 2)]
            while turn % 3 and orders(ledger) == before and processes[0].poll() is None:
                time.sleep(0.01)
            time.sleep(generator.random() * (0.5 if turn % 3 else 3))
            alive = [process.poll() is None for process in processes]
            for process in processes:
                process.kill()  # SIGKILL
                process.wait()
            print(f"turn {turn:2d}: {sum(alive)} killed, orders {before} -> {orders(ledger)}", flush=True)
        subprocess.run(command, check=True)
        same = (np.load(output) == run(None)).all()
        print(f"{orders(ledger)} orders; {'bit-identical' if same else 'DIFFERENT'}")
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
