"""All layers of one network, from the readout down: each layer's facts spare the next one most of its flows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from lightning_attnflow.flow.engine.cores import Cores
from lightning_attnflow.flow.engine.layer import (
    Bools,
    Coalitions,
    LayerSolver,
    Players,
    modular_values,
    number_of_players,
    separable_values,
)
from lightning_attnflow.flow.engine.layer_bounds import NOWHERE, LayerFacts, make_facts
from lightning_attnflow.flow.engine.size_bounds import LeastBySize
from lightning_attnflow.flow.engine.solve import Ints, Nets
from lightning_attnflow.flow.integers import IntegerNetwork
from lightning_attnflow.flow.solvers.dinic import edges_of


class LayerGame(NamedTuple):
    """One layer's players with their exact values; ``solver`` is None where the game is modular or separable."""

    layer: int
    values: Coalitions
    players: Players | None
    solver: LayerSolver | None
    readout: Ints


class Reduced(NamedTuple):
    """A network whose top layer is folded into the readout where it reads one position: the edges [from, to]."""

    edges: Ints  # (L' + 1, T, T), as of `edges_of`
    readout: Ints  # (T,)
    reader: int


def reduced(network: IntegerNetwork) -> Reduced:
    """Fold the last layer into the readout if one position is read: then that position's row is the readout."""
    read = np.flatnonzero(network.readout)
    if len(read) == 1 and network.capacities[-1, read[0]].sum() <= network.readout[read[0]]:
        readout = network.capacities[-1, read[0]]
        return Reduced(edges_of(network.capacities[:-1], readout), readout, int(read[0]))
    return Reduced(edges_of(network.capacities, network.readout), network.readout, NOWHERE)


def layer_games(network: IntegerNetwork, lowest: int, groups: Bools | None, cores: Cores) -> Iterator[LayerGame]:
    """Yield the games of the layers L, L - 1, ..., ``lowest``.

    Args:
        network: in integer units.
        lowest: the last layer wanted.
        groups: bool (n, T), the positions of each player, or None for the positions themselves.
        cores: to share the flows with.
    """
    edges, readout, reader = reduced(network)
    everyone = np.eye(network.n_positions, dtype=bool)
    members = everyone if groups is None else groups
    top = len(edges) - 1
    limit = int(readout.sum())
    total = limit if network.conserves else None
    if top < network.n_layers:
        yield LayerGame(network.n_layers, modular_values(members @ network.readout), None, None, readout)
    if lowest <= top:
        yield LayerGame(top, modular_values(members @ readout), None, None, readout)
    nets: Nets | None = None
    above = make_facts(readout, limit, reader, 0, readout, limit - int(readout[reader]))
    least: LeastBySize | None = None
    for layer in range(top - 1, lowest - 1, -1):
        players = number_of_players(layer, everyone, edges[layer])
        solver = None
        if layer == top - 1:
            values = separable_values(players.sent, readout)
        else:
            nets = Nets(edges) if nets is None else nets
            assert least is not None  # made by the layer below the readout, which is the first
            solver = LayerSolver(nets, players, above, limit, least, cores)
            values = solver.coalitions(total)
        if groups is None:
            yield LayerGame(layer, values, players, solver, readout)
        else:
            united = number_of_players(layer, members, edges[layer])
            if solver is None or nets is None or least is None:
                yield LayerGame(layer, separable_values(united.sent, readout), united, None, readout)
            else:
                of_groups = LayerSolver(nets, united, above, limit, least, cores)
                yield LayerGame(layer, of_groups.coalitions(total), united, of_groups, readout)
        above = _facts(values, players, above)
        least = LeastBySize(values.alone, players.sent, readout if least is None else least)
        if cores.stop[0]:
            return


def _facts(values: Coalitions, players: Players, above: LayerFacts) -> LayerFacts:
    """Carry the intake cut one layer down and sort what is now known of this one."""
    reader = above.reader
    constant, weights = 0, np.zeros_like(values.alone)
    if reader != NOWHERE:
        constant = above.constant + int(above.weights.sum()) - int(above.weights[reader])
        weights = players.sent[:, reader].copy()
    without = values.total - int(values.last[reader]) if reader != NOWHERE else values.total
    return make_facts(values.alone, values.total, reader, constant, weights, without)
