"""Binding cuts: the minimum cut that limits the flow of each player, and the saturation of a layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.head_merging import Floats
from lightning_attnflow.attention.network import AttentionNetwork

READOUT, OUTFLOW, INFLOW, MIXED = "readout", "outflow", "inflow", "mixed"
CUT_MEANINGS = {
    READOUT: "capacity of the readout",
    OUTFLOW: "outflow of the token: the attention it receives from the layer above",
    INFLOW: "inflow of the readout: what the position that is read receives from all others",
    MIXED: "any other minimum cut",
}
"""The binding cuts by name. All but "mixed" are trivial: they are sums of attention, without a maximum flow."""


def binding_cuts(
    network: AttentionNetwork, layer: int, members: NDArray[np.bool_], upper: Floats, slack: float
) -> NDArray[np.str_]:
    """Return the name of a minimum cut of v({player}) for each player of a layer.

    Three cuts need no maximum flow: the edges into the sink (in layer L those of the player); the outflow of the
    player, sum_j A[layer + 1][j, i]; and, if the sink reads one position r, the inflow of r from all other positions
    above the player's layer. They are upper bounds in both games, "source" and "through". All other cuts, including
    those below the layer, are mixed.

    Args:
        network: the attention network.
        layer: 0..L.
        members: bool (n, T), the positions of each player.
        upper: float64 (n,), v({player}).
        slack: tolerance of the comparison with the capacity of a cut, see `rounding`.

    Returns:
        str (n,), each "readout", "outflow", "inflow" or "mixed"; if several are tight, the first in this list.
    """
    names = np.full(len(upper), MIXED, dtype="<U7")
    if layer < network.n_layers:
        own = network.capacities[layer] @ members.T.astype(np.float64)  # (T, n): from each player to each position
        position = network.readout_position
        if position is not None:
            names[upper >= own[position] + inflow(network.capacities[layer + 1 :], position) - slack] = INFLOW
        names[upper >= own.sum(axis=0) - slack] = OUTFLOW
        to_sink = network.readout.sum()
    else:
        to_sink = members @ network.readout  # (n,)
    names[upper >= to_sink - slack] = READOUT
    return names


def inflow(capacities: Floats, position: int) -> float:
    """Return the capacity into ``position`` from all other positions in the given layers, float64 (K, T, T)."""
    received = capacities[:, position, :]
    return float(received.sum() - received[:, position].sum())


def saturation(names: NDArray[np.str_], lower: Floats, upper: Floats, slack: float) -> float:
    """Return the share of players whose binding cut is trivial; 0 if the game is modular.

    If every interval [lower, upper] is a point, the flow equals the attention, which is informative.

    Args:
        names: (n,), the binding cuts.
        lower: float64 (n,), v(N) - v(N - i).
        upper: float64 (n,), v({i}).
        slack: rounding error of a value of v.
    """
    if np.abs(upper - lower).max(initial=0.0) <= 3 * slack:
        return 0.0
    return float((names != MIXED).mean())
