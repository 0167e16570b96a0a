"""Faults of Data Shapley runs with a ledger: kill -9, a full disk, a read-only folder, a clock that goes backwards.

Two processes at a time work on one ledger and are killed, at a random moment or shortly after a permutation was
written, until the given number of processes has been killed; the processes are forked, so that most of their time is
spent in the run. The run is then completed, and its values and intervals must equal, bit by bit, those of a run without
interruption. In the other checks a fault must lead to a LedgerError or have no effect, the ledger must stay readable,
and the resumed run must have identical values. One to three minutes for 1,000 kills; Linux only.

    python recipes/benchmarks/soak.py [--kills 100]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import resource
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from unittest import mock

import numpy as np

import lightning_attnflow
from lightning_attnflow.errors import LedgerError
from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley, ledger_result

PROCESSES = 2
_FORK = multiprocessing.get_context("fork")


class MajorityVotes:
    """A game of 40 players: the fraction of 60 items on which the majority of the coalition is correct.

    Args:
        seconds: time of a call.
    """

    n_players = 40

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.votes = np.random.default_rng(0).random((40, 60)) < np.linspace(0.3, 0.9, 40)[:, None]

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        """Return payoffs."""
        time.sleep(self.seconds)
        sizes = np.maximum(1, coalitions.sum(axis=1, keepdims=True))
        return ((coalitions @ self.votes) / sizes > 0.5).mean(axis=1)

    def configuration(self) -> dict[str, object]:
        """Return everything the payoffs depend on."""
        return {"game": "votes"}


def run(ledger: Path | None, permutations: int, seconds: float = 0.0) -> np.ndarray:
    """Values and intervals, (3, 40)."""
    game = MajorityVotes(seconds)
    result = DataShapley(game, stop=MaxPermutations(permutations), ledger=ledger, progress=False).fit().result
    return np.stack([result.values, *result.interval()])


def completed_permutations(ledger: Path) -> int:
    """Number of permutations in the ledger."""
    if not ledger.exists():
        return 0
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=60)) as connection:
        return int(connection.execute("SELECT count(*) FROM permutations").fetchone()[0])


def kill_and_resume(folder: Path, kills: int) -> tuple[int, bool]:
    """Kill processes that share a ledger; return how many permutations they left, and whether the values are equal."""
    generator, ledger = random.Random(0), folder / "kills.ledger"
    permutations = 10 * kills + 1000  # idle machines write up to eight for each kill
    killed, rounds, started = 0, 0, time.monotonic()
    while killed < kills:
        rounds += 1
        before = completed_permutations(ledger)
        processes = [_FORK.Process(target=run, args=(ledger, permutations, 0.003)) for _ in range(PROCESSES)]
        for process in processes:
            process.start()
        if rounds % 3:
            while completed_permutations(ledger) == before and any(process.is_alive() for process in processes):
                time.sleep(0.002)
            time.sleep(generator.random() * 0.02)
        else:
            time.sleep(generator.random() * 0.2)
        for process in processes:
            process.kill()  # SIGKILL
            process.join()
            killed += process.exitcode == -9
        if completed_permutations(ledger) >= permutations:
            raise SystemExit(f"the run ended after {killed} kills")
        if rounds % 50 == 0:
            seconds = time.monotonic() - started
            print(f"  {killed} killed, {completed_permutations(ledger)} permutations, {seconds:.0f} s", flush=True)
    left = completed_permutations(ledger)
    return left, bool((run(ledger, permutations) == run(None, permutations)).all())


def full_disk(folder: Path) -> bool:
    """Limit the size of files, which fails writes as a full disk does; then lift the limit and resume."""
    ledger, permutations = folder / "disk.ledger", 400

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            run(ledger, permutations)
        except LedgerError as error:
            print(f"  {error}", flush=True)  # os._exit does not flush
            os._exit(3)

    code = _exit_code(limited)
    kept = ledger_result(ledger).n_permutations
    print(f"  {kept} permutations kept")
    return code == 3 and 0 < kept < permutations and _is_resumed(ledger, permutations)


def read_only_folder(folder: Path) -> bool:
    """Run with a ledger in a folder without write permission, new and existing; as another user if this one is root."""
    closed = folder / "closed"
    closed.mkdir()
    ledger, permutations = closed / "run.ledger", 40
    run(ledger, permutations // 2)

    def refused() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        for path in (ledger, closed / "new.ledger"):
            try:
                run(path, permutations)
            except LedgerError as error:
                print(f"  {error}", flush=True)  # os._exit does not flush
            else:
                os._exit(4)
        os._exit(3)

    folder.chmod(0o755)
    ledger.chmod(0o444)
    closed.chmod(0o555)
    code = _exit_code(refused)
    closed.chmod(0o755)
    ledger.chmod(0o644)
    return code == 3 and _is_resumed(ledger, permutations)


def backward_clock(folder: Path) -> bool:
    """Resume with a wall clock that is a day earlier at every call."""
    ledger, permutations = folder / "clock.ledger", 400
    run(ledger, permutations // 2)
    days = iter(range(10**9, 0, -86400))
    with mock.patch("time.time", side_effect=lambda: float(next(days))):
        return _is_resumed(ledger, permutations)


def two_versions(folder: Path) -> bool:
    """Resume with another version of the library, which must be refused, and with the first one."""
    ledger, permutations = folder / "version.ledger", 40
    run(ledger, permutations // 2)
    with mock.patch.object(lightning_attnflow, "__version__", "99.0"):
        try:
            run(ledger, permutations)
        except LedgerError as error:
            print(f"  {error}")
        else:
            return False
    return completed_permutations(ledger) == permutations // 2 and _is_resumed(ledger, permutations)


CHECKS: dict[str, Callable[[Path], bool]] = {
    "full disk": full_disk,
    "read-only folder": read_only_folder,
    "clock going backwards": backward_clock,
    "two versions of the library": two_versions,
}


def _exit_code(function: Callable[[], None]) -> int | None:
    process = _FORK.Process(target=function)
    process.start()
    process.join()
    return process.exitcode


def _is_resumed(ledger: Path, permutations: int) -> bool:
    return bool((run(ledger, permutations) == run(None, permutations)).all())


def main(kills: int) -> None:
    """Run all checks; exit with an error if one fails."""
    failed = []
    warnings.filterwarnings("ignore", message="One evaluation takes")
    with tempfile.TemporaryDirectory() as name:
        for title, check in CHECKS.items():
            print(f"{title}:", flush=True)
            passed = check(Path(name))
            print("  as expected" if passed else "  FAILED", flush=True)
            failed += [title] * (not passed)
        print(f"{kills} kills, {PROCESSES} processes on one ledger:", flush=True)
        left, same = kill_and_resume(Path(name), kills)
        print(f"  {left} permutations before the last resume; values and intervals {'identical' if same else 'DIFFER'}")
    if failed or not same:
        raise SystemExit(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    main(parser.parse_args().kills)
