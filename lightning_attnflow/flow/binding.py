"""Which minimum cut decides what a player can send alone, and how saturated a layer is."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.network import AttentionNetwork, Floats

READOUT, COLUMN, INTAKE, MIXED = "readout", "column", "intake", "mixed"


def binding_cuts(
    network: AttentionNetwork, layer: int, members: NDArray[np.bool_], upper: Floats, slack: float
) -> NDArray[np.str_]:
    """Name the cut that decides v({player}) for each player of a layer.

    Three cuts need no maximum flow: the edges into the sink, in layer L those of the player; the player's own edges,
    sum_j A[layer + 1][j, i]; and, if the sink reads one position r, what r takes in from all others above the player's
    layer. They bound both games, "source" and "through"; other cuts, those below the layer among them, are mixed.

    Args:
        network: the attention network.
        layer: 0..L.
        members: bool (n, T), the positions of each player.
        upper: float64 (n,), v({player}).
        slack: what ``upper`` may be below a cut that decides it, see `rounding`.

    Returns:
        str (n,), each "readout", "column", "intake" or "mixed"; the first that is tight.
    """
    names = np.full(len(upper), MIXED, dtype="<U7")
    if layer < network.n_layers:
        own = network.capacities[layer] @ members.T.astype(np.float64)  # (T, n): what players send to each position
        position = network.readout_position
        if position is not None:
            narrowest = intake(network.capacities[layer + 1 :], position)
            names[upper >= own[position] + narrowest - slack] = INTAKE
        names[upper >= own.sum(axis=0) - slack] = COLUMN
        to_sink = network.readout.sum()
    else:
        to_sink = members @ network.readout  # (n,)
    names[upper >= to_sink - slack] = READOUT
    return names


def intake(capacities: Floats, position: int) -> float:
    """Return what ``position`` takes in from all others over the layers given, float64 (K, T, T)."""
    received = capacities[:, position, :]
    return float(received.sum() - received[:, position].sum())


def saturation(names: NDArray[np.str_], lower: Floats, upper: Floats, slack: float) -> float:
    """Return the share of players whose flow a cut other than a mixed one decides; 0 if the game is modular.

    Where every interval [lower, upper] is a point the flow is the attention itself, and the cuts hide nothing.

    Args:
        names: of the cuts, (n,).
        lower: float64 (n,), v(N) - v(N - i).
        upper: float64 (n,), v({i}).
        slack: what each of the three values of v may be off by.
    """
    if np.abs(upper - lower).max(initial=0.0) <= 3 * slack:
        return 0.0
    return float((names != MIXED).mean())
