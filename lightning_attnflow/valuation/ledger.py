"""The ledger: finished orders in an SQLite file, so that a run can be killed at any moment and goes on.

One row is one finished order, keyed by configuration, seed and number of the order. What an order yields depends on
these three alone, so rows may come from any process, in any order, and a row that is there already is left alone.
The rows of a unit are written in one transaction: after ``kill -9`` a unit is there as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from lightning_attnflow.errors import LedgerError
from lightning_attnflow.valuation.walk import Unit

_APPLICATION_ID = 0x61746E66  # "atnf", in the header of the file
_FORMAT = 1
_BUSY_SECONDS = 60.0  # how long a process waits for another one's write

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT};
CREATE TABLE configuration (hash TEXT PRIMARY KEY, json TEXT NOT NULL, v_empty REAL, v_full REAL);
CREATE TABLE orders (
    configuration TEXT NOT NULL REFERENCES configuration(hash),
    seed TEXT NOT NULL,
    number INTEGER NOT NULL,
    marginals BLOB NOT NULL,
    lost BLOB,
    evaluations INTEGER NOT NULL,
    cut INTEGER NOT NULL,
    seconds REAL NOT NULL,
    noise REAL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (configuration, seed, number)
) WITHOUT ROWID;
"""


class Ledger:
    """Finished orders of one configuration, of one seed or several, in one SQLite file in WAL mode.

    Args:
        path: of the file; it is made if it is not there.
        configuration: what the payoffs and the orders depend on besides the seed; JSON values. None takes the one
            of the file.

    Raises:
        LedgerError: if the file cannot be made, read or written, is damaged, or belongs to another configuration.
    """

    def __init__(self, path: str | Path, configuration: Mapping[str, object] | None = None) -> None:
        self.path = Path(path)
        if not self.path.exists():
            if configuration is None:
                raise self._error("no such file", "a ledger", "Check the path.")
            self._create()
        self._connection = self._open()
        try:
            self.configuration = self._agree(configuration)
        except BaseException:
            self._connection.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def ends(self) -> tuple[float, float] | None:
        """v(empty) and v(N) if they are known."""
        row = self._read("SELECT v_empty, v_full FROM configuration WHERE v_full IS NOT NULL").fetchone()
        return None if row is None else (row[0], row[1])

    def write_ends(self, v_empty: float, v_full: float) -> None:
        """Note v(empty) and v(N), unless they are known."""
        self._write("UPDATE configuration SET v_empty = ?, v_full = ? WHERE v_full IS NULL", [(v_empty, v_full)])

    def seeds(self) -> list[int]:
        """The seeds there are orders of."""
        return sorted(int(row[0]) for row in self._read("SELECT DISTINCT seed FROM orders"))

    def write(self, seed: int, unit: Unit) -> None:
        """Add a unit as a whole; rows that are there already stay."""
        rows = []
        for row, marginals in enumerate(unit.marginals):
            number = unit.index * len(unit.marginals) + row
            fields = (
                number,
                marginals.astype("<f8").tobytes(),
                None if unit.lost is None else unit.lost[row].astype("<f8").tobytes(),
                int(unit.evaluations[row]),
                int(unit.cuts[row]),
                float(unit.seconds[row]),
                None if np.isnan(unit.noise[row]) else float(unit.noise[row]),
            )
            rows.append((self._hash, str(seed), *fields, _checksum(self._hash, seed, fields)))
        self._write("INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def units(self, seed: int, *, orders_per_unit: int, n_players: int) -> dict[int, Unit]:
        """All whole units of a seed, by index.

        Raises:
            LedgerError: if a row does not match its checksum.
        """
        columns = "number, marginals, lost, evaluations, cut, seconds, noise, checksum"
        query = f"SELECT {columns} FROM orders WHERE seed = ? ORDER BY number"
        units: dict[int, list[tuple[Any, ...]]] = {}
        for *fields, checksum in self._read(query, (str(seed),)):
            if _checksum(self._hash, seed, tuple(fields)) != checksum or len(fields[1]) != 8 * n_players:
                raise self._damaged(f"order {fields[0]} of seed {seed}, which does not match its checksum")
            units.setdefault(fields[0] // orders_per_unit, []).append(tuple(fields))
        return {index: _unit(index, rows) for index, rows in units.items() if len(rows) == orders_per_unit}

    def absorb(self, other: Ledger) -> int:
        """Copy the orders of another ledger of the same configuration; return how many were new.

        Raises:
            LedgerError: if the configurations differ, or both hold an order with different marginals.
        """
        self._agree(other.configuration)
        ends = other.ends()
        if ends is not None:
            self.write_ends(*ends)
        mine = {tuple(row[:2]): row[2:] for row in self._read("SELECT seed, number, marginals, lost FROM orders")}
        new = []
        for row in other._read("SELECT * FROM orders"):
            known = mine.get((row[1], row[2]))
            if known is None:
                new.append(row)
            elif known != (row[3], row[4]):
                raise self._error(
                    f"other marginals for order {row[2]} of seed {row[1]} in {other.path}",
                    "the same bytes, for an order depends on configuration and seed alone",
                    "One of the two was made with other data or software: keep only one.",
                )
        self._write("INSERT OR IGNORE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", new)
        return len(new)

    # -- the file ------------------------------------------------------------------------------------------------

    def _create(self) -> None:
        """Make the file under another name and link it into place when whole: a ledger of 0 bytes is a damaged one."""
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
            os.close(handle)
            try:
                with closing(sqlite3.connect(name)) as fresh:
                    fresh.execute("PRAGMA journal_mode = WAL")
                    fresh.executescript(_SCHEMA)
                os.link(name, self.path)
            except FileExistsError:
                pass  # another process was faster; its file is as good
            finally:
                os.unlink(name)
        except (OSError, sqlite3.Error) as error:
            raise self._error(
                f"{error}", "a path that can be written", "Choose another path for the ledger."
            ) from error

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            if not os.access(self.path, os.R_OK | os.W_OK):
                raise self._error("no permission", "a file that can be written", "Choose another path for the ledger.")
            if self.path.is_dir() or self.path.stat().st_size == 0:
                raise self._damaged("a folder" if self.path.is_dir() else "0 bytes")
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            facts = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
            if facts != [_APPLICATION_ID, _FORMAT]:
                raise self._error(
                    f"an SQLite file with the marks {facts}",
                    f"{[_APPLICATION_ID, _FORMAT]}, those of a ledger of this version",
                    "Choose another path; this file is not touched.",
                )
            problem = connection.execute("PRAGMA quick_check").fetchone()[0]
            if problem != "ok":
                raise self._damaged(problem)
            connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode: safe against kill -9
            # Said before any work: a folder that turned read-only would else surface after the first unit.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            return connection
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.OperationalError) and "readonly" in str(error):
                raise self._error(f"{error}", "a file that can be written", "Choose another path.") from error
            if isinstance(error, sqlite3.Error):
                raise self._damaged(error) from error
            raise

    def _agree(self, wanted: Mapping[str, object] | None) -> dict[str, object]:
        """The configuration of the file, written if there is none; an error if it is not the wanted one."""
        stored = self._read("SELECT hash, json FROM configuration").fetchone()
        if stored is None:
            if wanted is None:
                raise self._error("a ledger without a configuration", "one that was used", "Delete the file.")
            text = json.dumps(wanted, sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()
            self._write("INSERT OR IGNORE INTO configuration (hash, json) VALUES (?, ?)", [(digest, text)])
            return self._agree(wanted)
        self._hash, text = stored
        known: dict[str, object] = json.loads(text)
        if hashlib.sha256(text.encode()).hexdigest() != self._hash:
            raise self._damaged("a configuration that does not match its hash")
        if wanted is not None and json.dumps(wanted, sort_keys=True) != text:
            raise self._error(
                "; ".join(_differences(known, json.loads(json.dumps(wanted)))),
                "the configuration the ledger was made with",
                "Use another path for this configuration, or go back to the one of the ledger.",
            )
        return known

    def _read(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _write(self, query: str, rows: Iterable[tuple[object, ...]]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._connection.executemany(query, rows)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise self._error(
                f"{error}",
                "room and permission to write",
                "What was finished is kept: free some space and run the same command again.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _error(self, got: object, expected: str, remedy: str) -> LedgerError:
        return LedgerError(f"ledger {self.path}", got=got, expected=expected, remedy=remedy)

    def _damaged(self, got: object) -> LedgerError:
        return self._error(got, "a whole ledger", "The file is damaged: restore a copy, or delete it to start afresh.")


def merge_ledgers(sources: Iterable[str | Path], into: str | Path) -> int:
    """Copy the orders of several ledgers of one configuration, usually of different seeds, into one.

    Args:
        sources: paths of the ledgers; they stay as they are.
        into: path of the ledger to make or to extend.

    Returns:
        How many orders were new to it.

    Raises:
        LedgerError: if a configuration differs, or two hold the same order with different marginals.
    """
    new = 0
    for source in sources:
        with Ledger(source) as part, Ledger(into, part.configuration) as whole:
            new += whole.absorb(part)
    return new


def _checksum(digest: str, seed: int, fields: tuple[object, ...]) -> bytes:
    check = hashlib.sha256(f"{digest} {seed}".encode())
    for value in fields:
        check.update(value if isinstance(value, bytes) else repr(value).encode())
        check.update(b"|")
    return check.digest()[:16]


def _unit(index: int, rows: list[tuple[Any, ...]]) -> Unit:
    _, marginals, lost, evaluations, cuts, seconds, noise = zip(*rows, strict=True)
    audited = lost[0] is not None
    return Unit(
        index=index,
        marginals=np.array([np.frombuffer(row, dtype="<f8") for row in marginals]),
        lost=np.array([np.frombuffer(row, dtype="<f8") for row in lost]) if audited else None,
        evaluations=np.array(evaluations, dtype=np.int64),
        cuts=np.array(cuts, dtype=np.int64),
        seconds=np.array(seconds),
        noise=np.array(noise, dtype=np.float64),  # None becomes NaN
    )


def _differences(known: Any, wanted: Any, place: str = "") -> list[str]:
    """What differs between two JSON values, as clauses ``place: here X, in the ledger Y``."""
    if isinstance(known, dict) and isinstance(wanted, dict):
        found = []
        for key in sorted(known.keys() | wanted.keys()):
            found += _differences(
                known.get(key, "nothing"), wanted.get(key, "nothing"), f"{place}{'.' * bool(place)}{key}"
            )
        return found
    return [] if known == wanted else [f"{place}: here {_short(wanted)}, in the ledger {_short(known)}"]


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
