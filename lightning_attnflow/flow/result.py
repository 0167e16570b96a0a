"""What `attention_flow` returns: the flow of every layer and player, what bounds it and which cut decided it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.network import Floats

SATURATION_THRESHOLD = 0.5
"""A layer whose saturation is at least this large is saturated."""


@dataclass(frozen=True, eq=False)
class AttentionFlow:
    """Attention flow of a sentence, layer by layer. Rows follow ``layers``, columns the positions or groups.

    Attributes:
        values: float64 (layers, n), the flow of each player by ``method``.
        lower: float64 (layers, n), leave-one-out, v(N) - v(N - i): what no maximum flow can take from the player.
        upper: float64 (layers, n), v({i}), the pairwise flow: what the player can send alone, so that no maximum flow
            takes more from it. The Shapley value lies between the two for the game "source", which is submodular; for
            "through" only ``upper`` is sure to bound it, unless both are the same game, see `FlowGame`.
        stderr: float64 (layers, n), standard error of ``values`` from the sampling of orders; 0 where they are exact.
            ``low`` and ``high`` hold beside it what bounds on coalitions leave open.
        low: float64 (layers, n), and ``high``: the 95% interval of ``values``, for "source" inside [lower, upper].
        high: float64 (layers, n).
        total: float64 (layers,), the maximum flow of the layer, v(N).
        binding_cut: str (layers, n), the minimum cut of v({i}): "readout" (the sink's own edges), "column" (the
            player's own edges), "intake" (what a one-token readout takes in from all others) or "mixed" (any other,
            such as what the player itself takes in, for the game "through").
        saturation: float64 (layers,), the share of players decided by one of the first three, so that their flow says
            next to nothing about them; 0 where ``lower`` is ``upper`` for all players: for "source" the game is modular
            there, and the flow is the attention itself.
        n_permutations: int (layers,), orders sampled for the Shapley value; 0 where it is exact.
        layers: the layers of the rows.
        method: "shapley", "pairwise", "single" or "rollout".
        game: "source" or "through", see `FlowGame`.
        solver: the solver's name.
        seed: the seed of the orders.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow import AttentionNetwork, attention_flow
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> flow = attention_flow(network)
        >>> flow.values.round(4).tolist()
        [[0.7, 0.3], [0.7, 0.3], [1.0, 0.0]]
        >>> flow.ambiguity.round(4).tolist()
        [1.2, 0.0, 0.0]
    """

    values: Floats
    lower: Floats
    upper: Floats
    stderr: Floats
    low: Floats
    high: Floats
    total: Floats
    binding_cut: NDArray[np.str_]
    saturation: Floats
    n_permutations: NDArray[np.int64]
    layers: tuple[int, ...]
    method: str
    game: str
    solver: str
    seed: int

    @property
    def ambiguity(self) -> Floats:
        """float64 (layers,): sum of ``upper - lower``, 0 where the maximum flow is unique."""
        ambiguity: Floats = (self.upper - self.lower).sum(axis=1)
        return ambiguity

    @property
    def is_saturated(self) -> NDArray[np.bool_]:
        """bool (layers,): whether ``saturation`` is at least `SATURATION_THRESHOLD`."""
        saturated: NDArray[np.bool_] = self.saturation >= SATURATION_THRESHOLD
        return saturated
