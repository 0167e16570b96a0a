"""Which minimum cut decides what a player can send alone, and how saturated a layer is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.network import AttentionNetwork, Floats

READOUT, COLUMN, INTAKE, MIXED = "readout", "column", "intake", "mixed"
_ROUNDING = 1e-9  # of the total: what integer capacities may be off by, with room


def binding_cuts(network: AttentionNetwork, layer: int, members: NDArray[np.bool_], upper: Floats) -> NDArray[np.str_]:
    """Name the cut that decides v({player}) for each player of a layer.

    Three cuts need no maximum flow: the edges into the sink; the player's own edges, sum_j A[layer + 1][j, i]; and, if
    the sink reads one position r, what r takes in from all others above the player's layer.

    Args:
        network: the attention network.
        layer: 0..L.
        members: bool (n, T), the positions of each player.
        upper: float64 (n,), v({player}).

    Returns:
        str (n,), each "readout", "column", "intake" or "mixed"; the first that is tight.
    """
    slack = _ROUNDING * float(network.readout.sum())
    names = np.full(len(upper), MIXED, dtype="<U7")
    if layer < network.n_layers:
        own = network.capacities[layer] @ members.T.astype(np.float64)  # (T, n): what players send to each position
        position = network.readout_position
        if position is not None:
            narrowest = intake(network.capacities[layer + 1 :], position)
            names[upper >= own[position] + narrowest - slack] = INTAKE
        names[upper >= own.sum(axis=0) - slack] = COLUMN
    names[upper >= network.readout.sum() - slack] = READOUT
    if layer == network.n_layers:
        names[:] = READOUT
    return names


def intake(capacities: Floats, position: int) -> float:
    """Return what ``position`` takes in from all others over the layers given, float64 (K, T, T)."""
    received = capacities[:, position, :]
    return float(received.sum() - received[:, position].sum())


def saturation(names: NDArray[np.str_], lower: Floats, upper: Floats) -> float:
    """Return the share of players whose flow a cut other than a mixed one decides; 0 if the game is modular.

    Where every interval [lower, upper] is a point the flow is the attention itself, and the cuts hide nothing.
    """
    if np.abs(upper - lower).max(initial=0.0) <= _ROUNDING * max(1.0, float(upper.sum())):
        return 0.0
    return float((names != MIXED).mean())
