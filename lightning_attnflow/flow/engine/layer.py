"""Exact values of the players of one layer: closed forms, then bounds, then maximum flows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.layer_bounds import NO_POSITION, LayerBounds, SizeBounds, flow_bounds
from lightning_attnflow.flow.engine.permutations import CoalitionBounds, FlowModel
from lightning_attnflow.flow.engine.solve import (
    CutPool,
    Ints,
    ResidualNetworks,
    copy_pool,
    empty_pool,
    merge_pool,
    solve,
)
from lightning_attnflow.flow.engine.threads import MIN_SHARED_POSITIONS, Threads

Bools = NDArray[np.bool_]
_MIN_SHARED_FLOWS = 32  # fewer maximum flows are not divided between two threads


class Players(NamedTuple):
    """The players of one layer."""

    layer: int
    members: Bools  # (n, T)
    sent: Ints  # (n, T): capacity from each player to each position of the layer above


class LayerValues(NamedTuple):
    """Exact values of each of n players alone, of all players together, and leave-one-out values."""

    alone: Ints  # (n,)
    total: int
    leave_one_out: Ints  # (n,): v(N) - v(N - i)


class LayerGame(NamedTuple):
    """The players of one layer with their exact values; ``solver`` is None if the game is modular or separable."""

    layer: int
    values: LayerValues
    players: Players | None
    solver: LayerSolver | None
    readout: Ints


def make_players(layer: int, members: Bools, edges: Ints) -> Players:
    """Return players with positions bool (n, T), given the edges of the layer, int64 (T, T) ``[key, query]``."""
    player, position = np.nonzero(members)
    if len(members) == len(position) and (player == position).all():
        return Players(layer, members, edges)
    # much faster than a product of matrices of integers
    return Players(layer, members, np.add.reduceat(edges[position], np.searchsorted(player, np.arange(len(members)))))


def modular_values(payoffs: Ints) -> LayerValues:
    """Return the values of a modular game with marginals ``payoffs`` (n,)."""
    return LayerValues(payoffs, int(payoffs.sum()), payoffs)


def separable_values(sent: Ints, readout: Ints) -> LayerValues:
    """Return the values of the layer below the readout, v(S) = sum_j min(readout_j, sent_j(S))."""
    everything = sent.sum(axis=0)
    total = int(np.minimum(everything, readout).sum())
    without = np.minimum(everything - sent, readout).sum(axis=1)
    return LayerValues(np.minimum(sent, readout).sum(axis=1), total, total - without)


def no_model(n: int) -> FlowModel:
    """Return the model that is equal to the upper bounds."""
    return FlowModel(np.zeros((n, 0), dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(n + 1))


class LayerSolver:
    """Values of coalitions of one layer, from the layer above if its bounds are tight, otherwise by maximum flows."""

    def __init__(
        self,
        nets: ResidualNetworks,
        players: Players,
        above: LayerBounds,
        limit: int,
        sizes_above: SizeBounds,
        threads: Threads,
    ) -> None:
        self.nets, self.above, self.limit, self.sizes_above = nets, above, limit, sizes_above
        self.players, self._threads = players, threads
        self.pool: CutPool = empty_pool(players.members.shape[1])
        self.n_flows = 0

    def values(self, sent: Ints) -> Ints:
        """Return v of coalitions with capacities to the layer above (m, T)."""
        values: Ints
        values, upper = flow_bounds(sent, self.above, self.limit)
        open_rows = np.flatnonzero(values < upper)
        self.n_flows += len(open_rows)
        if len(open_rows):
            self._solve(sent, upper, open_rows, values)
        return values

    def _solve(self, sent: Ints, upper: Ints, rows: NDArray[np.intp], values: Ints) -> None:
        """Write the exact values of ``rows``, in two halves if there are many.

        Each half uses only the cuts found before and its own, so that the result does not depend on the threads.
        """

        def write(rows: NDArray[np.intp], pool: CutPool) -> None:
            net, first = self.nets.above(self.players.layer)
            solve(net, first, sent, upper, rows, pool, values, self._threads.stop)

        if len(rows) < _MIN_SHARED_FLOWS or sent.shape[1] < MIN_SHARED_POSITIONS:
            write(rows, self.pool)
            return
        half, known, others = len(rows) // 2, int(self.pool.used[0]), copy_pool(self.pool)
        rest = self._threads.submit(write, rows[half:], others)
        write(rows[:half], self.pool)
        rest()
        merge_pool(self.pool, others, known)

    def of_coalitions(self, coalitions: Bools) -> Ints:
        """Return v of coalitions of players, bool (m, n)."""
        return self.values(coalitions @ self.players.sent)

    def layer_values(self, total: int | None) -> LayerValues:
        """Return the values alone, of all players, and leave-one-out; ``total`` is v(N) if it is known."""
        sent = self.players.sent
        alone, everything = self.values(sent), sent.sum(axis=0)
        if total is None:
            total = int(self.values(everything[None])[0])
        leave_one_out = np.zeros(len(sent), dtype=np.int64)
        needed = self._needed(alone, total)
        leave_one_out[needed] = total - self.values(everything - sent[needed])
        return LayerValues(alone, total, leave_one_out)

    def _needed(self, alone: Ints, total: int) -> NDArray[np.intp]:
        """Return the players in every coalition known to reach v(N): all others have a leave-one-out value of 0."""
        full = np.flatnonzero(alone == total)
        if len(full):  # a player that reaches v(N) alone is needed only if no other player does
            return full if len(full) == 1 else full[:0]
        by_value = np.argsort(-alone, kind="stable")
        first = self._full_coalition(by_value, alone, total)
        second = self._full_coalition(by_value[len(first) :], alone, total)
        return first if len(second) == 0 else first[:0]

    def _full_coalition(self, candidates: NDArray[np.intp], alone: Ints, total: int) -> NDArray[np.intp]:
        """Return a leading part of ``candidates`` with value v(N), or none if not even all of them have it."""
        size = 1 + int(np.searchsorted(np.cumsum(alone[candidates]), total))  # v is at most the sum of the values alone
        while size <= len(candidates):
            if self.values(self.players.sent[candidates[:size]].sum(axis=0)[None])[0] == total:
                return candidates[:size]
            size = len(candidates) if size < len(candidates) < 2 * size else 2 * size
        return candidates[:0]

    def bounds(self, values: LayerValues, pool: CutPool | None = None) -> CoalitionBounds:
        """Return bounds of every coalition of players from the cuts found so far, or from those of ``pool``."""
        players, above = self.players, self.above
        pool = self.pool if pool is None else pool
        beyond = pool.beyond[: pool.used[0]].astype(np.int64)
        constants, weights = pool.constants[: len(beyond)], beyond @ players.sent.T  # (P,), (P, n)
        if above.readout_position != NO_POSITION:
            inflow = above.constant + int(above.weights.sum()) - int(above.weights[above.readout_position])
            constants = np.concatenate([[inflow], constants])
            weights = np.concatenate([players.sent[None, :, above.readout_position], weights])
        if values.leave_one_out.any():  # v(S) <= v(N) - sum of the leave-one-out values of all players not in S
            constants = np.append(constants, values.total - values.leave_one_out.sum())
            weights = np.vstack([weights, values.leave_one_out])
        weights = np.minimum(weights, values.alone)  # v(S) <= v(A) + sum of v({i}) over S - A, for any subset A
        full = np.flatnonzero(values.alone == values.total)
        full_player = int(full[0]) if len(full) == 1 else NO_POSITION
        gap = constants + weights.sum(axis=1) - values.total
        without = gap + values.leave_one_out[full_player] - weights[:, full_player] if len(full) == 1 else gap
        slack = constants[:, None] + weights - values.alone
        # If the two largest values alone add up to less than v(N), size bounds are rarely tight.
        use_sizes = np.sort(values.alone)[:2].sum() >= values.total
        by_size = (
            SizeBounds(values.alone, players.sent, self.sizes_above).values
            if use_sizes
            else np.zeros(len(values.alone) + 1, dtype=np.int64)
        )
        return CoalitionBounds(
            values.alone,
            values.leave_one_out,
            values.total,
            full_player,
            by_size,
            constants,
            weights,
            slack,
            gap,
            without,
            players.sent,
            above,
            0,
            no_model(len(values.alone)),
        )
