"""SQLite file of a ledger, in WAL mode, with integrity checks."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning_attnflow._checks import check_path
from lightning_attnflow.errors import LedgerError

_APPLICATION_ID = 0x61746E66  # "atnf", in the header of the file
_FORMAT = 4
_BUSY_SECONDS = 60.0  # maximum time to wait for a lock of another process

_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_FORMAT};
CREATE TABLE configuration (hash TEXT PRIMARY KEY, json TEXT NOT NULL, v_empty REAL, v_full REAL, checksum BLOB);
CREATE TABLE permutations (
    configuration TEXT NOT NULL REFERENCES configuration(hash),
    seed TEXT NOT NULL,
    number INTEGER NOT NULL,
    marginals BLOB NOT NULL,
    lost BLOB,
    evaluations INTEGER NOT NULL,
    cut INTEGER NOT NULL,
    seconds REAL NOT NULL,
    training_variance REAL,
    checksum BLOB NOT NULL,
    PRIMARY KEY (configuration, seed, number)
) WITHOUT ROWID;
CREATE TABLE claims (
    seed TEXT NOT NULL,
    sample INTEGER NOT NULL,
    PRIMARY KEY (seed, sample)
) WITHOUT ROWID;
"""


class LedgerFile:
    """SQLite file with the tables of a ledger."""

    def __init__(self, path: str | Path, *, may_create: bool) -> None:
        self.path = check_path("ledger", path)
        if not self.path.exists():
            if not may_create:
                raise self._error("no such file", "a ledger")
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
        """Create the file under a temporary name and link it to its path once it is complete."""
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
            os.close(handle)
            try:
                with closing(sqlite3.connect(name)) as fresh:
                    fresh.execute("PRAGMA journal_mode = WAL")
                    fresh.executescript(_SCHEMA)
                os.link(name, self.path)
            except FileExistsError:
                pass  # another process has created it
            finally:
                os.unlink(name)
        except (OSError, sqlite3.Error) as error:
            raise self._error(str(error), "a writable path") from error

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            if not os.access(self.path, os.R_OK | os.W_OK):
                raise self._error("no permission", "a writable file")
            if self.path.is_dir() or self.path.stat().st_size == 0:
                raise self._damaged("a folder" if self.path.is_dir() else "0 bytes")
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
                raise self._error("another SQLite database", "a ledger", "Choose another path. The file is unchanged.")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version != _FORMAT:
                got, expected = f"a ledger of format {version}", f"a ledger of format {_FORMAT}"
                raise self._error(got, expected, "Choose another path. The file is unchanged.")
            problem = connection.execute("PRAGMA quick_check").fetchone()[0]
            if problem != "ok":
                raise self._damaged(problem)
            connection.execute("PRAGMA synchronous = NORMAL")  # in WAL mode, safe against kill -9
            # Test writing now, so that a read-only folder is reported before any evaluation.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
            return connection
        except BaseException as error:
            if connection is not None:
                connection.close()
            if isinstance(error, sqlite3.OperationalError) and "readonly" in str(error):
                raise self._error(str(error), "a writable file") from error
            if isinstance(error, sqlite3.Error):
                raise self._damaged(error) from error
            raise

    def _read(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query; a damaged file may fail at any of them."""
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _write(self, query: str, rows: Iterable[tuple[object, ...]]) -> int:
        """Run a query for all rows in one transaction; return the number of changed rows."""
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
                str(error),
                "disk space and write permission",
                "Completed samples are kept: free some space and run the same command again.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(error) from error

    def _error(self, got: object, expected: str, remedy: str | None = None) -> LedgerError:
        return LedgerError(f"ledger {self.path}", got=got, expected=expected, remedy=remedy)

    def _damaged(self, got: object) -> LedgerError:
        return self._error(got, "an intact ledger", "The file is damaged: restore a copy, or delete it to start again.")
