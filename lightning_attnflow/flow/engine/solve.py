"""Exact values of coalitions by maximum flows that stop at a known upper bound, and their minimum cuts."""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.solvers.dinic import Residual, Words, next_flow, residual_of, undo
from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner

Ints = NDArray[np.int64]
Flags = NDArray[np.uint8]

_MIN_BUILT_EDGES = 2**18  # residual networks grow by this many edges: large layers one by one, small networks whole

POOL_SIZE = 64
"""Cuts kept per layer: beyond a few dozen, another one is the minimum for almost no coalition."""


class ResidualNetworks(threading.local):
    """The residual network of one network with the last flow in it, a separate one for each thread.

    Args:
        edges: int64 (L + 1, T, T), as returned by `edges_of`.
    """

    def __init__(self, edges: Ints) -> None:
        self._edges, self._base = edges, len(edges)
        self._net: Residual | None = None
        self._start = len(edges)

    def above(self, layer: int) -> tuple[Residual, int]:
        """Return the calling thread's network of the layers above a layer, and the index of the lowest of them in it.

        Its flow starts at that lowest layer. Lower layers are built on first use, because most networks need no
        maximum flow there.
        """
        start = layer + 1
        if self._net is None or start < self._base:
            self._net = None  # release its memory first
            self._base = max(0, start - _MIN_BUILT_EDGES // self._edges[0].size)
            self._net = residual_of(self._edges[self._base :])
        elif start != self._start:
            undo(self._net)
        self._start = start
        return self._net, start - self._base


class CutPool(NamedTuple):
    """Minimum cuts of the game of one layer. Their capacity for a coalition is ``constants + sent(beyond)``."""

    constants: Ints  # (size,)
    beyond: Flags  # (size, T): positions of the layer above on the sink side
    used: Ints  # (1,): number of cuts in the pool


def empty_pool(n_positions: int, size: int = POOL_SIZE) -> CutPool:
    """Return a pool without cuts."""
    return CutPool(
        np.zeros(size, dtype=np.int64),
        np.zeros((size, n_positions), dtype=np.uint8),
        np.zeros(1, dtype=np.int64),
    )


def copy_pool(pool: CutPool) -> CutPool:
    """Return a copy of a pool."""
    return CutPool(pool.constants.copy(), pool.beyond.copy(), pool.used.copy())


def merge_pool(pool: CutPool, other: CutPool, known: int) -> None:
    """Add the new cuts of ``other``, which was a copy of ``pool`` with ``known`` cuts."""
    at = int(pool.used[0])
    found = slice(known, min(int(other.used[0]), known + POOL_SIZE - at))
    end = at + found.stop - found.start
    pool.constants[at:end], pool.beyond[at:end] = other.constants[found], other.beyond[found]
    pool.used[0] = end


@compiled
def solve(
    net: Residual,
    first: int,
    sent: Ints,
    upper: Ints,
    rows: Ints,
    pool: CutPool,
    values: Ints,
    stop: Flags,
) -> None:
    """Compute the exact values of coalitions.

    Args:
        net: residual network; each flow starts from the one before.
        first: the layer above the players.
        sent: (m, T), the capacity from each coalition to each position of the layer ``first``.
        upper: (m,), upper bounds, at which a flow is known to be maximum.
        rows: (k,), the coalitions to solve.
        pool: minimum cuts that are found are added to it.
        values: (m,), output, written at ``rows``.
        stop: (1,), set to 1 by another thread to stop.
    """
    for row in rows:
        if stop[0]:
            return
        bound = min(upper[row], pool_bound(pool, sent[row]))
        value = next_flow(net, first, sent[row], bound)
        if value < bound:
            add_cut(pool, net.unseen[first], sent[row], value)
        values[row] = value


@compiled_inner
def pool_bound(pool: CutPool, sent: Ints) -> int:
    """Return the least capacity of a cut of the pool for a coalition with capacities ``sent`` (T,)."""
    best = 2**62
    for cut in range(pool.used[0]):
        total = pool.constants[cut]
        for j in range(len(sent)):
            total += sent[j] * pool.beyond[cut, j]
        best = min(best, total)
    return best


@compiled_inner
def add_cut(pool: CutPool, unseen: Words, sent: Ints, value: int) -> None:
    at = pool.used[0]
    if at == len(pool.constants):
        return
    crossing = 0
    for j in range(len(sent)):
        beyond = (unseen[j >> 6] >> np.uint64(j & 63)) & np.uint64(1)
        pool.beyond[at, j] = beyond
        if beyond:
            crossing += sent[j]
    pool.constants[at] = value - crossing
    pool.used[0] = at + 1
