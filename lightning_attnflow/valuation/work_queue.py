"""The units of a run by index: read from the ledger, or made here, or taken over from another process that made them.

Processes on one ledger share the work: each claims a unit before it makes it, and leaves to the others what they have
claimed. Nobody waits. At the end of a batch a process makes what is claimed and still not there, from the last unit
to the first, so that the claims of a process that was killed hold nothing up; a unit made twice is the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lightning_attnflow.valuation.ledger import Ledger
from lightning_attnflow.valuation.walk import Unit

Source = Callable[[Sequence[int]], Iterator[Unit]]
_UNITS_A_WORKER = 4  # claimed at once: few enough to share, many enough that workers rarely wait for one another


class SharedUnits:
    """Units from a source, kept in a ledger that other processes may use at the same time.

    Args:
        source: makes units of given indices, in the same order.
        ledger: of the run, or None.
        seed: of the run.
        permutations_per_sample: orders that make a unit.
        n_players: of the game.
        n_jobs: workers behind the source.
    """

    def __init__(
        self,
        source: Source,
        ledger: Ledger | None,
        *,
        seed: int,
        permutations_per_sample: int,
        n_players: int,
        n_jobs: int,
    ) -> None:
        self._source, self._ledger, self._seed = source, ledger, seed
        self._shape = {"permutations_per_sample": permutations_per_sample, "n_players": n_players}
        self._block = 1 if n_jobs == 1 else 64 if n_jobs < 0 else _UNITS_A_WORKER * n_jobs

    def batch(self, wanted: range) -> Iterator[Unit]:
        """The units of a range, in the order of their index, each as soon as all before it are there."""
        if self._ledger is None:
            yield from self._source(wanted)
            return
        there: dict[int, Unit] = {}
        following = wanted.start
        for unit in self._as_they_come(self._ledger, wanted):
            there[unit.index] = unit
            while following in there:
                yield there.pop(following)
                following += 1

    def _as_they_come(self, ledger: Ledger, wanted: range) -> Iterator[Unit]:
        known = ledger.units(self._seed, indices=wanted, **self._shape)
        yield from known.values()
        left, of_others = [index for index in wanted if index not in known], list[int]()
        for start in range(0, len(left), self._block):
            block = left[start : start + self._block]
            mine = [index for index in block if ledger.claim(self._seed, index)]
            of_others += [index for index in block if index not in mine]
            yield from self._make(ledger, mine)
        while of_others:
            known = ledger.units(self._seed, indices=range(of_others[0], of_others[-1] + 1), **self._shape)
            yield from (known[index] for index in of_others if index in known)
            of_others = [index for index in of_others if index not in known]
            yield from self._make(ledger, of_others[: -self._block - 1 : -1])
            del of_others[-self._block :]

    def _make(self, ledger: Ledger, indices: Sequence[int]) -> Iterator[Unit]:
        for unit in self._source(indices):
            ledger.write(self._seed, unit)
            yield unit
