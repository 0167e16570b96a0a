"""`attention_flow`: how much of what the prediction reads can, and how much does, come from each position of a layer.

After Abnar & Zuidema (2020) and Ethayarajh & Jurafsky (2021). A maximum flow is not unique, so each method says which
number it takes, and the range over all maximum flows stands beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Real
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_seed
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import attention_rollout, checked_layers
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.binding import binding_cuts, saturation
from lightning_attnflow.flow.game import FlowGame, check_game, check_network
from lightning_attnflow.flow.integers import check_rounding, rounding
from lightning_attnflow.flow.layer import Groups, LayerFlow, layer_flow, point_values
from lightning_attnflow.flow.result import AttentionFlow
from lightning_attnflow.flow.solvers import get_solver
from lightning_attnflow.shapley.game import partition

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
        game: "source" or "through", see `FlowGame`. The range [v(N) - v(N - i), v({i})] holds every maximum flow of
            either game. For "source", which is submodular, it holds the Shapley value too; for "through" that is
            proven only where both are the same game.

    Returns:
        An `AttentionFlow`; a list of them for a sequence of networks.

    Warns:
        UserWarning: if all positive capacities into a position, or out of it, are rounded to 0.

    Raises:
        InputError: no network, an unknown method, solver or game, a layer outside 0..L, a tolerance that is no number
            > 0, a seed that is no integer >= 0, groups that are no partition, rollout of capacities that are no
            probabilities, capacities of a layer that all vanish beside the largest, or all below 1e-293.
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
    _check_arguments(method, tolerance, game)
    seed = check_seed(seed)
    bits = get_solver(solver).bits
    single = not isinstance(network, Iterable)
    networks = list(network) if isinstance(network, Iterable) else [network]
    partitions: list[Any] = [groups]
    if not single and (groups is None or isinstance(groups, Iterable)):
        partitions = [None] * len(networks) if groups is None else list(groups)
    if len(partitions) != len(networks):
        raise InputError(
            "groups",
            got=f"{len(partitions)} partitions for {len(networks)} networks",
            expected="one partition or None for each network",
            remedy="Pass groups=None for positions.",
        )
    tasks = []
    for index, (one, of_one) in enumerate(zip(networks, partitions, strict=True)):
        name = "" if single else f"network[{index}]"
        with _naming(name):
            tasks.append(_checked_task(one, layers, of_one, method))
            check_rounding(one, bits, name, stacklevel=2)
    rows = _rows(tasks, method, solver, tolerance, seed, game)
    flows = [_assembled(task, flow, method, solver, seed, game) for task, flow in zip(tasks, rows, strict=True)]
    return flows[0] if single else flows


class _Task(NamedTuple):
    network: AttentionNetwork
    layers: list[int]
    members: NDArray[np.bool_]  # (n, T)
    grouped: bool


@contextmanager
def _naming(network: str) -> Iterator[None]:
    """Say in an error which network of several it is about."""
    try:
        yield
    except InputError as error:
        if not network:
            raise
        raise InputError(
            f"{network}: {error.what}", got=error.got, expected=error.expected, remedy=error.remedy
        ) from None


def _checked_task(network: AttentionNetwork, layers: Sequence[int] | None, groups: Groups | None, method: str) -> _Task:
    check_network(network)
    wanted, members = checked_layers(layers, network.n_layers), membership(groups, network.n_positions)
    if method == "rollout" and not network.is_probability:
        raise InputError(
            "method",
            got=f"'rollout' with a readout of sum {network.readout.sum():g}",
            expected="rows and a readout that are probabilities",
            remedy="Use method='shapley', which is defined for all capacities.",
        )
    return _Task(network, wanted, members, groups is not None)


def _check_arguments(method: str, tolerance: float, game: str) -> None:
    if method not in METHODS:
        raise InputError(
            "method",
            got=repr(method),
            expected=f"one of {', '.join(map(repr, METHODS))}",
            remedy="'shapley' is the unique value.",
        )
    if isinstance(tolerance, bool) or not isinstance(tolerance, Real) or not 0 < tolerance < math.inf:
        raise InputError(
            "tolerance",
            got=repr(tolerance),
            expected="a number > 0",
            remedy="It is the half-width of the intervals in units of flow; 5e-3 is usual.",
        )
    check_game(game)


def _rows(
    tasks: Sequence[_Task], method: str, solver: str, tolerance: float, seed: int, game: str
) -> list[dict[int, LayerFlow]]:
    """Return for each task a `LayerFlow` a wanted layer."""
    if not any(task.layers for task in tasks):
        return [{} for _ in tasks]
    if solver == "native" and game == "source":
        from lightning_attnflow.flow.engine import run  # numba takes a moment to import

        rows = run(
            [task.network for task in tasks],
            [task.layers for task in tasks],
            [task.members if task.grouped else None for task in tasks],
            shapley=method == "shapley",
            tolerance=tolerance,
            seed=seed,
        )
    else:
        rows = [
            {
                layer: layer_flow(_game_of(task, layer, solver, game), task.members, method, tolerance, seed)
                for layer in task.layers
            }
            for task in tasks
        ]
    if method in ("single", "rollout"):
        return [_with_outflow(task, row, method, solver, game) for task, row in zip(tasks, rows, strict=True)]
    return rows


def _game_of(task: _Task, layer: int, solver: str, game: str) -> FlowGame:
    return FlowGame(task.network, layer, solver=solver, game=game, check=False)


def _with_outflow(task: _Task, row: dict[int, LayerFlow], method: str, solver: str, game: str) -> dict[int, LayerFlow]:
    """Replace the values by the outflow of one maximum flow: the solver's, or rollout."""
    outflows = {
        layer: attention_rollout(task.network, layers=[layer])[0]
        if method == "rollout"
        else _game_of(task, layer, solver, game).single_flow()
        for layer in row
    }
    return {
        layer: point_values(task.members @ outflows[layer], flow.lower, flow.upper, flow.total)
        for layer, flow in row.items()
    }


def _assembled(
    task: _Task, flows: dict[int, LayerFlow], method: str, solver: str, seed: int, game: str
) -> AttentionFlow:
    rows = [flows[layer] for layer in task.layers]
    shape = (len(rows), len(task.members))
    slack = rounding(task.network, get_solver(solver).bits)
    names = [binding_cuts(task.network, layer, task.members, flows[layer].upper, slack) for layer in task.layers]
    saturations = [saturation(cuts, row.lower, row.upper, slack) for cuts, row in zip(names, rows, strict=True)]
    return AttentionFlow(
        values=np.reshape([row.values for row in rows], shape),
        lower=np.reshape([row.lower for row in rows], shape),
        upper=np.reshape([row.upper for row in rows], shape),
        stderr=np.reshape([row.stderr for row in rows], shape),
        low=np.reshape([row.low for row in rows], shape),
        high=np.reshape([row.high for row in rows], shape),
        total=np.array([row.total for row in rows], dtype=np.float64),
        binding_cut=np.reshape(names, shape),
        saturation=np.array(saturations, dtype=np.float64),
        n_permutations=np.array([row.n_permutations for row in rows], dtype=np.int64),
        layers=tuple(task.layers),
        method=method,
        game=game,
        solver=solver,
        seed=seed,
    )


def membership(groups: Groups | None, n_positions: int) -> NDArray[np.bool_]:
    """Return the positions of each player, bool (n, T): of each group, or of each position for None.

    Raises:
        InputError: if the groups are no partition of the positions.
    """
    if groups is None:
        return np.eye(n_positions, dtype=bool)
    parts = partition(groups, n_positions)
    members = np.zeros((len(parts), n_positions), dtype=bool)
    for row, positions in zip(members, parts, strict=True):
        row[list(positions)] = True
    return members
