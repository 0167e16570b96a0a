"""Work queue of a run: samples are read from the ledger, computed here, or computed by another process.

Processes that use the same ledger claim samples before they compute them and skip samples claimed by others. At the end
of a batch, samples that are claimed but still missing are computed here, the last ones first, so that the claims of a
killed process block nothing. A sample that is computed twice has identical values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from lightning_attnflow.valuation.ledger import Ledger
from lightning_attnflow.valuation.sampling import PermutationSample

Source = Callable[[Sequence[int]], Iterator[PermutationSample]]
_SAMPLES_PER_WORKER = 4  # claimed together: few enough to share the work, enough to keep workers busy


class WorkQueue:
    """Samples of a run in the order of their indices."""

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
        self._block = 1 if n_jobs == 1 else 64 if n_jobs < 0 else _SAMPLES_PER_WORKER * n_jobs

    def batch(self, indices: range) -> Iterator[PermutationSample]:
        """Yield the samples of a range in the order of their indices."""
        if self._ledger is None:
            yield from self._source(indices)
            return
        available: dict[int, PermutationSample] = {}
        following = indices.start
        for sample in self._unordered(self._ledger, indices):
            available[sample.index] = sample
            while following in available:
                yield available.pop(following)
                following += 1

    def _unordered(self, ledger: Ledger, indices: range) -> Iterator[PermutationSample]:
        known = ledger.samples(self._seed, indices=indices, **self._shape)
        yield from known.values()
        missing, claimed_by_others = [index for index in indices if index not in known], list[int]()
        for start in range(0, len(missing), self._block):
            block = missing[start : start + self._block]
            claimed = [index for index in block if ledger.claim(self._seed, index)]
            claimed_by_others += [index for index in block if index not in claimed]
            yield from self._compute(ledger, claimed)
        while claimed_by_others:
            remaining = range(claimed_by_others[0], claimed_by_others[-1] + 1)
            known = ledger.samples(self._seed, indices=remaining, **self._shape)
            yield from (known[index] for index in claimed_by_others if index in known)
            claimed_by_others = [index for index in claimed_by_others if index not in known]
            yield from self._compute(ledger, claimed_by_others[: -self._block - 1 : -1])
            del claimed_by_others[-self._block :]

    def _compute(self, ledger: Ledger, indices: Sequence[int]) -> Iterator[PermutationSample]:
        for sample in self._source(indices):
            ledger.write(self._seed, sample)
            yield sample
