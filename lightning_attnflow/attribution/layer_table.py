"""What the flow into each layer is worth: its agreement with token Shapley values, with saturation beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attribution.agreement import agreement
from lightning_attnflow.attribution.attribution import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence
from lightning_attnflow.flow import attention_flow

FLOW_METHODS = ("pairwise", "shapley", "rollout")


@dataclass(frozen=True, eq=False)
class LayerTable:
    """Agreement of flow and rollout with a reference explanation, layer by layer, for one sentence.

    Args:
        spearman: method -> float (L,), Spearman's rho with the reference's absolute values for layers 0..L-1; NaN where
            a layer ranks nobody.
        kendall: the same for Kendall's tau-b.
        saturation: float (L,), share of the tokens that one trivial cut decides.
        ambiguity: float (L,), sum of the ranges over all maximum flows; 0 where the maximum flow is unique.
        flows: float (L + 1, T), the Shapley flow of every layer, 0 the input and L what the prediction reads.
    """

    spearman: Mapping[str, NDArray[np.float64]]
    kendall: Mapping[str, NDArray[np.float64]]
    saturation: NDArray[np.float64]
    ambiguity: NDArray[np.float64]
    flows: NDArray[np.float64]


def layer_table(sentence: Sentence, reference: TokenAttribution) -> LayerTable:
    """Compare the flow into every layer with a reference, such as exact token Shapley values.

    Args:
        sentence: model and sentence; its players must be tokens.
        reference: an attribution of the sentence's tokens, compared by absolute value, since a flow has no sign.

    Returns:
        One row a layer; layer L is left out, where everything flows from the readout itself.

    Raises:
        InputError: a reference for other players.
    """
    network = sentence.network()
    layers = range(network.n_layers)
    flows = {method: attention_flow(network, method=method, seed=sentence.seed) for method in FLOW_METHODS}
    found = {
        method: [
            agreement(sentence.by_position(flow.values[k], method, "players"), reference, absolute=True) for k in layers
        ]
        for method, flow in flows.items()
    }
    return LayerTable(
        spearman=MappingProxyType({name: np.array([row.spearman for row in rows]) for name, rows in found.items()}),
        kendall=MappingProxyType({name: np.array([row.kendall for row in rows]) for name, rows in found.items()}),
        saturation=flows["shapley"].saturation[:-1],
        ambiguity=flows["shapley"].ambiguity[:-1],
        flows=flows["shapley"].values,
    )
