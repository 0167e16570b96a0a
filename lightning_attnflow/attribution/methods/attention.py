"""Methods that read attention weights: raw attention and rollout."""

from __future__ import annotations

from typing import Any

from lightning_attnflow._checks import check_integer
from lightning_attnflow.attention.head_merging import Heads
from lightning_attnflow.attention.rollout import attention_rollout
from lightning_attnflow.attribution.methods import register_method
from lightning_attnflow.attribution.result import TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence


@register_method("attention_last", family="attention")
def attention_last(sentence: Sentence, *, heads: Heads = "mean", readout: Any = "auto") -> TokenAttribution:
    """Attention of the readout in the last layer."""
    raw = sentence.network(heads=heads, residual=0.0, readout=readout)
    return sentence.by_position(raw.readout @ raw.capacities[-1], "attention_last", "players")


@register_method("attention_mean", family="attention")
def attention_mean(sentence: Sentence, *, heads: Heads = "mean", readout: Any = "auto") -> TokenAttribution:
    """Attention of the readout, mean over the layers."""
    raw = sentence.network(heads=heads, residual=0.0, readout=readout)
    return sentence.by_position(raw.readout @ raw.capacities.mean(axis=0), "attention_mean", "players")


@register_method("received_attention", family="attention")
def received_attention(sentence: Sentence, *, heads: Heads = "mean", layer: int | None = None) -> TokenAttribution:
    """Attention received from all positions, in one layer (0..L-1) or the mean over the layers."""
    raw = sentence.network(heads=heads, residual=0.0)
    if layer is not None:
        layer = check_integer("layer", layer, minimum=0, maximum=raw.n_layers - 1)
    matrix = raw.capacities.mean(axis=0) if layer is None else raw.capacities[layer]  # (T, T) [query, key]
    return sentence.by_position(matrix.sum(axis=0), "received_attention", "players", layer=layer)


@register_method("rollout", family="attention")
def rollout(
    sentence: Sentence, *, layer: int | None = None, heads: Heads = "mean", residual: float = 0.5, readout: Any = "auto"
) -> TokenAttribution:
    """Attention rollout into one layer, one of the maximum flows."""
    network = sentence.network(heads=heads, residual=residual, readout=readout)
    layer = check_flow_layer(layer, network.n_layers)
    values = attention_rollout(network, layers=[layer])[0]
    return sentence.by_position(values, "rollout", "players", layer=layer)


def default_layer(n_layers: int) -> int:
    """Return the default layer of positions (0..L): three layers below the readout, in the upper half.

    On real encoders trivial cuts decide the flow into the input layer, whereas flow three layers below the readout
    agrees with token Shapley values about as well as other usual methods.

    Args:
        n_layers: number of attention layers L, >= 1.

    Raises:
        InputError: no such number.

    Example:
        >>> [default_layer(n_layers) for n_layers in (1, 2, 3, 4, 6, 12, 24)]
        [0, 1, 2, 2, 3, 9, 21]
    """
    n_layers = check_integer("n_layers", n_layers)
    return min(n_layers - 1, max(n_layers - 3, (n_layers + 1) // 2))


def check_flow_layer(layer: int | None, n_layers: int) -> int:
    """Return a layer of positions (0..L), by default `default_layer`."""
    return default_layer(n_layers) if layer is None else check_integer("layer", layer, minimum=0, maximum=n_layers)
