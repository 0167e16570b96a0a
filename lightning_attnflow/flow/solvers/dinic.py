"""Dinic's algorithm on dense layered arrays, with sets of nodes as bit masks and an undo log.

Layers of nodes are 0..L; the sink is node 0 of layer L + 1. ``left[l, i, j]`` is the residual capacity of the edge
(l, i) -> (l + 1, j) of capacity ``edges[l, i, j]``. ``ahead[l, i]`` and ``behind[l, j]`` are bit masks of the edges
with residual capacity and of the edges with flow, so that a breadth-first search needs a few word operations per node
instead of a scan of its edges. Every push is logged, so that `undo` visits only the edges that were used.

Source: Dinic (1970). Sets of nodes are ``W = ceil(T / 64)`` words of 64 bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.solvers.jit import compiled, compiled_inner, lowest_bit

UNBOUNDED = 2**62
_RETRY = 32
_MIN_SHARED = 10  # flows that share less than the tenth part of their outflow are computed from zero flow
Words = NDArray[np.uint64]
_ONE = np.uint64(1)
_ZERO = np.uint64(0)


class Residual(NamedTuple):
    """The residual network of one thread and the work arrays of its searches."""

    edges: NDArray[np.int64]  # (L + 1, T, T), read only, shared by threads
    left: NDArray[np.int64]  # (L + 1, T, T)
    ahead: NDArray[np.uint64]  # (L + 1, T, W)
    behind: NDArray[np.uint64]  # (L + 1, T, W)
    levels: NDArray[np.uint64]  # (nodes + 1, L + 2, W): the nodes at each distance, layer by layer
    unseen: NDArray[np.uint64]  # (L + 2, W): after a failed search, the sink side of a minimum cut
    stack: NDArray[np.int64]  # (nodes + 1, 4): layer, node, available, used
    log: NDArray[np.int32]  # (capacity, 3): layer, from, to
    logged: NDArray[np.int64]  # (1,): pushes since the flow was zero
    taken: NDArray[np.int64]  # (T,): outflow of each position of the layer where the flow starts
    effort: NDArray[np.int64]  # (4,): steps so far; mean steps of flows from zero and from another flow; flows so far


def edges_of(capacities: NDArray[np.int64], readout: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the capacities of all edges including those to the sink, int64 (L + 1, T, T) ``[layer, from, to]``.

    Args:
        capacities: (L, T, T) ``[layer, query, key]``.
        readout: (T,).
    """
    n_layers, n = capacities.shape[:2]
    edges = np.zeros((n_layers + 1, n, n), dtype=np.int64)
    edges[:n_layers] = capacities.transpose(0, 2, 1)
    edges[n_layers, :, 0] = readout
    return edges


def residual_of(edges: NDArray[np.int64], log_capacity: int = 2**18) -> Residual:
    """Build the residual network of zero flow.

    Args:
        edges: (L + 1, T, T), as returned by `edges_of`.
        log_capacity: number of pushes that are logged; after more of them, `undo` scans all edges.
    """
    top, n = edges.shape[:2]
    words = (n + 63) // 64
    nodes = top * n + 1
    ahead = np.stack([pack_nodes(layer > 0) for layer in edges])
    return Residual(
        edges,
        edges.copy(),
        ahead,
        np.zeros_like(ahead),
        np.zeros((nodes + 1, top + 1, words), dtype=np.uint64),
        np.zeros((top + 1, words), dtype=np.uint64),
        np.zeros((nodes + 1, 4), dtype=np.int64),
        np.zeros((log_capacity, 3), dtype=np.int32),
        np.zeros(1, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.zeros(4, dtype=np.int64),
    )


def pack_nodes(members: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Return sets of nodes, bool (..., T), as words, uint64 (..., W)."""
    words = (members.shape[-1] + 63) // 64
    padded = np.zeros((*members.shape[:-1], 64 * words), dtype=np.uint8)
    padded[..., : members.shape[-1]] = members
    return np.packbits(padded, axis=-1, bitorder="little").view("<u8").astype(np.uint64, copy=False)


@compiled
def maximise(net: Residual, first: int, sources: Words, limit: int) -> int:
    """Push up to ``limit`` from ``sources`` (W words, nodes of layer ``first``) to the sink, starting at zero flow.

    Returns:
        The amount pushed. If it is less than ``limit``, the flow is maximum and ``net.unseen`` is the sink side of a
        minimum cut.
    """
    supply = np.zeros(net.left.shape[1], dtype=np.int64)
    for w in range(len(sources)):
        starts = sources[w]
        while starts:
            supply[(w << 6) + lowest_bit(starts)] = UNBOUNDED
            starts &= starts - _ONE
    return supply_flow(net, first, supply, limit)


@compiled_inner
def supply_flow(net: Residual, first: int, supply: NDArray[np.int64], limit: int) -> int:
    """Return the value of the maximum flow to the sink from ``supply`` (T,) at layer ``first``, or ``limit`` if less.

    The flow that ``net`` contains, of any other supply at the same layer, is changed instead of computed anew. Where
    its outflow ``net.taken`` exceeds ``supply`` the excess is not withdrawn: it is a target, like the sink, of the
    flow from positions with unused supply. What remains of it in the end would flow from outside of the source side of
    the minimum cut, so that it does not change the maximum flow.

    Returns:
        The value. If it is less than ``limit``, ``net.unseen`` is the sink side of the minimum cut that is nearest to
        the source.
    """
    taken, words = net.taken, net.levels.shape[2]
    spare, excess = np.zeros(words, dtype=np.uint64), np.zeros(words, dtype=np.uint64)
    value = 0
    for j in range(len(supply)):
        value += min(taken[j], supply[j])
        if taken[j] < supply[j]:
            spare[j >> 6] |= _ONE << np.uint64(j & 63)
        elif taken[j] > supply[j]:
            excess[j >> 6] |= _ONE << np.uint64(j & 63)
    while value < limit:
        distance = _search(net, first, spare, excess)
        if distance == 0:
            return value
        for w in range(words):
            starts = spare[w]
            while starts and value < limit:
                source = (w << 6) + lowest_bit(starts)
                starts &= starts - _ONE
                room = min(limit - value, supply[source] - taken[source])
                pushed = _descend(net, first, source, room, distance, supply, excess)
                value += pushed
                taken[source] += pushed
                if taken[source] == supply[source]:
                    spare[w] &= ~(_ONE << np.uint64(source & 63))
    return limit


@compiled_inner
def next_flow(net: Residual, first: int, supply: NDArray[np.int64], limit: int) -> int:
    """Return the same as `supply_flow`, from the present flow or from zero flow, whichever took fewer steps before."""
    shared = 0
    for j in range(len(supply)):
        shared += min(net.taken[j], supply[j])
    effort = net.effort
    effort[3] += 1
    slower = effort[2] > effort[1] and effort[3] % _RETRY != 0
    cold = slower or _MIN_SHARED * shared < limit
    if cold:
        undo(net)
    before = effort[0]
    value = supply_flow(net, first, supply, limit)
    steps = effort[0] - before
    if cold:
        steps += net.logged[0]
        effort[1] += (steps - effort[1]) // 4
    else:
        effort[2] += (steps - effort[2]) // 4
    return value


@compiled_inner
def _search(net: Residual, first: int, spare: Words, excess: Words) -> int:
    """Label nodes by distance from ``spare``, one word at a time.

    Returns:
        The distance of the nearest targets, the sink and the positions ``excess`` of the same layer, or 0 if none is
        reached. At this distance only targets are labelled.
    """
    n = net.left.shape[1]
    top = net.left.shape[0]
    words = spare.shape[0]
    unseen, levels = net.unseen, net.levels
    for layer in range(first, top):
        for w in range(words):
            unseen[layer, w] = ~_ZERO
        if n & 63:
            unseen[layer, words - 1] &= (_ONE << np.uint64(n & 63)) - _ONE
    for w in range(words):
        unseen[top, w] = _ZERO
        unseen[first, w] &= ~spare[w]
    unseen[top, 0] = _ONE
    for layer in range(first, top + 1):
        for w in range(words):
            levels[0, layer, w] = spare[w] if layer == first else _ZERO
    distance, visits = 0, 0
    lowest, highest = first, first
    while True:
        for layer in range(max(first, lowest - 1), highest + 2):
            for w in range(words):
                levels[distance + 1, layer, w] = _ZERO
        next_lowest, next_highest = top + 1, -1
        for layer in range(lowest, highest + 1):
            ahead_open, behind_open = 0, 0  # words with nodes that are not labelled
            for w in range(words):
                ahead_open += unseen[layer + 1, w] != 0
                behind_open += layer > first and unseen[layer - 1, w] != 0
            for w in range(words):
                if ahead_open == 0 and behind_open == 0:
                    break
                here = levels[distance, layer, w]
                while here:
                    i = (w << 6) + lowest_bit(here)
                    here &= here - _ONE
                    visits += words
                    if ahead_open:
                        for v in range(words):
                            new = net.ahead[layer, i, v] & unseen[layer + 1, v]
                            if new:
                                unseen[layer + 1, v] ^= new
                                ahead_open -= unseen[layer + 1, v] == 0
                                levels[distance + 1, layer + 1, v] |= new
                                next_highest = max(next_highest, layer + 1)
                                next_lowest = min(next_lowest, layer + 1)
                    if behind_open:
                        for v in range(words):
                            new = net.behind[layer - 1, i, v] & unseen[layer - 1, v]
                            if new:
                                unseen[layer - 1, v] ^= new
                                behind_open -= unseen[layer - 1, v] == 0
                                levels[distance + 1, layer - 1, v] |= new
                                next_lowest = min(next_lowest, layer - 1)
                                next_highest = max(next_highest, layer - 1)
                    if ahead_open == 0 and behind_open == 0:
                        break
        if next_highest < 0:
            net.effort[0] += visits // 4
            return 0
        distance += 1
        found = next_highest == top
        if next_lowest == first:
            for w in range(words):
                found = found or levels[distance, first, w] & excess[w] != 0
        if found:
            for layer in range(next_lowest, next_highest + 1):  # no other node at this distance is on a shortest path
                for w in range(words):
                    levels[distance, layer, w] &= excess[w] if layer == first else _ZERO
            if next_highest == top:
                levels[distance, top, 0] = _ONE
            net.effort[0] += visits // 4
            return distance
        lowest, highest = next_lowest, next_highest


@compiled_inner
def _descend(
    net: Residual, first: int, source: int, limit: int, distance: int, supply: NDArray[np.int64], excess: Words
) -> int:
    """Push a blocking flow from one position along the levels of the last search; return the amount.

    The flow through a node is accumulated, so that an edge is updated once, when the search returns over it.
    """
    words = net.levels.shape[2]
    top = net.left.shape[0]
    stack, levels, taken = net.stack, net.levels, net.taken
    stack[0, 0], stack[0, 1], stack[0, 2], stack[0, 3] = first, source, limit, 0
    depth, steps = 0, 0
    while True:
        steps += 1
        layer, i = stack[depth, 0], stack[depth, 1]
        room = stack[depth, 2] - stack[depth, 3]
        step, j = 0, 0
        if room > 0:
            same = net.ahead[layer, i, i >> 6] & levels[depth + 1, layer + 1, i >> 6]
            if (same >> np.uint64(i & 63)) & _ONE:  # the residual stream is the widest edge
                j, step = i, 1
            else:
                for w in range(words):
                    new = net.ahead[layer, i, w] & levels[depth + 1, layer + 1, w]
                    if new:
                        j, step = (w << 6) + lowest_bit(new), 1
                        break
                if step == 0 and layer > first:
                    for w in range(words):
                        new = net.behind[layer - 1, i, w] & levels[depth + 1, layer - 1, w]
                        if new:
                            j, step = (w << 6) + lowest_bit(new), -1
                            break
        amount = 0
        if step == 0:
            if room > 0:  # no path to a target in the rest of this phase
                levels[depth, layer, i >> 6] &= ~(_ONE << np.uint64(i & 63))
            if depth == 0:
                net.effort[0] += steps
                return int(stack[0, 3])
            amount = stack[depth, 3]
            depth -= 1
            if amount == 0:
                continue
            j, step = i, layer - stack[depth, 0]
            layer, i = stack[depth, 0], stack[depth, 1]
        else:
            residual = net.left[layer, i, j] if step == 1 else net.edges[layer - 1, j, i] - net.left[layer - 1, j, i]
            amount = min(room, residual)
            if depth + 1 < distance:
                depth += 1
                stack[depth, 0], stack[depth, 1], stack[depth, 2], stack[depth, 3] = layer + step, j, amount, 0
                continue
            if layer + step != top:  # a position with excess
                amount = min(amount, taken[j] - supply[j])
                taken[j] -= amount
                if taken[j] == supply[j]:
                    excess[j >> 6] &= ~(_ONE << np.uint64(j & 63))
                    levels[distance, first, j >> 6] &= ~(_ONE << np.uint64(j & 63))
        _push(net, layer, i, step, j, amount)
        stack[depth, 3] += amount


@compiled_inner
def _push(net: Residual, layer: int, i: int, step: int, j: int, amount: int) -> None:
    """Send ``amount`` from (layer, i) over the edge to (layer + step, j) and log it."""
    if step < 0:
        layer, i, j, amount = layer - 1, j, i, -amount
    _shift(net, layer, i, j, amount)
    at = net.logged[0]
    if at < len(net.log):
        net.log[at, 0], net.log[at, 1], net.log[at, 2] = layer, i, j
    net.logged[0] = at + 1


@compiled_inner
def _shift(net: Residual, layer: int, i: int, j: int, amount: int) -> None:
    """Add ``amount``, possibly negative, to the flow on (layer, i) -> (layer + 1, j)."""
    left = net.left[layer, i, j] - amount
    net.left[layer, i, j] = left
    bit_j, bit_i = _ONE << np.uint64(j & 63), _ONE << np.uint64(i & 63)
    if left > 0:
        net.ahead[layer, i, j >> 6] |= bit_j
    else:
        net.ahead[layer, i, j >> 6] &= ~bit_j
    if left < net.edges[layer, i, j]:
        net.behind[layer, j, i >> 6] |= bit_i
    else:
        net.behind[layer, j, i >> 6] &= ~bit_i


@compiled
def undo(net: Residual) -> None:
    """Return to zero flow: on the logged edges or, if the log was too short, on all edges."""
    n = net.left.shape[1]
    if net.logged[0] <= len(net.log):
        for at in range(net.logged[0]):
            layer, i, j = net.log[at, 0], net.log[at, 1], net.log[at, 2]
            net.left[layer, i, j] = net.edges[layer, i, j]
            net.ahead[layer, i, j >> 6] |= _ONE << np.uint64(j & 63)
            net.behind[layer, j, i >> 6] = _ZERO
    else:
        for layer in range(net.left.shape[0]):
            for i in range(n):
                for j in range(n):
                    if net.left[layer, i, j] < net.edges[layer, i, j]:
                        net.left[layer, i, j] = net.edges[layer, i, j]
                        net.ahead[layer, i, j >> 6] |= _ONE << np.uint64(j & 63)
                for w in range(net.behind.shape[2]):
                    net.behind[layer, i, w] = _ZERO
    net.logged[0] = 0
    for i in range(n):
        net.taken[i] = 0
