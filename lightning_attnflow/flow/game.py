"""The flow game of one layer: the value of a set of positions is the maximum flow from them to the readout.

    v_k(S) = value of the maximum flow from {(k, i): i in S} to the sink.

The game is monotone and submodular (Megiddo 1974), so every marginal of a player, and with it the Shapley value, lies
between its leave-one-out value and its value alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_choice
from lightning_attnflow.attention.head_merging import Floats
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import check_layers
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.integers import check_rounding, quantise
from lightning_attnflow.flow.solvers import Solver, get_solver
from lightning_attnflow.flow.solvers.protocol import Bools, EdgeFunction, MaxFlow, without_positions

GAMES = ("source", "through")


class FlowGame:
    """The flow game of one layer of an attention network. Its players are the positions.

    Args:
        network: the attention network.
        layer: the layer of the players, 0..L.
        solver: one of `lightning_attnflow.flow.SOLVERS`, a `Solver`, or a function as described in `EdgeSolver`.
        game: "source": the flow starts at the coalition, as in v_k(S) above. "through": the flow starts at all
            positions of layer 0 and passes layer k only at the coalition. For rows and a readout that are
            probabilities both are the same game; for the readout "all" they differ, and "through" may not be
            submodular.
        check: whether to check for capacities that are rounded to 0.

    Attributes:
        n_players: T.

    Warns:
        UserWarning: all positive capacities into a position, or out of it, are rounded to 0.

    Raises:
        InputError: no network, a layer outside 0..L, an unknown solver or game, a layer whose capacities are all
            rounded to 0, or capacities all below 1e-293.
        MissingDependencyError: the solver's package is not installed.

    Source: Ethayarajh & Jurafsky (2021), section 3; Megiddo (1974), Optimal flows in networks with multiple sources
    and sinks.

    Example:
        >>> import numpy as np
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> FlowGame(network, layer=0)(np.array([[True, False], [True, True]])).round(4).tolist()
        [1.0, 1.0]
    """

    def __init__(
        self,
        network: AttentionNetwork,
        layer: int,
        *,
        solver: str | Solver | EdgeFunction = "native",
        game: str = "source",
        check: bool = True,
    ) -> None:
        check_network(network)
        check_choice("game", game, GAMES)
        (self.layer,) = check_layers([layer], network.n_layers)
        self.game = game
        self.n_players = network.n_positions
        self._solver = get_solver(solver)
        if check:
            check_rounding(network, self._solver.bits, stacklevel=2)
        self._network = quantise(network, self._solver.bits)
        self._bounds: tuple[Floats, Floats] | None = None

    @property
    def is_submodular(self) -> bool:
        """Whether the game is known to be submodular."""
        return self.game == "source" or self._network.conserves

    def __call__(self, coalitions: NDArray[np.bool_]) -> Floats:
        """Return v(S) of coalitions, bool (m, T), as float64 (m,).

        Raises:
            InputError: coalitions of another shape or dtype.
        """
        return self.units(coalitions) / self._network.scale

    def units(self, coalitions: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return v(S) in exact integer units, int64 (m,)."""
        rows, network = self._checked(coalitions), self._network
        if self.game == "through":
            return np.array([self._solve(row).value for row in rows], dtype=np.int64)
        if self.layer == network.n_layers:
            return rows @ network.readout
        return self._solver.values(network.capacities[self.layer :], network.readout, rows)

    def marginal_bounds(self) -> tuple[Floats, Floats]:
        """Return bounds of the marginals of each player, (lower (T,), upper (T,)).

        The upper bound is the value alone. The lower bound is leave-one-out, or 0 if the game may not be submodular.
        """
        if self._bounds is None:
            alone = np.eye(self.n_players, dtype=bool)
            low = np.zeros(self.n_players)
            if self.is_submodular:
                low = self(np.ones((1, self.n_players), dtype=bool)) - self(~alone)
            self._bounds = low, self(alone)
        return self._bounds

    def single_flow(self) -> Floats:
        """Return the flow through each position in the maximum flow that the solver finds, float64 (T,)."""
        network, everyone = self._network, np.ones(self.n_players, dtype=bool)
        if self.layer == network.n_layers and self.game == "source":
            return network.readout / network.scale
        flow = self._solve(everyone)
        sent = flow.outflow if self.game == "source" else (*flow.flow.sum(axis=1), flow.sink_flow)[self.layer]
        return np.asarray(sent / network.scale)

    def _checked(self, coalitions: NDArray[np.bool_]) -> Bools:
        rows = coalitions if isinstance(coalitions, np.ndarray) else np.array(coalitions, dtype=object)
        if rows.dtype != np.bool_ or rows.ndim != 2 or rows.shape[1] != self.n_players:
            raise InputError(
                "coalitions",
                got=f"{type(coalitions).__name__} of shape {rows.shape} and dtype {rows.dtype}",
                expected=f"a bool array (m, {self.n_players}), true for the members",
            )
        return rows

    def _solve(self, coalition: Bools) -> MaxFlow:
        network = self._network
        if self.game == "source":
            return self._solver.max_flow(network.capacities[self.layer :], network.readout, coalition)
        capacities, readout = without_positions(network.capacities, network.readout, self.layer, ~coalition)
        return self._solver.max_flow(capacities, readout, np.ones_like(coalition))


def check_network(network: object) -> None:
    """Raise `InputError` unless ``network`` is an `AttentionNetwork`."""
    if not isinstance(network, AttentionNetwork):
        raise InputError(
            "network",
            got=type(network).__name__,
            expected="an AttentionNetwork",
            remedy="AttentionNetwork.from_attentions creates one from attention probabilities.",
        )
