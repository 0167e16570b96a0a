"""Ledgers: resuming, merging, damaged files and several processes."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lightning_attnflow
from lightning_attnflow.errors import InputError, LedgerError
from lightning_attnflow.shapley import MaxPermutations, Truncation
from lightning_attnflow.valuation import DataShapley, Ledger, ledger_result, merge_ledgers

sys.path.insert(0, str(Path(__file__).parent))
ledger_run = importlib.import_module("ledger_run")


class SmallGame:
    """A game with a configuration whose payoffs are bounded, so that permutations are truncated."""

    n_players = 6

    def __init__(self, top: float = 4.0) -> None:
        self.top, self.calls = top, 0

    def __call__(self, coalitions: np.ndarray) -> np.ndarray:
        self.calls += len(coalitions)
        return np.minimum(coalitions @ np.arange(6.0), self.top)

    def configuration(self) -> dict[str, object]:
        return {"top": self.top}


def run(path: Path | None, permutations: int = 20, game: SmallGame | None = None, **options: object) -> DataShapley:
    options = {"truncation": Truncation(), **options}
    return DataShapley(game or SmallGame(), stop=MaxPermutations(permutations), ledger=path, **options).fit()


def same(left: object, right: object) -> bool:
    """Whether values, intervals and counts are bit-identical."""
    pairs = zip((*left.interval(), left.values), (*right.interval(), right.values), strict=True)
    facts = [(r.n_evaluations, r.n_permutations, r.n_truncated, r.audit and r.audit.total_bias) for r in (left, right)]
    return all((a == b).all() for a, b in pairs) and facts[0] == facts[1]


@pytest.mark.parametrize("truncation", [None, Truncation()])
def test_a_run_resumes_from_its_ledger(tmp_path: Path, truncation: Truncation | None) -> None:
    path = tmp_path / "run.ledger"
    run(path, 8, truncation=truncation)
    game = SmallGame()
    again = run(path, 20, game, truncation=truncation)
    assert same(again.result, run(None, 20, truncation=truncation).result)
    fresh = SmallGame()
    assert same(run(path, 20, fresh, truncation=truncation).result, again.result)
    assert fresh.calls == 0
    assert same(ledger_result(path), again.result)
    assert same(run(path, 8, truncation=truncation).result, run(None, 8, truncation=truncation).result)


def test_an_error_states_the_difference_of_configurations(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    run(path)
    with pytest.raises(LedgerError, match=r"utility\.top: here 5\.0, in the ledger 4\.0; expected"):
        run(path, game=SmallGame(top=5.0))
    with pytest.raises(LedgerError, match=r"truncation\.tolerance: here 0\.5, in the ledger 0\.01"):
        run(path, truncation=Truncation(tolerance=0.5))
    with pytest.raises(LedgerError, match="groups: here"):
        run(path, groups=[[i] for i in range(6)])
    assert run(path, seed=1).result.n_permutations == 20  # the seed is not part of the configuration


def test_a_utility_without_configuration_cannot_use_a_ledger(tmp_path: Path) -> None:
    class Anonymous(SmallGame):
        configuration = None

    with pytest.raises(InputError, match=r"without a method configuration\(\)"):
        run(tmp_path / "run.ledger", game=Anonymous())


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "text", "row"])
def test_a_damaged_ledger_raises_an_error_and_is_unchanged(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run.ledger"
    run(path, 200)
    content = bytearray(path.read_bytes())
    if damage == "empty":
        content = bytearray()
    elif damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "noise":
        content[4096:12288] = random.Random(0).randbytes(8192)
    elif damage == "text":
        content = bytearray(b"index,value\n0,1\n" * 100)
    path.write_bytes(content)
    if damage == "row":
        with sqlite3.connect(path) as connection:
            connection.execute("UPDATE permutations SET marginals = zeroblob(48) WHERE number = 7")
        connection.close()
    before, game = path.read_bytes(), SmallGame()
    with pytest.raises(LedgerError, match=r"damaged|another SQLite database|does not match"):
        run(path, 200, game)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [None, "x", b"x", 0.5, -1])
@pytest.mark.parametrize(
    ("table", "column"),
    [("configuration", name) for name in ("hash", "json", "v_empty", "v_full", "checksum")]
    + [("permutations", name) for name in ("seed", "number", "marginals", "lost", "evaluations", "cut", "checksum")]
    + [("claims", name) for name in ("seed", "sample")],
)
def test_a_changed_entry_raises_an_error_or_changes_no_value(
    tmp_path: Path, table: str, column: str, value: object
) -> None:
    path = tmp_path / "run.ledger"
    run(path, 8)
    where = {"permutations": "number = 3", "claims": "sample = 1"}.get(table, "1")
    connection = sqlite3.connect(path)
    with contextlib.suppress(sqlite3.IntegrityError):  # None in a column that must have a value
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", [value])
    connection.commit()
    connection.close()
    is_refused = []
    for read in (lambda: ledger_result(path), lambda: run(path, 20).result):
        try:
            result = read()
        except LedgerError:
            is_refused.append(True)
        else:
            assert same(result, run(None, result.n_permutations).result)
            is_refused.append(False)
    if value is not None and column in ("json", "v_full", "marginals"):
        assert is_refused == [True, True]


def test_a_merge_that_fails_leaves_no_file(tmp_path: Path) -> None:
    good, damaged, into = (tmp_path / f"{name}.ledger" for name in ("good", "damaged", "into"))
    run(good, 8, seed=1)
    run(damaged, 8, seed=2)
    with sqlite3.connect(damaged) as connection:
        connection.execute("UPDATE permutations SET evaluations = 0 WHERE number = 3")
    connection.close()
    with pytest.raises(LedgerError, match="permutation 3 of seed 2, which does not match its checksum"):
        merge_ledgers([good, damaged], into)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.ledger", "good.ledger"]
    assert merge_ledgers([good], into) == 8
    with pytest.raises(LedgerError, match="checksum"):
        merge_ledgers([damaged], into)
    assert ledger_result(into).seeds == (1,)


@pytest.mark.parametrize("path", [None, 3, ["a"], b"a"])
def test_a_ledger_that_is_no_path_raises_an_error(path: object) -> None:
    for read in (Ledger, ledger_result):
        with pytest.raises(InputError, match=r"ledger: got .*; expected a path"):
            read(path)
    with pytest.raises(InputError, match=r"into: got .*; expected a path"):
        merge_ledgers([], path)


def test_another_database_is_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE holidays (day TEXT)")
    connection.close()
    with pytest.raises(LedgerError, match="got another SQLite database; expected a ledger"):
        run(path)


def test_a_ledger_of_another_format_raises_an_error(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    run(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(LedgerError, match="got a ledger of format 2; expected a ledger of format 4"):
        run(path)


def test_a_path_that_is_not_writable_raises_an_error_before_any_evaluation(tmp_path: Path) -> None:
    game = SmallGame()
    for path in (tmp_path / "no" / "such" / "folder.ledger", Path("/proc/run.ledger"), tmp_path):
        with pytest.raises(LedgerError):
            run(path, game=game)
    assert game.calls == 0


def test_a_full_disk_stops_the_run_and_keeps_the_ledger_readable(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "run.ledger"
    opened = Ledger._open

    def small_disk(ledger: Ledger) -> sqlite3.Connection:
        connection = opened(ledger)
        connection.execute("PRAGMA max_page_count = 8")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "_open", small_disk)
        with pytest.raises(LedgerError, match=r"full.*free some space"):
            run(path, 600)
    kept = ledger_result(path)
    assert 0 < kept.n_permutations < 600
    assert same(kept, run(None, kept.n_permutations).result)
    assert same(run(path, 600).result, run(None, 600).result)


def test_ledgers_of_two_seeds_merge(tmp_path: Path) -> None:
    one, two, both = (tmp_path / f"{name}.ledger" for name in ("one", "two", "both"))
    first, second = run(one, seed=1).result, run(two, seed=2).result
    assert merge_ledgers([one, two], both) == 40
    assert merge_ledgers([one, two], both) == 0
    merged = ledger_result(both)
    np.testing.assert_allclose(merged.values, (first.values + second.values) / 2, rtol=0, atol=1e-15)
    assert merged.seeds == (1, 2)
    assert merged.audit.n_samples == first.audit.n_samples + second.audit.n_samples
    assert same(run(both, seed=2).result, second)
    run(tmp_path / "three.ledger", game=SmallGame(top=9.0))
    with pytest.raises(LedgerError, match=r"utility\.top"):
        merge_ledgers([tmp_path / "three.ledger"], both)
    with pytest.raises(LedgerError, match="no such file"):
        merge_ledgers([tmp_path / "four.ledger"], both)


def test_ledgers_with_contradicting_marginals_are_not_merged(tmp_path: Path) -> None:
    class Changed(SmallGame):
        def __call__(self, coalitions: np.ndarray) -> np.ndarray:
            return super().__call__(coalitions[:, ::-1])

    run(tmp_path / "one.ledger")
    run(tmp_path / "two.ledger", game=Changed())
    with pytest.raises(LedgerError, match=r"different marginals of permutation \d+ of seed 0"):
        merge_ledgers([tmp_path / "one.ledger", tmp_path / "two.ledger"], tmp_path / "both.ledger")


def test_two_processes_with_one_ledger_share_the_work(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    other = _start(path, tmp_path / "other.npy")
    _wait_for_rows(path, 2, other)
    game, alone = ledger_run.SlowGame(), ledger_run.SlowGame()
    here = ledger_run.values_and_intervals(path, game)
    spent = int(other.communicate(timeout=120)[0])
    assert other.returncode == 0
    expected = ledger_run.values_and_intervals(None, alone)
    assert (here == expected).all()
    assert (np.load(tmp_path / "other.npy") == expected).all()
    assert game.calls > 0
    assert spent + game.calls <= 1.3 * alone.calls  # empty and full value and the end of a batch are computed twice
    with sqlite3.connect(path) as connection:
        numbers = [row[0] for row in connection.execute("SELECT number FROM permutations ORDER BY number")]
    connection.close()
    assert numbers == list(range(60))


def test_workers_with_a_ledger_give_identical_values(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    with Ledger(path, DataShapley(SmallGame(), truncation=Truncation()).configuration()) as ledger:
        assert all(ledger.claim(0, index) for index in (1, 2, 17))  # like the claims of a process that died
    assert same(run(path, 80, n_jobs=2, backend="threading").result, run(None, 80).result)
    assert same(ledger_result(path), run(None, 80).result)


def test_claims_of_a_killed_process_do_not_block(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    expected = run(None).result
    run(path, 4)
    with Ledger(path) as ledger:
        assert [ledger.claim(0, index) for index in (0, 3, 4, 4)] == [False, True, True, False]
    assert same(run(path).result, expected)


def test_a_run_resumed_after_kill_9_is_bit_identical(tmp_path: Path) -> None:
    path = tmp_path / "run.ledger"
    process = _start(path, tmp_path / "killed.npy")
    _wait_for_rows(path, 10, process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert 10 <= _rows(path) < 60
    assert (ledger_run.values_and_intervals(path) == ledger_run.values_and_intervals(None)).all()


def _wait_for_rows(path: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    while _rows(path) < number:
        assert process.poll() is None, f"the process ended before writing {number} rows"


def _rows(path: Path) -> int:
    if not path.exists():
        return 0
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute("SELECT count(*) FROM permutations").fetchone()[0]
    finally:
        connection.close()


def _start(ledger: Path, output: Path) -> subprocess.Popen[bytes]:
    path = os.pathsep.join([str(Path(lightning_attnflow.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, str(ledger_run.__file__), str(ledger), str(output)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE)
