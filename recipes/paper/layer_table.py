"""Agreement of the flow into each layer with a reference explanation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attribution import Sentence, TokenAttribution, agreement
from lightning_attnflow.flow import attention_flow

FLOW_METHODS = ("pairwise", "shapley", "rollout")


@dataclass(frozen=True, eq=False)
class LayerTable:
    """Agreement of flow and rollout with a reference explanation, layer by layer, for one sentence.

    Args:
        spearman: method -> float (L,), Spearman's rho with the reference's absolute values for layers 0..L-1; NaN where
            a layer has constant values.
        kendall: the same for Kendall's tau-b.
        saturation: float (L,), share of the tokens whose flow is decided by a trivial cut.
        ambiguity: float (L,), sum of the ranges over all maximum flows; 0 where the maximum flow is unique.
        flows: float (L + 1, T), the Shapley flow of every layer, from the input to the readout.
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
        Scores for all layers except L, which is the readout.

    Raises:
        InputError: a reference of other players.
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
