"""The file of a ledger: SQLite in WAL mode, made whole, opened with checks, and written to in transactions."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType

from lightning_attnflow.errors import LedgerError

_APPLICATION_ID = 0x61746E66  # "atnf", in the header of the file
_FORMAT = 2
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
CREATE TABLE claims (
    seed TEXT NOT NULL,
    unit INTEGER NOT NULL,
    PRIMARY KEY (seed, unit)
) WITHOUT ROWID;
"""


class LedgerFile:
    """An SQLite file with the tables of a ledger.

    Args:
        path: of the file.
        may_create: whether to make it if it is not there.

    Raises:
        LedgerError: if the file cannot be made, read or written, or is damaged or no ledger.
    """

    def __init__(self, path: str | Path, *, may_create: bool) -> None:
        self.path = Path(path)
        if not self.path.exists():
            if not may_create:
                raise self._error("no such file", "a ledger", "Check the path.")
            self._create()
        self._connection = self._open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

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

    def _read(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._connection.execute(query, values)
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _write(self, query: str, rows: Iterable[tuple[object, ...]]) -> int:
        """Run a query for all rows in one transaction; return how many rows of the file it changed."""
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                changed = self._connection.executemany(query, rows).rowcount
                self._connection.execute("COMMIT")
                return changed
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
