"""`attention_flow`: the flow from each position of each layer to what the prediction reads.

After Abnar & Zuidema (2020) and Ethayarajh & Jurafsky (2021). The maximum flow is not unique, so every result contains
the range over all maximum flows of each value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_bool, check_choice, check_positive, check_seed
from lightning_attnflow._words import counted
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import attention_rollout, check_layers
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.binding import binding_cuts, saturation
from lightning_attnflow.flow.game import GAMES, FlowGame, check_network
from lightning_attnflow.flow.integers import check_rounding, rounding
from lightning_attnflow.flow.layer import Groups, LayerFlow, Tolerance, exact_flow, layer_flow
from lightning_attnflow.flow.result import AttentionFlow
from lightning_attnflow.flow.solvers import Solver, get_solver
from lightning_attnflow.flow.solvers.protocol import EdgeFunction
from lightning_attnflow.shapley.wrappers import partition

METHODS = ("shapley", "pairwise", "single", "rollout")


@overload
def attention_flow(
    network: AttentionNetwork,
    *,
    method: str = ...,
    layers: Sequence[int] | None = ...,
    solver: str | Solver | EdgeFunction = ...,
    tolerance: float = ...,
    absolute: bool = ...,
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
    solver: str | Solver | EdgeFunction = ...,
    tolerance: float = ...,
    absolute: bool = ...,
    seed: int = ...,
    groups: Sequence[Groups | None] | None = ...,
    game: str = ...,
) -> list[AttentionFlow]: ...


def attention_flow(
    network: AttentionNetwork | Sequence[AttentionNetwork],
    *,
    method: str = "shapley",
    layers: Sequence[int] | None = None,
    solver: str | Solver | EdgeFunction = "native",
    tolerance: float = 0.05,
    absolute: bool = False,
    seed: int = 0,
    groups: Groups | Sequence[Groups | None] | None = None,
    game: str = "source",
) -> AttentionFlow | list[AttentionFlow]:
    """Return the attention flow of every position, or group of positions, in every layer.

    The "native" solver shares the work among as many threads as torch uses, ``torch.get_num_threads()``, at most one
    for each core. The result does not depend on their number.

    Args:
        network: the attention network of one sentence, or a sequence of networks of any lengths.
        method: "shapley": the Shapley value of the flow game of each layer, which is unique, efficient, and itself a
            maximum flow. "pairwise": the maximum flow from each position alone, v({i}) (Abnar & Zuidema). "single":
            the outflow of the one maximum flow that the solver finds. "rollout": attention rollout, also a maximum
            flow; only for rows and a readout that are probabilities.
        layers: layers of positions to compute, each in 0..L; default all.
        solver: one of `lightning_attnflow.flow.SOLVERS`, a `Solver`, or a function as described in `EdgeSolver`.
        tolerance: half-width of the 95% intervals at which sampling stops, > 0, as a share of the mean value of the
            players of the layer: with 100 players, a total flow of 1 and the default, 0.05 / 100. Intervals of sampled
            layers contain the value in 95% of cases on average over the players, not for each player.
        absolute: whether ``tolerance`` is in units of flow instead.
        seed: of the sampled permutations.
        groups: a partition of the positions, for instance into words: each group is one player. For a sequence of
            networks, one partition or None for each.
        game: "source" or "through", see `FlowGame`. The range [v(N) - v(N - i), v({i})] contains every maximum flow
            of either game, and the Shapley value of "source", which is submodular. For "through" it is only proven to
            contain the Shapley value if both are the same game.

    Returns:
        An `AttentionFlow`; a list of them for a sequence of networks.

    Warns:
        UserWarning: all positive capacities into a position, or out of it, are rounded to 0; sampling takes more than
            half a minute, with the expected time and how to take less. In a terminal, a progress bar counts layers.

    Raises:
        InputError: no network, an unknown method, solver or game, a layer outside 0..L, a tolerance that is not a
            number > 0, a seed that is not an integer >= 0, groups that are not a partition, rollout of capacities that
            are not probabilities, a layer whose capacities are all rounded to 0, or capacities all below 1e-293.
        MissingDependencyError: the solver's package is not installed.

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
    check_choice("method", method, METHODS)
    check_positive("tolerance", tolerance)
    check_choice("game", game, GAMES)
    seed = check_seed(seed)
    solver = get_solver(solver)
    single = not isinstance(network, Iterable)
    networks = list(network) if isinstance(network, Iterable) else [network]
    partitions: list[Any] = [groups]
    if not single and (groups is None or isinstance(groups, Iterable)):
        partitions = [None] * len(networks) if groups is None else list(groups)
    if len(partitions) != len(networks):
        got = f"{counted(len(partitions), 'partition')} for {counted(len(networks), 'network')}"
        raise InputError("groups", got=got, expected="one partition or None for each network")
    tasks = []
    for index, (one, of_one) in enumerate(zip(networks, partitions, strict=True)):
        name = "" if single else f"network[{index}]"
        with _error_prefix(name):
            tasks.append(_checked_task(one, layers, of_one, method))
            check_rounding(one, solver.bits, name, stacklevel=2)
    rows = _layer_flows(
        tasks, method, solver, Tolerance(float(tolerance), check_bool("absolute", absolute)), seed, game
    )
    flows = [_assembled(task, flow, method, solver, seed, game) for task, flow in zip(tasks, rows, strict=True)]
    return flows[0] if single else flows


class _Task(NamedTuple):
    network: AttentionNetwork
    layers: list[int]
    members: NDArray[np.bool_]  # (n, T)
    grouped: bool


@contextmanager
def _error_prefix(name: str) -> Iterator[None]:
    """Prefix input errors with the name of a network, if there is one."""
    try:
        yield
    except InputError as error:
        if not name:
            raise
        raise InputError(f"{name}: {error.what}", got=error.got, expected=error.expected, remedy=error.remedy) from None


def _checked_task(network: AttentionNetwork, layers: Sequence[int] | None, groups: Groups | None, method: str) -> _Task:
    check_network(network)
    wanted, members = check_layers(layers, network.n_layers), _membership(groups, network.n_positions)
    if method == "rollout" and not network.is_probability:
        raise InputError(
            "method",
            got=f"'rollout' with a readout of sum {network.readout.sum():g}",
            expected="rows and a readout that are probabilities",
            remedy="Use method='shapley', which is defined for all capacities.",
        )
    return _Task(network, wanted, members, groups is not None)


def _layer_flows(
    tasks: Sequence[_Task], method: str, solver: Solver, tolerance: Tolerance, seed: int, game: str
) -> list[dict[int, LayerFlow]]:
    """Return the flows of the wanted layers of each task."""
    if not any(task.layers for task in tasks):
        return [{} for _ in tasks]
    if solver.has_engine and game == "source":
        from lightning_attnflow.flow.engine import run  # importing numba takes 0.5 s

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


def _game_of(task: _Task, layer: int, solver: Solver, game: str) -> FlowGame:
    return FlowGame(task.network, layer, solver=solver, game=game, check=False)


def _with_outflow(
    task: _Task, row: dict[int, LayerFlow], method: str, solver: Solver, game: str
) -> dict[int, LayerFlow]:
    """Replace the values by one maximum flow: the solver's, or rollout."""
    outflows = {
        layer: attention_rollout(task.network, layers=[layer])[0]
        if method == "rollout"
        else _game_of(task, layer, solver, game).single_flow()
        for layer in row
    }
    return {
        layer: exact_flow(task.members @ outflows[layer], flow.lower, flow.upper, flow.total)
        for layer, flow in row.items()
    }


def _assembled(
    task: _Task, flows: dict[int, LayerFlow], method: str, solver: Solver, seed: int, game: str
) -> AttentionFlow:
    rows = [flows[layer] for layer in task.layers]
    shape = (len(rows), len(task.members))
    slack = rounding(task.network, solver.bits)
    names = [binding_cuts(task.network, layer, task.members, flows[layer].upper, slack) for layer in task.layers]
    saturations = [saturation(cuts, row.lower, row.upper, slack) for cuts, row in zip(names, rows, strict=True)]
    arrays: dict[str, Any] = {
        name: np.reshape([getattr(row, name) for row in rows], shape)
        for name in ("values", "lower", "upper", "stderr", "low", "high")
    }
    return AttentionFlow(
        **arrays,
        total=np.array([row.total for row in rows], dtype=np.float64),
        binding_cut=np.reshape(names, shape),
        saturation=np.array(saturations, dtype=np.float64),
        n_permutations=np.array([row.n_permutations for row in rows], dtype=np.int64),
        layers=tuple(task.layers),
        method=method,
        game=game,
        solver=solver.name,
        seed=seed,
    )


def _membership(groups: Groups | None, n_positions: int) -> NDArray[np.bool_]:
    """Return the positions of each player, bool (n, T)."""
    if groups is None:
        return np.eye(n_positions, dtype=bool)
    parts = partition(groups, n_positions)
    members = np.zeros((len(parts), n_positions), dtype=bool)
    for row, positions in zip(members, parts, strict=True):
        row[list(positions)] = True
    return members
