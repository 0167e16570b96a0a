"""Ledgers of fuzz.py: intact and damaged ones, and the calls that resume, read and merge them."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_files import FOLDER, damaged, written
from fuzz_values import SEEDS, Call, mostly
from hypothesis import strategies as st

from lightning_attnflow import shapley, valuation

COLUMNS = ("seed", "number", "marginals", "lost", "evaluations", "cut", "seconds", "training_variance", "checksum")


class Votes:
    """A game of four players with a configuration, as a ledger needs it."""

    n_players = 4

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        """Return payoffs."""
        return (coalitions @ np.array([0.5, 0.25, -0.125, 1.0])) ** 2

    def configuration(self) -> dict[str, object]:
        """Return everything the payoffs depend on."""
        return {"game": "votes"}


def run(ledger: Path | None, permutations: int, seed: int = 0) -> Any:
    """Result of a run on the game of four players."""
    stop = shapley.MaxPermutations(permutations)
    return valuation.DataShapley(Votes(), stop=stop, seed=seed, ledger=ledger, truncation=shapley.Truncation()).fit()


@cache
def ledger(seed: int) -> bytes:
    """A ledger of eight permutations."""
    path = Path(tempfile.mkdtemp(prefix="input_", dir=FOLDER)) / "ledger"
    run(path, 8, seed)
    return path.read_bytes()


@st.composite
def ledgers(draw: Any, seed: int = 0) -> Path:
    """A ledger, intact, with some bytes changed or missing, or with another value in a column."""
    if draw(st.booleans()):
        return written(draw(damaged(st.just(ledger(seed)))), "input.ledger")
    path = written(ledger(seed), "input.ledger")
    value = draw(
        st.one_of(st.sampled_from([None, -1, 0.5, 2**62, "x", b"", b"x" * 32, "{}", "0"]), st.text(max_size=3))
    )
    table, columns, which = draw(
        st.sampled_from(
            [
                ("configuration", ("hash", "json", "v_empty", "v_full", "checksum"), "1"),
                ("permutations", COLUMNS, "number = 3"),
                ("claims", ("seed", "sample"), "sample = 1"),
            ]
        )
    )
    with closing(sqlite3.connect(path)) as connection, contextlib.suppress(sqlite3.Error):  # refused by the schema
        connection.execute(f"UPDATE {table} SET {draw(st.sampled_from(columns))} = ? WHERE {which}", [value])
        connection.commit()
    return path


def _same(result: Any, seeds: Any) -> None:
    parts = [run(None, result.n_permutations // len(seeds), seed).result for seed in seeds]
    whole_run = parts[0] if len(parts) == 1 else parts[0] + parts[1]
    if not (whole_run.values == result.values).all() or whole_run.v_full != result.v_full:
        raise AssertionError("other values than without a ledger")


def _resumed(path: Any, permutations: Any) -> Any:
    """Resume a run on a ledger, which must be refused or lead to the values of a run without interruption."""
    _same(run(path, permutations).result, [0])


def _result_of_ledger(path: Any) -> Any:
    result = valuation.ledger_result(path)
    _same(result, result.seeds)


def _merged(first: Any, second: Any) -> Any:
    into = first.parent / "input.ledger.merged"
    count = valuation.merge_ledgers([first, second], into)
    _same(valuation.ledger_result(into), [0, 1]) if count == 16 else None


def _opened(path: Any, configuration: Any, seed: Any) -> Any:
    with valuation.Ledger(path, configuration) as opened:
        return opened.seeds(), opened.samples(seed, permutations_per_sample=2, n_players=4), opened.empty_and_full()


CALLS: dict[str, Call] = {
    "DataShapley with a ledger": Call(_resumed, {"path": ledgers(), "permutations": st.just(16)}, ()),
    "ledger_result": Call(_result_of_ledger, {"path": ledgers()}, ("path",)),
    "merge_ledgers": Call(_merged, {"first": ledgers(), "second": ledgers(1)}, ()),
    "Ledger": Call(
        _opened, {"path": ledgers(), "configuration": mostly([None], {}, {"a": 1}), "seed": SEEDS}, ("path", "seed")
    ),
}
