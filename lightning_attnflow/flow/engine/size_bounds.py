"""The least that coalitions can be paid by how many they are, proven layer by layer from the readout down.

What a coalition S of layer k is paid is v_k(S) = min over sets X of layer k + 1 of v_{k+1}(X) + s(not X), where s is
what S sends (see `facts`). With g_{k+1}(m), the least of any m positions of layer k + 1,

    v_k(S) >= min over m of g_{k+1}(m) + (what s leaves without its m largest entries),

and, with H(s, m) the least that any s players send without the m largest entries of each, g_k(s) is at least
min over m of g_{k+1}(m) + H(s, m). In layers far from the readout two players reach everything, whoever they are; this
proves it without a flow.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.solvers.jit import compiled_inner

Ints = NDArray[np.int64]


class LeastBySize:
    """Lower bounds g(s) of v(S) over all coalitions of s players, made when first asked for.

    Args:
        alone: (n,), v({i}).
        sent: (n, T), what each player can send to each position of the next layer.
        above: the bounds of the positions of the next layer or, where that is the last, the readout (T,).
    """

    def __init__(self, alone: Ints, sent: Ints, above: LeastBySize | Ints) -> None:
        self._alone, self._sent, self._above = alone, sent, above

    @cached_property
    def values(self) -> Ints:
        """int64 (n + 1,), by size; not decreasing."""
        if isinstance(self._above, LeastBySize):
            by_flow = _through(self._sent, self._above.values)
        else:
            by_flow = _into_readout(self._sent, self._above)
        # Of any s players one is paid at least the s-th least of what they are paid alone.
        least = np.maximum(by_flow, np.sort(self._alone))
        return np.concatenate([[0], np.maximum.accumulate(least)])


@compiled_inner
def least_of_supply(supply: Ints, above: Ints) -> int:
    """The first formula for a coalition that sends ``supply`` (T,); ``above`` (T + 1,) are the g of the next layer."""
    heap, left = supply.copy(), 0
    n_left = len(heap)
    for at in range(n_left - 1, -1, -1):
        left += supply[at]
        _sift_down(heap, at, n_left)
    best = above[n_left]
    for m in range(len(supply)):
        best = min(best, above[m] + left)
        if above[m] == above[len(supply)]:
            break
        left -= heap[0]
        n_left -= 1
        heap[0] = heap[n_left]
        _sift_down(heap, 0, n_left)
    return int(best)


@compiled_inner
def _sift_down(heap: Ints, at: int, end: int) -> None:
    """Make ``heap[at:end]``, whose children are heaps with the largest entry first, one too (Williams 1964).

    numba's own sort takes ten times as long to compile.
    """
    amount = heap[at]
    while 2 * at + 1 < end:
        child = 2 * at + 1
        if child + 1 < end and heap[child + 1] > heap[child]:
            child += 1
        if heap[child] <= amount:
            break
        heap[at] = heap[child]
        at = child
    heap[at] = amount


def _through(sent: Ints, above: Ints) -> Ints:
    """The second formula: bounds by size, (n,)."""
    n_open = int(np.searchsorted(above, above[-1]))  # sizes at which the next layer may not reach everything
    if n_open == 0:
        return np.zeros(len(sent), dtype=np.int64)
    n_positions = sent.shape[1]
    largest = np.sort(np.partition(sent, n_positions - n_open, axis=1)[:, n_positions - n_open :], axis=1)[:, ::-1]
    left = sent.sum(axis=1) - np.cumsum(largest, axis=1).T + largest.T  # (n_open, n), of each without its m largest
    by_size = above[:n_open, None] + np.cumsum(np.sort(left, axis=1), axis=1)
    least: Ints = np.minimum(by_size.min(axis=0), above[-1])
    return least


def _into_readout(sent: Ints, readout: Ints) -> Ints:
    """Bounds by size, (n,), of the layer below the last: from the s players who send least to each position."""
    received = np.cumsum(np.sort(sent, axis=0), axis=0)  # (n, T)
    least: Ints = np.minimum(received, readout).sum(axis=1)
    return least
