"""Explanations that read attention: raw weights, rollout and flow. They take no payoff and no absent tokens."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np

from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.rollout import attention_rollout
from lightning_attnflow.attention.tokens import Players
from lightning_attnflow.attribution.arguments import check_layer
from lightning_attnflow.attribution.attribution import MAXIMUM_FLOWS, TokenAttribution
from lightning_attnflow.attribution.registry import register
from lightning_attnflow.attribution.sentence import Heads, Sentence, check_grouping
from lightning_attnflow.flow.attention_flow import attention_flow
from lightning_attnflow.flow.solvers.protocol import EdgeFunction, Solver


class SaturatedFlowWarning(UserWarning):
    """Most tokens of the layer have a flow that one trivial cut decides; the values say little about them."""


@register("attention")
def attention_last(sentence: Sentence, *, heads: Heads = "mean", readout: Any = "auto") -> TokenAttribution:
    """Attention of the readout in the last layer."""
    raw = sentence.network(heads=heads, residual=0.0, readout=readout)
    return sentence.by_position(raw.readout @ raw.capacities[-1], "attention_last", "players")


@register("attention")
def attention_mean(sentence: Sentence, *, heads: Heads = "mean", readout: Any = "auto") -> TokenAttribution:
    """Attention of the readout, mean over the layers."""
    raw = sentence.network(heads=heads, residual=0.0, readout=readout)
    return sentence.by_position(raw.readout @ raw.capacities.mean(axis=0), "attention_mean", "players")


@register("attention")
def received_attention(sentence: Sentence, *, heads: Heads = "mean", layer: int | None = None) -> TokenAttribution:
    """Attention received from all positions together, of one layer (0..L-1) or the mean over the layers (Prop. 1)."""
    raw = sentence.network(heads=heads, residual=0.0)
    if layer is not None:
        layer = check_layer(layer, raw.n_layers - 1, "None averages over all.")
    matrix = raw.capacities.mean(axis=0) if layer is None else raw.capacities[layer]  # (T, T) [query, key]
    return sentence.by_position(matrix.sum(axis=0), "received_attention", "players", layer=layer)


@register("attention")
def rollout(
    sentence: Sentence, *, layer: int | None = None, heads: Heads = "mean", residual: float = 0.5, readout: Any = "auto"
) -> TokenAttribution:
    """Attention rollout into one layer: one maximum flow among many."""
    network = sentence.network(heads=heads, residual=residual, readout=readout)
    layer = chosen_layer(layer, network.n_layers)
    values = attention_rollout(network, layers=[layer])[0]
    return sentence.by_position(values, "rollout", "players", layer=layer)


@register("attention")
def flow(
    sentence: Sentence,
    *,
    layer: int | None = None,
    heads: Heads = "mean",
    residual: float = 0.5,
    readout: Any = "auto",
    grouping: str = "quotient",
    tolerance: float = 5e-3,
) -> TokenAttribution:
    """Shapley value of the flow game of one layer: the one maximum flow that treats equals equally."""
    return _flow(sentence, "shapley", "flow", layer, heads, residual, readout, grouping, tolerance=tolerance)


@register("attention")
def flow_pairwise(
    sentence: Sentence,
    *,
    layer: int | None = None,
    heads: Heads = "mean",
    residual: float = 0.5,
    readout: Any = "auto",
    grouping: str = "quotient",
) -> TokenAttribution:
    """Maximum flow of each position alone, as Abnar & Zuidema compute it; does not add up to the total."""
    return _flow(sentence, "pairwise", "flow_pairwise", layer, heads, residual, readout, grouping)


@register("attention")
def flow_single(
    sentence: Sentence,
    *,
    layer: int | None = None,
    heads: Heads = "mean",
    residual: float = 0.5,
    readout: Any = "auto",
    solver: str | Solver | EdgeFunction = "native",
) -> TokenAttribution:
    """Outflow of the one maximum flow that a solver returns: the paper read literally, an accident of the solver."""
    return _flow(sentence, "single", "flow_single", layer, heads, residual, readout, "sum", solver=solver)


def default_layer(n_layers: int) -> int:
    """Return the layer of positions (0..L) whose flow is worth looking at: three below the readout, in the upper half.

    Flow into the input layer is decided by trivial cuts in a real encoder and says next to nothing; three layers below
    the readout it agrees with token Shapley values about as well as the usual methods do.

    Example:
        >>> [default_layer(n_layers) for n_layers in (1, 2, 3, 4, 6, 12, 24)]
        [0, 1, 2, 2, 3, 9, 21]
    """
    return min(n_layers - 1, max(n_layers - 3, (n_layers + 1) // 2))


def chosen_layer(layer: int | None, n_layers: int) -> int:
    """Return the layer of positions (0..L) asked for, the default for None; raise if there is no such layer."""
    if layer is None:
        return default_layer(n_layers)
    return check_layer(layer, n_layers, f"{n_layers} is what the readout reads; None takes {default_layer(n_layers)}.")


def _flow(
    sentence: Sentence,
    kind: str,
    name: str,
    layer: int | None,
    heads: Heads,
    residual: float,
    readout: Any,
    grouping: str,
    **options: Any,
) -> TokenAttribution:
    network = sentence.network(heads=heads, residual=residual, readout=readout)
    layer = chosen_layer(layer, network.n_layers)
    groups = sentence.groups("players")
    quotient = check_grouping(grouping) == "quotient" and groups.kind != "tokens"
    if quotient:
        options["groups"] = _all_groups(groups, network)
    result = attention_flow(network, method=kind, layers=[layer], seed=sentence.seed, **options)
    if result.is_saturated[0]:
        _warn_saturated(float(result.saturation[0]), layer, network)
    facts: dict[str, Any] = {
        "layer": layer,
        "low": result.lower[0],
        "high": result.upper[0],
        "interval": MAXIMUM_FLOWS,
        "stderr": result.stderr[0],
        "details": {"saturation": float(result.saturation[0]), "ambiguity": float(result.ambiguity[0])},
    }
    if not quotient:
        return sentence.by_position(result.values[0], name, "players", **facts)
    rows = np.arange(len(groups))  # the groups asked for come first
    facts.update({key: facts[key][rows] for key in ("low", "high", "stderr")})
    return sentence.by_player(groups, result.values[0][rows], name, **facts)


def _all_groups(groups: Players, network: AttentionNetwork) -> list[list[int]]:
    """The groups that play, then every position in none of them alone, so that all positions are covered."""
    taken = {position for group in groups.positions for position in group}
    alone = [[position] for position in range(network.n_positions) if position not in taken]
    return [list(group) for group in groups.positions] + alone


def _warn_saturated(saturation: float, layer: int, network: AttentionNetwork) -> None:
    above = range(layer + 1, network.n_layers)
    others = attention_flow(network, method="pairwise", layers=above).is_saturated if above else np.empty(0, dtype=bool)
    better = [str(other) for other, saturated in zip(above, others, strict=True) if not saturated]
    advice = f"Nearer to the readout layer={better[0]} is not saturated." if better else "No layer above says more."
    warnings.warn(
        f"flow into layer {layer} of {network.n_layers}: a trivial cut decides {saturation:.0%} of the tokens, so "
        f"their values say little. {advice}",
        SaturatedFlowWarning,
        stacklevel=_level_of_the_user(),
    )


def _level_of_the_user() -> int:
    """Return the ``stacklevel`` at which a warning of the calling function names a line outside the package."""
    package = __name__.partition(".")[0]
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
