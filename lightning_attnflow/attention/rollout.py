"""Attention rollout (Abnar & Zuidema 2020): the product of the readout with the attention matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightning_attnflow._checks import check_items, is_integer
from lightning_attnflow.attention.head_merging import Floats
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.errors import InputError


def attention_rollout(network: AttentionNetwork, *, layers: Sequence[int] | None = None) -> Floats:
    """Return the share of the readout that reaches every position, layer by layer.

    For rows and a readout that are probabilities, the result sums to 1 in every layer and is one of the maximum flows:
    the flow at (l, j) is split over the edges below by row j, and since no node has a flow above 1, no edge has more
    than its capacity.

    Args:
        network: the attention network of one sentence.
        layers: layers of positions to return, each in 0..L; default all.

    Returns:
        float64 (len(layers), T), one row per layer of ``layers``.

    Raises:
        InputError: a layer outside 0..L, or capacities whose rows do not sum to 1.

    Source: Abnar & Zuidema (2020), section 3.1.

    Example:
        >>> import numpy as np
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]] * 2), np.array([1.0, 0.0]))
        >>> attention_rollout(network).round(4).tolist()
        [[0.61, 0.39], [0.7, 0.3], [1.0, 0.0]]
    """
    if not isinstance(network, AttentionNetwork):
        raise InputError("network", got=type(network).__name__, expected="an AttentionNetwork")
    wanted = check_layers(layers, network.n_layers)
    if not network.is_stochastic:
        raise InputError(
            "network",
            got=f"row sums between {network.capacities.sum(2).min():g} and {network.capacities.sum(2).max():g}",
            expected="rows summing to 1",
            remedy="Use attention_flow for capacities that are not probabilities.",
        )
    mass = np.empty((network.n_layers + 1, network.n_positions))
    mass[-1] = network.readout
    for layer in range(network.n_layers - 1, -1, -1):
        mass[layer] = mass[layer + 1] @ network.capacities[layer]
    return mass[wanted]


def check_layers(layers: Sequence[int] | None, n_layers: int) -> list[int]:
    """Return layers of positions as a list, all of 0..L for None."""
    if layers is None:
        return list(range(n_layers + 1))
    expected = f"a sequence of layers in 0..{n_layers}, from the input to the readout's layer"
    wanted = check_items("layers", layers, expected)
    wrong = [layer for layer in wanted if not is_integer(layer) or not 0 <= layer <= n_layers]
    if wrong:
        raise InputError("layers", got=wrong, expected=expected)
    return [int(layer) for layer in wanted]
