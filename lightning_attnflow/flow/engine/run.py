"""All layers of many networks: each layer's values bound those of the layer below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from lightning_attnflow._threads import n_cores, thread_limit
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.flow.engine.layer import (
    Bools,
    LayerGame,
    LayerSolver,
    LayerValues,
    Players,
    make_players,
    modular_values,
    separable_values,
)
from lightning_attnflow.flow.engine.layer_bounds import NO_POSITION, LayerBounds, SizeBounds, make_layer_bounds
from lightning_attnflow.flow.engine.layer_progress import layer_progress
from lightning_attnflow.flow.engine.shapley import shapley_values
from lightning_attnflow.flow.engine.solve import Ints, ResidualNetworks
from lightning_attnflow.flow.engine.threads import MIN_SHARED_POSITIONS, Threads
from lightning_attnflow.flow.integers import IntegerNetwork, quantise, scale_of
from lightning_attnflow.flow.layer import LayerFlow, Tolerance, exact_flow
from lightning_attnflow.flow.solvers.dinic import edges_of


def run(
    networks: Sequence[AttentionNetwork],
    layers: Sequence[Sequence[int]],
    members: Sequence[Bools | None],
    *,
    shapley: bool,
    tolerance: Tolerance,
    seed: int,
) -> list[dict[int, LayerFlow]]:
    """Return the flows of the wanted layers of each network.

    Args:
        networks: the networks, of any sizes.
        layers: for each network the wanted layers.
        members: for each network the positions of its players, bool (n, T), or None for the positions themselves.
        shapley: whether the values are Shapley values; otherwise the value of each player alone.
        tolerance: half-width of the 95% intervals at which sampling stops.
        seed: of the sampled permutations; the result does not depend on the number of threads.
    """
    shared = any(network.n_positions >= MIN_SHARED_POSITIONS for network in networks)
    available = min(n_cores(), thread_limit())
    n_threads = available if shared else min(available, len(networks))
    n_layers, done = sum(map(len, layers)), list[int]()
    with (
        Threads(max(1, n_threads)) as threads,
        layer_progress(n_layers, done, is_sampled=shapley) as show,
    ):
        return threads.run_all(
            (
                partial(_flows, network, wanted, players, shapley, tolerance, seed, threads, done)
                for network, wanted, players in zip(networks, layers, members, strict=True)
            ),
            show,
        )


def _flows(
    network: AttentionNetwork,
    layers: Sequence[int],
    members: Bools | None,
    shapley: bool,
    tolerance: Tolerance,
    seed: int,
    threads: Threads,
    done: list[int],
) -> dict[int, LayerFlow]:
    """Return the flows of one network; each computed layer is appended to ``done``."""
    scale = scale_of(network)

    def flow_of(game: LayerGame, scale: float) -> LayerFlow:
        is_sampled = shapley and not threads.stop[0]  # after Ctrl-C the flows are thrown away
        flow = _shapley_flow(tolerance, seed, threads, game, scale) if is_sampled else _flow_alone(game, scale)
        done.append(game.layer)
        return flow

    # A layer needs the exact values of the layer above, but not its Shapley values.
    defer = threads.submit if shapley and network.n_positions >= MIN_SHARED_POSITIONS else partial
    flows = {
        game.layer: defer(flow_of, game, scale)
        for game in layer_games(quantise(network), min(layers), members, threads)
        if game.layer in layers
    }
    return {layer: flow() for layer, flow in flows.items()}


def _flow_alone(game: LayerGame, scale: float) -> LayerFlow:
    values = game.values
    alone, total, leave_one_out = values.alone / scale, values.total / scale, values.leave_one_out / scale
    return exact_flow(alone, leave_one_out, alone, total)


def _shapley_flow(tolerance: Tolerance, seed: int, threads: Threads, game: LayerGame, scale: float) -> LayerFlow:
    flow = _flow_alone(game, scale)
    width = tolerance.of(flow.total, len(flow.values)) * scale
    estimate = shapley_values(game, width, seed, threads.stop)
    values, stderr, low, high = (array / scale for array in estimate[:4])
    return flow._replace(values=values, stderr=stderr, low=low, high=high, n_permutations=estimate.n_permutations)


class _Folded(NamedTuple):
    """A network whose last layer is part of the readout if the readout is one position."""

    edges: Ints  # (L' + 1, T, T) [layer, from, to], as returned by `edges_of`
    readout: Ints  # (T,)
    readout_position: int


def _folded(network: IntegerNetwork) -> _Folded:
    """Fold the last layer into the readout if one position is read: its attention row is then the readout."""
    read = np.flatnonzero(network.readout)
    if len(read) == 1 and network.capacities[-1, read[0]].sum() <= network.readout[read[0]]:
        readout = network.capacities[-1, read[0]]
        return _Folded(edges_of(network.capacities[:-1], readout), readout, int(read[0]))
    return _Folded(edges_of(network.capacities, network.readout), network.readout, NO_POSITION)


def layer_games(network: IntegerNetwork, lowest: int, groups: Bools | None, threads: Threads) -> Iterator[LayerGame]:
    """Yield the games of the layers L, L - 1, ..., ``lowest``.

    Args:
        network: in integer units.
        lowest: the last layer wanted.
        groups: bool (n, T), the positions of each player, or None for the positions themselves.
        threads: share the maximum flows.
    """
    edges, readout, readout_position = _folded(network)
    n_layers, conserves, sink = network.n_layers, network.conserves, network.readout
    del network  # its capacities take as much memory as the edges
    positions = np.eye(len(readout), dtype=bool)
    members = positions if groups is None else groups
    top = len(edges) - 1
    limit = int(readout.sum())
    total = limit if conserves else None
    if top < n_layers:
        yield LayerGame(n_layers, modular_values(members @ sink), None, None, readout)
    if lowest <= top:
        yield LayerGame(top, modular_values(members @ readout), None, None, readout)
    nets: ResidualNetworks | None = None
    without = limit - int(readout[readout_position])
    above = make_layer_bounds(readout, limit, readout_position, 0, readout, without)
    sizes_above: SizeBounds | None = None
    for layer in range(top - 1, lowest - 1, -1):
        players = make_players(layer, positions, edges[layer])
        solver = None
        if layer == top - 1:
            values = separable_values(players.sent, readout)
        else:
            nets = ResidualNetworks(edges) if nets is None else nets
            assert sizes_above is not None  # set in the first iteration
            solver = LayerSolver(nets, players, above, limit, sizes_above, threads)
            values = solver.layer_values(total)
        if groups is None:
            yield LayerGame(layer, values, players, solver, readout)
        else:
            group_players = make_players(layer, members, edges[layer])
            if solver is None or nets is None or sizes_above is None:
                yield LayerGame(layer, separable_values(group_players.sent, readout), group_players, None, readout)
            else:
                of_groups = LayerSolver(nets, group_players, above, limit, sizes_above, threads)
                yield LayerGame(layer, of_groups.layer_values(total), group_players, of_groups, readout)
        above = _bounds_of(values, players, above)
        sizes_above = SizeBounds(values.alone, players.sent, readout if sizes_above is None else sizes_above)
        if threads.stop[0]:
            return


def _bounds_of(values: LayerValues, players: Players, above: LayerBounds) -> LayerBounds:
    """Return the bounds of a layer from its values and the inflow cut of the layer above."""
    position = above.readout_position
    constant, weights, without = 0, np.zeros_like(values.alone), values.total
    if position != NO_POSITION:
        constant = above.constant + int(above.weights.sum()) - int(above.weights[position])
        weights = players.sent[:, position].copy()
        without = values.total - int(values.leave_one_out[position])
    return make_layer_bounds(values.alone, values.total, position, constant, weights, without)
