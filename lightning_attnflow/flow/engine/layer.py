"""The flow of all players of one layer, in integer units: closed forms, then certificates, then maximum flows."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.flow.engine.cores import WIDE, Cores
from lightning_attnflow.flow.engine.layer_bounds import NOWHERE, LayerFacts, flow_bounds
from lightning_attnflow.flow.engine.permutations import CoalitionBounds
from lightning_attnflow.flow.engine.size_bounds import LeastBySize
from lightning_attnflow.flow.engine.solve import CutPool, Ints, Nets, copy_of, empty_pool, solve, take_over
from lightning_attnflow.flow.solvers.dinic import Words, pack_nodes

Bools = NDArray[np.bool_]
_MANY_FLOWS = 32  # worth two threads


class Players(NamedTuple):
    """The players of one layer below the readout's own."""

    layer: int
    members: Bools  # (n, T)
    masks: Words  # (n, W)
    sent: Ints  # (n, T): what each can send to each position of the next layer


class Coalitions(NamedTuple):
    """Exact values of the n players alone, of all, and of all but one."""

    alone: Ints  # (n,)
    total: int
    last: Ints  # (n,): v(N) - v(N - i)


def number_of_players(layer: int, members: Bools, edges: Ints) -> Players:
    """Describe players by their positions, bool (n, T), and the layer's edges, int64 (T, T) ``[key, query]``."""
    single = members.shape[0] == members.shape[1] and bool((members == np.eye(len(members), dtype=bool)).all())
    return Players(layer, members, pack_nodes(members), edges if single else members @ edges)


def modular_values(payoffs: Ints) -> Coalitions:
    """Return the values of a modular game, where each player is paid ``payoffs`` (n,) in every coalition."""
    return Coalitions(payoffs, int(payoffs.sum()), payoffs)


def separable_values(sent: Ints, readout: Ints) -> Coalitions:
    """Return the values of the layer below the readout, v(S) = sum_j min(readout_j, sent_S(j))."""
    everything = sent.sum(axis=0)
    total = int(np.minimum(everything, readout).sum())
    without = np.minimum(everything - sent, readout).sum(axis=1)
    return Coalitions(np.minimum(sent, readout).sum(axis=1), total, total - without)


class LayerSolver:
    """Values of coalitions of one layer: proven by the facts of the layer above where possible, else by flows.

    Args:
        nets: the residual networks of the threads.
        players: of this layer.
        above: facts of the next layer.
        limit: the sum of the readout.
        least_above: of the positions of the next layer.
        cores: to share the flows with.
    """

    def __init__(
        self, nets: Nets, players: Players, above: LayerFacts, limit: int, least_above: LeastBySize, cores: Cores
    ) -> None:
        self.nets, self.above, self.limit, self.least_above = nets, above, limit, least_above
        self.players, self._cores = players, cores
        self.pool: CutPool = empty_pool(players.members.shape[1])
        self.n_flows = 0

    def values(self, masks: Words, sent: Ints) -> Ints:
        """Return v of coalitions given by their positions (m, W) and what they send (m, T)."""
        values: Ints
        values, upper = flow_bounds(sent, self.above, self.limit)
        open_rows = np.flatnonzero(values < upper)
        self.n_flows += len(open_rows)
        if len(open_rows):
            self._solve(masks, sent, upper, open_rows, values)
        return values

    def _solve(self, masks: Words, sent: Ints, upper: Ints, rows: NDArray[np.intp], values: Ints) -> None:
        """Write the exact values of ``rows``, in two halves if they are many.

        Each half has the cuts found before and its own, so that what is found does not depend on who finds it.
        """

        def write(rows: NDArray[np.intp], pool: CutPool) -> None:
            net, first = self.nets.above(self.players.layer)
            solve(net, first, masks, sent, upper, rows, pool, values, self._cores.stop)

        if len(rows) < _MANY_FLOWS or sent.shape[1] < WIDE:
            write(rows, self.pool)
            return
        half, known, others = len(rows) // 2, int(self.pool.used[0]), copy_of(self.pool)
        rest = self._cores.later(write, rows[half:], others)
        write(rows[:half], self.pool)
        rest()
        take_over(self.pool, others, known)

    def of_members(self, coalitions: Bools) -> Ints:
        """Return v of coalitions of players, bool (m, n)."""
        positions = coalitions @ self.players.members
        return self.values(pack_nodes(positions), coalitions @ self.players.sent)

    def coalitions(self, total: int | None) -> Coalitions:
        """Return the values alone, of all, and of all but one.

        Args:
            total: v(N) if it is known.
        """
        n = len(self.players.sent)
        alone = self.values(self.players.masks, self.players.sent)
        if total is None:
            total = int(self.of_members(np.ones((1, n), dtype=bool))[0])
        last = np.zeros(n, dtype=np.int64)
        needed = self._needed(alone, total)
        last[needed] = total - self.of_members(~np.eye(n, dtype=bool)[needed])
        return Coalitions(alone, total, last)

    def _needed(self, alone: Ints, total: int) -> NDArray[np.intp]:
        """Return the players without whom v(N) may not be reached: those in every coalition known to reach it."""
        full = np.flatnonzero(alone == total)
        if len(full):  # one that reaches it alone is needed only if it is the only one
            return full if len(full) == 1 else full[:0]
        by_value = np.argsort(-alone, kind="stable")
        first = self._reaching(by_value, alone, total)
        second = self._reaching(by_value[len(first) :], alone, total)
        return first if len(second) == 0 else first[:0]

    def _reaching(self, candidates: NDArray[np.intp], alone: Ints, total: int) -> NDArray[np.intp]:
        """Return a leading part of ``candidates`` that is paid v(N), nobody if not even all of them are."""
        size = 1 + int(np.searchsorted(np.cumsum(alone[candidates]), total))  # v is at most the sum of v alone
        while size <= len(candidates):
            coalition = np.zeros((1, len(alone)), dtype=bool)
            coalition[0, candidates[:size]] = True
            if self.of_members(coalition)[0] == total:
                return candidates[:size]
            size = len(candidates) if size < len(candidates) < 2 * size else 2 * size
        return candidates[:0]

    def bounds(self, values: Coalitions) -> CoalitionBounds:
        """Return what the cuts found so far prove about every coalition of players."""
        players, above = self.players, self.above
        beyond = self.pool.beyond[: self.pool.used[0]].astype(np.int64)
        constants, weights = self.pool.constants[: len(beyond)], beyond @ players.sent.T  # (P,), (P, n)
        if above.reader != NOWHERE:
            intake = above.constant + int(above.weights.sum()) - int(above.weights[above.reader])
            constants = np.concatenate([[intake], constants])
            weights = np.concatenate([players.sent[None, :, above.reader], weights])
        weights = np.minimum(weights, values.alone)  # v(S) <= v(A) + sum of v({i}) over S - A, with A the lighter ones
        full = np.flatnonzero(values.alone == values.total)
        reader = int(full[0]) if len(full) == 1 else NOWHERE
        at_all = constants + weights.sum(axis=1) - values.total
        without = at_all + values.last[reader] - weights[:, reader] if len(full) == 1 else at_all
        slack = constants[:, None] + weights - values.alone
        # Where not even what two players are paid alone adds up to v(N), few sizes of coalitions are sure of anything.
        worth_it = np.sort(values.alone)[:2].sum() >= values.total
        least = (
            LeastBySize(values.alone, players.sent, self.least_above).values
            if worth_it
            else np.zeros(len(values.alone) + 1, dtype=np.int64)
        )
        return CoalitionBounds(
            values.alone, values.last, values.total, reader, least, constants, weights, slack, at_all, without
        )
