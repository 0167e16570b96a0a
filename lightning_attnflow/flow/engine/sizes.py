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

from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner

Ints = NDArray[np.int64]
_FEW = 8  # so many are found one by one in less time than a sort takes


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
    ascending = np.sort(supply)
    left = supply.sum()
    best = above[-1]
    for m in range(len(supply)):
        best = min(best, above[m] + left)
        if above[m] == above[-1]:
            break
        left -= ascending[-1 - m]
    return int(best)


@compiled_inner
def _largest(amounts: Ints, count: int) -> Ints:
    """The ``count`` largest of ``amounts``, descending."""
    if count > _FEW:
        return np.sort(amounts)[::-1][:count]
    left, largest = amounts.copy(), np.empty(count, dtype=np.int64)
    for m in range(count):
        at = np.argmax(left)
        largest[m], left[at] = left[at], -1
    return largest


@compiled
def _through(sent: Ints, above: Ints) -> Ints:
    """The second formula: bounds by size, (n,)."""
    n = len(sent)
    least = np.full(n, above[-1])
    n_open = np.searchsorted(above, above[-1])  # sizes at which the next layer may not reach everything
    left = np.empty((n_open, n), dtype=np.int64)
    for i in range(n):
        rest = sent[i].sum()
        largest = _largest(sent[i], n_open)
        for m in range(n_open):
            left[m, i] = rest
            rest -= largest[m]
    for m in range(n_open):
        bound = above[m]
        for size, amount in enumerate(np.sort(left[m])):
            bound += amount
            least[size] = min(least[size], bound)
    return least


def _into_readout(sent: Ints, readout: Ints) -> Ints:
    """Bounds by size, (n,), of the layer below the last: from the s players who send least to each position."""
    received = np.cumsum(np.sort(sent, axis=0), axis=0)  # (n, T)
    least: Ints = np.minimum(received, readout).sum(axis=1)
    return least
