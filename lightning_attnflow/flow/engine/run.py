"""Many networks on all cores, with threads that do not hold the GIL while they compute."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.flow.engine.cores import WIDE, Cores, n_cores
from lightning_attnflow.flow.engine.layer import Bools
from lightning_attnflow.flow.engine.network import LayerGame, layer_games
from lightning_attnflow.flow.engine.shapley import shapley_values
from lightning_attnflow.flow.integers import quantise
from lightning_attnflow.flow.layer import LayerFlow, exact_flow


def run(
    networks: Sequence[AttentionNetwork],
    layers: Sequence[Sequence[int]],
    members: Sequence[Bools | None],
    *,
    shapley: bool,
    tolerance: float,
    seed: int,
) -> list[dict[int, LayerFlow]]:
    """Return the flows of the wanted layers of each network.

    Args:
        networks: the networks, of any sizes.
        layers: for each network the layers wanted.
        members: for each network the positions of its players, bool (n, T), or None for the positions themselves.
        shapley: whether the values are Shapley values; otherwise each player's value alone.
        tolerance: half-width of the 95% intervals at which sampling stops, in units of flow.
        seed: of the sampled orders; the result does not depend on the number of threads.

    Returns:
        For each network a `LayerFlow` a wanted layer.
    """
    wide = any(network.n_positions >= WIDE for network in networks)
    n_threads = n_cores() if wide else min(n_cores(), len(networks))
    with Cores(max(1, n_threads)) as cores:
        return cores.all(
            partial(_flows, network, wanted, players, shapley, tolerance, seed, cores)
            for network, wanted, players in zip(networks, layers, members, strict=True)
        )


def _flows(
    network: AttentionNetwork,
    layers: Sequence[int],
    members: Bools | None,
    shapley: bool,
    tolerance: float,
    seed: int,
    cores: Cores,
) -> dict[int, LayerFlow]:
    integers = quantise(network)
    flow_of = partial(_shapley_flow, tolerance, seed, cores) if shapley else _flow_alone
    # The layers wait for each other's facts, not for each other's Shapley values.
    defer = cores.later if shapley and network.n_positions >= WIDE else partial
    flows = {
        game.layer: defer(flow_of, game, integers.scale)
        for game in layer_games(integers, min(layers), members, cores)
        if game.layer in layers
    }
    return {layer: flow() for layer, flow in flows.items()}


def _flow_alone(game: LayerGame, scale: float) -> LayerFlow:
    alone, total, last = game.values.alone / scale, game.values.total / scale, game.values.last / scale
    return exact_flow(alone, last, alone, total)


def _shapley_flow(tolerance: float, seed: int, cores: Cores, game: LayerGame, scale: float) -> LayerFlow:
    flow = _flow_alone(game, scale)
    estimate = shapley_values(game, tolerance * scale, seed, cores.stop)
    values, stderr, low, high = (array / scale for array in estimate[:4])
    return flow._replace(values=values, stderr=stderr, low=low, high=high, n_permutations=estimate.n_permutations)
