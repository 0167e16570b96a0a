"""Ledger: completed permutations in an SQLite file, so that a run can be interrupted and resumed at any moment.

A row is one permutation, identified by configuration, seed and index. Its marginals depend on these three only, so that
rows may be written by any process in any order. The rows of a sample are written in one transaction: after ``kill -9``
a sample is complete or absent.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lightning_attnflow._checks import check_items, check_path
from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import Truncation
from lightning_attnflow.valuation.ledger_file import LedgerFile
from lightning_attnflow.valuation.result import DataShapleyEstimate, DataShapleyResult
from lightning_attnflow.valuation.sampling import PermutationSample

_ALL = 2**62  # larger than the index of any permutation
_PAYOFFS = "empty and full value"  # stands for a seed in their checksum
_INSERT = "INSERT OR IGNORE INTO permutations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


class Ledger(LedgerFile):
    """Completed permutations of one configuration, for one or more seeds.

    Args:
        path: path of the file, which is created if it does not exist.
        configuration: JSON values on which the marginals depend besides the seed; None uses those of the file.

    Raises:
        LedgerError: the file cannot be read or written, is damaged, or belongs to another configuration.

    Example:
        >>> import tempfile
        >>> from lightning_attnflow.shapley import MaxPermutations
        >>> from lightning_attnflow.valuation import DataShapley, FrozenEncoderUtility
        >>> features, labels = np.array([[0.0], [0.2], [1.0], [0.9]]), [0, 0, 1, 1]
        >>> utility = FrozenEncoderUtility(features, labels, features, labels)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/permutations.ledger"
        ...     run = DataShapley(utility, stop=MaxPermutations(20), ledger=path).fit()
        ...     with Ledger(path) as ledger:
        ...         samples = ledger.samples(0, permutations_per_sample=2, n_players=4)
        ...         ledger.seeds(), ledger.configuration["n_players"], len(samples), samples[0].marginals.shape
        ([0], 4, 10, (2, 4))
    """

    def __init__(self, path: str | Path, configuration: Mapping[str, object] | None = None) -> None:
        super().__init__(path, may_create=configuration is not None)
        try:
            self.configuration = self._check_configuration(configuration)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def empty_and_full(self) -> tuple[float, float] | None:
        """Empty and full value, if they are known.

        Raises:
            LedgerError: they do not match their checksum.
        """
        ((*payoffs, checksum),) = self._read("SELECT v_empty, v_full, checksum FROM configuration")
        if payoffs == [None, None] and checksum is None:
            return None
        if checksum != _checksum(self._hash, _PAYOFFS, tuple(payoffs)):
            raise self._damaged("an empty and full value that do not match their checksum")
        return payoffs[0], payoffs[1]

    def write_empty_and_full(self, v_empty: float, v_full: float) -> None:
        """Store the empty and full value unless they are known."""
        payoffs = (float(v_empty), float(v_full))
        query = "UPDATE configuration SET v_empty = ?, v_full = ?, checksum = ? WHERE checksum IS NULL"
        self._write(query, [(*payoffs, _checksum(self._hash, _PAYOFFS, payoffs))])

    def seeds(self) -> list[int]:
        """Seeds with at least one permutation.

        Raises:
            LedgerError: a seed is no integer.
        """
        found = [row[0] for row in self._read("SELECT DISTINCT seed FROM permutations")]
        wrong = [seed for seed in found if not (isinstance(seed, str) and seed.isdecimal())]
        if wrong:
            raise self._damaged(f"permutations of the seed {wrong[0]!r}")
        return sorted(map(int, found))

    def write(self, seed: int, sample: PermutationSample) -> None:
        """Add the permutations of a sample in one transaction; existing rows are kept."""
        rows = []
        for row, marginals in enumerate(sample.marginals):
            variance = float(sample.training_variance[row])
            fields = (
                sample.index * len(sample.marginals) + row,
                marginals.astype("<f8").tobytes(),
                None if sample.lost is None else sample.lost[row].astype("<f8").tobytes(),
                int(sample.evaluations[row]),
                int(sample.cuts[row]),
                float(sample.seconds[row]),
                None if np.isnan(variance) else variance,
            )
            rows.append((self._hash, str(seed), *fields, _checksum(self._hash, seed, fields)))
        self._write(_INSERT, rows)

    def claim(self, seed: int, index: int) -> bool:
        """Claim a sample for this process; return False if it was claimed before."""
        return self._write("INSERT OR IGNORE INTO claims VALUES (?, ?)", [(str(seed), index)]) == 1

    def samples(
        self, seed: int, *, permutations_per_sample: int, n_players: int, indices: range | None = None
    ) -> dict[int, PermutationSample]:
        """Complete samples of a seed by index.

        Args:
            seed: seed of the run.
            permutations_per_sample: 1, or 2 for antithetic pairs.
            n_players: number of players.
            indices: range of samples to read; None reads all.

        Raises:
            LedgerError: a row does not match its checksum.
        """
        columns = "number, marginals, lost, evaluations, cut, seconds, training_variance, checksum"
        first, end = (
            (0, _ALL)
            if indices is None
            else (indices.start * permutations_per_sample, indices.stop * permutations_per_sample)
        )
        query = f"SELECT {columns} FROM permutations WHERE seed = ? AND number >= ? AND number < ? ORDER BY number"
        found: dict[int, list[tuple[Any, ...]]] = {}
        for *fields, checksum in self._read(query, (str(seed), first, end)):
            self._check_row(seed, tuple(fields), checksum)
            if len(fields[1]) != 8 * n_players:
                raise self._damaged(f"permutation {fields[0]} of seed {seed}, which has not {n_players} players")
            found.setdefault(fields[0] // permutations_per_sample, []).append(tuple(fields))
        return {index: _sample(index, rows) for index, rows in found.items() if len(rows) == permutations_per_sample}

    def absorb(self, other: Ledger) -> int:
        """Copy the permutations of another ledger of the same configuration; return the number of new ones.

        Raises:
            LedgerError: the configurations differ, the other ledger is damaged, or the ledgers contain different
                marginals of one permutation.
        """
        self._check_configuration(other.configuration)
        payoffs = other.empty_and_full()
        if payoffs is not None:
            self.write_empty_and_full(*payoffs)
        query = "SELECT seed, number, marginals, lost FROM permutations"
        existing = {tuple(row[:2]): row[2:] for row in self._read(query)}
        new = []
        for row in other._read("SELECT * FROM permutations"):
            other._check_row(row[1], row[2:-1], row[-1])
            known = existing.get((row[1], row[2]))
            if known is None:
                new.append(row)
            elif known != (row[3], row[4]):
                raise self._error(
                    f"different marginals of permutation {row[2]} of seed {row[1]} in {other.path}",
                    "identical marginals",
                    "One of the ledgers was created with other data or another software version.",
                )
        self._write(_INSERT, new)
        return len(new)

    def _check_row(self, seed: object, fields: tuple[Any, ...], checksum: object) -> None:
        if _checksum(self._hash, seed, fields) != checksum:
            raise self._damaged(f"permutation {fields[0]} of seed {seed}, which does not match its checksum")

    def _check_configuration(self, wanted: Mapping[str, object] | None) -> dict[str, object]:
        """Return the configuration of the file, which is stored if missing and must equal ``wanted``."""
        stored = self._read("SELECT hash, json FROM configuration")
        if not stored:
            if wanted is None:
                raise self._error("a ledger without a configuration", "a ledger of a run")
            text = json.dumps(wanted, sort_keys=True)
            digest = hashlib.sha256(text.encode()).hexdigest()
            # another process may have stored its configuration since
            once = "WHERE NOT EXISTS (SELECT 1 FROM configuration)"
            self._write(f"INSERT INTO configuration (hash, json) SELECT ?, ? {once}", [(digest, text)])
            return self._check_configuration(wanted)
        if len(stored) > 1:
            raise self._damaged(f"{len(stored)} configurations")
        self._hash, text = stored[0]
        if not isinstance(text, str) or hashlib.sha256(text.encode()).hexdigest() != self._hash:
            raise self._damaged("a configuration that does not match its hash")
        known: dict[str, object] = json.loads(text)
        if wanted is not None and json.dumps(wanted, sort_keys=True) != text:
            raise self._error(
                "; ".join(_differences(known, json.loads(json.dumps(wanted)))),
                "the configuration of the ledger",
                "Use another path for this configuration.",
            )
        return known


def merge_ledgers(sources: Iterable[str | Path], into: str | Path) -> int:
    """Copy the permutations of several ledgers of one configuration, usually with different seeds, into one.

    Args:
        sources: paths of the ledgers to read.
        into: path of the ledger to create or to extend.

    Returns:
        Number of permutations that were new.

    Raises:
        LedgerError: the configurations differ, a ledger is damaged, or ledgers contain different marginals of one
            permutation. A new ledger is then not created; an existing one may have permutations of the first sources.

    Example:
        >>> import tempfile, numpy as np
        >>> from lightning_attnflow.shapley import MaxPermutations
        >>> from lightning_attnflow.valuation import DataShapley, FrozenEncoderUtility
        >>> features, labels = np.array([[0.0], [0.2], [1.0], [0.9]]), [0, 0, 1, 1]
        >>> utility = FrozenEncoderUtility(features, labels, features, labels)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     ledgers = [f"{folder}/{seed}.jsonl" for seed in (0, 1)]
        ...     for seed, path in enumerate(ledgers):
        ...         run = DataShapley(utility, stop=MaxPermutations(20), seed=seed, ledger=path).fit()
        ...     merge_ledgers(ledgers, f"{folder}/both.jsonl"), ledger_result(f"{folder}/both.jsonl").n_permutations
        (40, 40)
    """
    new, path = 0, check_path("into", into)
    existed = path.exists()
    try:
        for source in check_items("sources", sources, "paths of ledgers"):
            with Ledger(source) as part, Ledger(path, part.configuration) as whole:
                new += whole.absorb(part)
    except BaseException:
        if not existed:  # no ledger with a part of the sources
            path.unlink(missing_ok=True)
        raise
    return new


def ledger_result(path: str | Path) -> DataShapleyResult:
    """Return the merged result of all seeds in a ledger.

    Args:
        path: path of the ledger.

    Returns:
        The result of the samples of each seed before the first missing one. The ``marginal_bounds`` of the utility
        are unknown here and are not used for the intervals.

    Raises:
        LedgerError: the ledger cannot be read.
        InputError: no sample is complete.

    Example:
        >>> import tempfile
        >>> from lightning_attnflow.shapley import MaxPermutations
        >>> from lightning_attnflow.valuation import DataShapley, FrozenEncoderUtility
        >>> features, labels = np.array([[0.0], [0.2], [1.0], [0.9]]), [0, 0, 1, 1]
        >>> utility = FrozenEncoderUtility(features, labels, features, labels)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/permutations.ledger"
        ...     run = DataShapley(utility, stop=MaxPermutations(20), ledger=path).fit()
        ...     result = ledger_result(path)
        >>> result.n_permutations, result.values.round(4).tolist() == run.result.values.round(4).tolist()
        (20, True)
        >>> result.values.round(4).tolist()
        [0.1036, 0.0857, 0.11, 0.08]
    """
    results = []
    with Ledger(path) as ledger:
        payoffs, truncation = ledger.empty_and_full(), ledger.configuration["truncation"]
        n_players = ledger.configuration["n_players"]
        assert isinstance(n_players, int)
        assert truncation is None or isinstance(truncation, dict)
        for seed in ledger.seeds():
            if payoffs is None:  # written before the first permutation
                raise ledger._damaged("permutations without an empty and full value")
            estimate = DataShapleyEstimate(
                n_players,
                v_empty=payoffs[0],
                v_full=payoffs[1],
                seed=seed,
                n_evaluations=2,
                truncation=None if truncation is None else Truncation(**truncation),
            )
            samples = ledger.samples(
                seed, permutations_per_sample=estimate.permutations_per_sample, n_players=n_players
            )
            for index in itertools.takewhile(samples.__contains__, itertools.count()):
                estimate.accumulate(samples[index])
            if estimate.n_samples:
                results.append(estimate.result())
    if not results:
        raise InputError("ledger", got=f"{path} without a complete sample", expected="at least one complete sample")
    merged = results[0]
    for result in results[1:]:
        merged = merged + result  # type: ignore[assignment]
    return merged


def _checksum(digest: str, seed: object, fields: tuple[object, ...]) -> bytes:
    check = hashlib.sha256(f"{digest} {seed}".encode())
    for value in fields:
        check.update(value if isinstance(value, bytes) else repr(value).encode())
        check.update(b"|")
    return check.digest()[:16]


def _sample(index: int, rows: list[tuple[Any, ...]]) -> PermutationSample:
    _, marginals, lost, evaluations, cuts, seconds, variances = zip(*rows, strict=True)
    is_audited = lost[0] is not None
    return PermutationSample(
        index=index,
        marginals=np.array([np.frombuffer(row, dtype="<f8") for row in marginals]),
        lost=np.array([np.frombuffer(row, dtype="<f8") for row in lost]) if is_audited else None,
        evaluations=np.array(evaluations, dtype=np.int64),
        cuts=np.array(cuts, dtype=np.int64),
        seconds=np.array(seconds),
        training_variance=np.array(variances, dtype=np.float64),  # None becomes NaN
    )


def _differences(known: Any, wanted: Any, place: str = "") -> list[str]:
    """Differences of two JSON values, as text ``place: here X, in the ledger Y``."""
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
