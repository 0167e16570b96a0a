"""The ledger: finished orders in an SQLite file, so that a run can be killed at any moment and goes on.

One row is one finished order, keyed by configuration, seed and number of the order. What an order yields depends on
these three alone, so rows may come from any process, in any order, and a row that is there already is left alone.
The rows of a unit are written in one transaction: after ``kill -9`` a unit is there as a whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightning_attnflow.valuation.ledger_file import LedgerFile
from lightning_attnflow.valuation.walk import Unit

_ALL = 2**62  # beyond the number of any order


class Ledger(LedgerFile):
    """Finished orders of one configuration, of one seed or several, in one SQLite file in WAL mode.

    Args:
        path: of the file; it is made if it is not there.
        configuration: what the payoffs and the orders depend on besides the seed; JSON values. None takes the one
            of the file.

    Raises:
        LedgerError: if the file cannot be made, read or written, is damaged, or belongs to another configuration.
    """

    def __init__(self, path: str | Path, configuration: Mapping[str, object] | None = None) -> None:
        super().__init__(path, may_create=configuration is not None)
        try:
            self.configuration = self._agree(configuration)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Ledger:
        return self

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

    def claim(self, seed: int, index: int) -> bool:
        """Whether this process is the first to ask for a unit: other ones then leave it to this one for a while."""
        return self._write("INSERT OR IGNORE INTO claims VALUES (?, ?)", [(str(seed), index)]) == 1

    def units(
        self, seed: int, *, permutations_per_sample: int, n_players: int, indices: range | None = None
    ) -> dict[int, Unit]:
        """The whole units of a seed, by index.

        Args:
            seed: of the run.
            permutations_per_sample: orders that make a unit.
            n_players: of the game.
            indices: a range of units to look at; None takes all.

        Raises:
            LedgerError: if a row does not match its checksum.
        """
        columns = "number, marginals, lost, evaluations, cut, seconds, noise, checksum"
        first, end = (
            (0, _ALL)
            if indices is None
            else (indices.start * permutations_per_sample, indices.stop * permutations_per_sample)
        )
        query = f"SELECT {columns} FROM orders WHERE seed = ? AND number >= ? AND number < ? ORDER BY number"
        units: dict[int, list[tuple[Any, ...]]] = {}
        for *fields, checksum in self._read(query, (str(seed), first, end)):
            if _checksum(self._hash, seed, tuple(fields)) != checksum or len(fields[1]) != 8 * n_players:
                raise self._damaged(f"order {fields[0]} of seed {seed}, which does not match its checksum")
            units.setdefault(fields[0] // permutations_per_sample, []).append(tuple(fields))
        return {index: _unit(index, rows) for index, rows in units.items() if len(rows) == permutations_per_sample}

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
