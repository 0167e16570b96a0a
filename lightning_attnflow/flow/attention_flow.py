"""`attention_flow`: how much of what the prediction reads can, and how much does, come from each position of a layer.

After Abnar & Zuidema (2020) and Ethayarajh & Jurafsky (2021). A maximum flow is not unique, so each method says which
number it takes, and the range over all maximum flows stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import attention_rollout, checked_layers
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.binding import binding_cuts, saturation
from lightning_attnflow.flow.game import FlowGame
from lightning_attnflow.flow.layer import Groups, LayerFlow, layer_flow, point_values
from lightning_attnflow.flow.result import AttentionFlow

METHODS = ("shapley", "pairwise", "single", "rollout")


@overload
def attention_flow(
    network: AttentionNetwork,
    *,
    method: str = ...,
    layers: Sequence[int] | None = ...,
    solver: str = ...,
    tolerance: float = ...,
    seed: int = ...,
    groups: Groups | None = ...,
    game: str = ...,
) -> AttentionFlow: ...


@overload
def attention_flow(
    network: Sequence[AttentionNetwork],
    *,
    method: str = ...,
    layers: Sequence[int] | None = ...,
    solver: str = ...,
    tolerance: float = ...,
    seed: int = ...,
    groups: Sequence[Groups | None] | None = ...,
    game: str = ...,
) -> list[AttentionFlow]: ...


def attention_flow(
    network: AttentionNetwork | Sequence[AttentionNetwork],
    *,
    method: str = "shapley",
    layers: Sequence[int] | None = None,
    solver: str = "native",
    tolerance: float = 5e-3,
    seed: int = 0,
    groups: Groups | Sequence[Groups | None] | None = None,
    game: str = "source",
) -> AttentionFlow | list[AttentionFlow]:
    """Return the attention flow of every position, or group of positions, in every layer.

    Args:
        network: the attention network of one sentence, or a sequence of them (of any lengths).
        method: "shapley", the Shapley value of the flow game of each layer: unique, efficient, and itself a maximum
            flow. "pairwise", what a position could send alone, v({i}) (Abnar & Zuidema). "single", the outflow of the
            one maximum flow that the solver happens to find. "rollout", also a maximum flow, for probabilities only.
        layers: the layers of positions wanted, each in 0..L; default all.
        solver: "native" or another of `lightning_attnflow.flow.solvers.SOLVERS`.
        tolerance: half-width of the 95% intervals at which sampling of orders stops, in units of flow, > 0.
        seed: of the sampled orders.
        groups: a partition of the positions, say into words: the flow of each group as one player (the quotient
            game). For a sequence of networks, one partition or None for each.
        game: "source" or "through", see `FlowGame`.

    Returns:
        An `AttentionFlow`; a list of them for a sequence of networks.

    Raises:
        InputError: an unknown method, solver or game, a layer outside 0..L, tolerance <= 0, groups that are no
            partition, rollout of capacities that are no probabilities.
        MissingDependencyError: if the solver's package is not installed.

    Source: Ethayarajh & Jurafsky (2021); Abnar & Zuidema (2020); Megiddo (1974).

    Example:
        >>> import numpy as np
        >>> attention = np.array([[[0.8, 0.1, 0.1], [0.3, 0.4, 0.3], [0.2, 0.5, 0.3]]])
        >>> flow = attention_flow(AttentionNetwork.from_attentions([attention] * 3))
        >>> flow.values[0].round(4).tolist()
        [0.8167, 0.0917, 0.0917]
        >>> flow.lower[0].round(4).tolist(), flow.upper[0].round(4).tolist()
        ([0.7, 0.0, 0.0], [1.0, 0.25, 0.25])
    """
    _check_arguments(method, tolerance)
    if isinstance(network, AttentionNetwork):
        return _flow_of(network, method, layers, solver, tolerance, seed, groups, game)  # type: ignore[arg-type]
    networks = list(network)
    partitions = [None] * len(networks) if groups is None else list(groups)
    if len(partitions) != len(networks):
        raise InputError(
            "groups",
            got=f"{len(partitions)} partitions for {len(networks)} networks",
            expected="one partition or None for each network",
            remedy="Pass groups=None for positions.",
        )
    return [
        _flow_of(one, method, layers, solver, tolerance, seed, partition, game)  # type: ignore[arg-type]
        for one, partition in zip(networks, partitions, strict=True)
    ]


def _check_arguments(method: str, tolerance: float) -> None:
    if method not in METHODS:
        raise InputError(
            "method",
            got=repr(method),
            expected=f"one of {', '.join(map(repr, METHODS))}",
            remedy="'shapley' is the unique value.",
        )
    if not tolerance > 0:
        raise InputError(
            "tolerance",
            got=tolerance,
            expected="a number > 0",
            remedy="It is the half-width of the intervals in units of flow; 5e-3 is usual.",
        )


def _flow_of(
    network: AttentionNetwork,
    method: str,
    layers: Sequence[int] | None,
    solver: str,
    tolerance: float,
    seed: int,
    groups: Groups | None,
    game: str,
) -> AttentionFlow:
    wanted = checked_layers(layers, network.n_layers)
    rows = [
        _layer_of(FlowGame(network, layer, solver=solver, game=game), network, method, groups, tolerance, seed)
        for layer in wanted
    ]
    members = membership(groups, network.n_positions)
    names = [binding_cuts(network, layer, members, row.upper) for layer, row in zip(wanted, rows, strict=True)]
    return AttentionFlow(
        values=np.array([row.values for row in rows]),
        lower=np.array([row.lower for row in rows]),
        upper=np.array([row.upper for row in rows]),
        stderr=np.array([row.stderr for row in rows]),
        low=np.array([row.low for row in rows]),
        high=np.array([row.high for row in rows]),
        total=np.array([row.total for row in rows]),
        binding_cut=np.array(names),
        saturation=np.array([saturation(cut, row.lower, row.upper) for cut, row in zip(names, rows, strict=True)]),
        n_orders=np.array([row.n_orders for row in rows], dtype=np.int64),
        layers=tuple(wanted),
        method=method,
        game=game,
        solver=solver,
        seed=seed,
    )


def _layer_of(
    flow_game: FlowGame, network: AttentionNetwork, method: str, groups: Groups | None, tolerance: float, seed: int
) -> LayerFlow:
    if method == "shapley":
        return layer_flow(flow_game, groups, method, tolerance, seed)
    bounds = layer_flow(flow_game, groups, "pairwise", tolerance, seed)
    if method == "pairwise":
        return bounds
    members = membership(groups, network.n_positions)
    if method == "rollout":
        if not network.is_probability:
            raise InputError(
                "method",
                got=f"'rollout' with a readout of sum {network.readout.sum():g}",
                expected="rows and a readout that are probabilities",
                remedy="Use method='shapley', which is defined for all capacities.",
            )
        outflow = attention_rollout(network, layers=[flow_game.layer])[0]
    else:
        outflow = flow_game.single_flow()
    return point_values(members @ outflow, bounds.lower, bounds.upper, bounds.total)


def membership(groups: Groups | None, n_positions: int) -> NDArray[np.bool_]:
    """Return the positions of each player, bool (n, T)."""
    players = [[position] for position in range(n_positions)] if groups is None else groups
    members = np.zeros((len(players), n_positions), dtype=bool)
    for row, positions in zip(members, players, strict=True):
        row[list(positions)] = True
    return members
