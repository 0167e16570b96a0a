"""Methods that compute attention flow into the positions of one layer."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow._checks import check_nonnegative, check_numbers
from lightning_attnflow._state import eval_mode, gradients_enabled
from lightning_attnflow.attention.head_merging import Heads
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.attention.players import Players
from lightning_attnflow.attention.recording import record_attention
from lightning_attnflow.attention.transformer import gradient_errors
from lightning_attnflow.attribution.methods import register_method
from lightning_attnflow.attribution.methods.attention import check_flow_layer
from lightning_attnflow.attribution.payoffs import Payoff, get_payoff
from lightning_attnflow.attribution.result import MAXIMUM_FLOWS, TokenAttribution
from lightning_attnflow.attribution.sentence import Sentence, check_grouping
from lightning_attnflow.attribution.token_game import TokenGame
from lightning_attnflow.attribution.token_targets import TargetArgument
from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.flow.attention_flow import attention_flow
from lightning_attnflow.flow.solvers.protocol import EdgeFunction, Solver


class SaturatedFlowWarning(UserWarning):
    """Trivial cuts decide the flow of most tokens of the layer, so that it does not measure their importance."""


@register_method("flow", family="attention")
def flow(
    sentence: Sentence,
    *,
    layer: int | None = None,
    heads: Heads = "mean",
    residual: float = 0.5,
    readout: Any = "auto",
    grouping: str = "quotient",
    tolerance: float = 0.05,
) -> TokenAttribution:
    """Shapley value of the flow game of one layer, the unique maximum flow that is symmetric."""
    return _flow(sentence, "shapley", "flow", layer, heads, residual, readout, grouping, tolerance=tolerance)


@register_method("flow_pairwise", family="attention")
def flow_pairwise(
    sentence: Sentence,
    *,
    layer: int | None = None,
    heads: Heads = "mean",
    residual: float = 0.5,
    readout: Any = "auto",
    grouping: str = "quotient",
) -> TokenAttribution:
    """Maximum flow of each position alone (Abnar & Zuidema 2020); not efficient."""
    return _flow(sentence, "pairwise", "flow_pairwise", layer, heads, residual, readout, grouping)


@register_method("flow_single", family="attention")
def flow_single(
    sentence: Sentence,
    *,
    layer: int | None = None,
    heads: Heads = "mean",
    residual: float = 0.5,
    readout: Any = "auto",
    solver: str | Solver | EdgeFunction = "native",
) -> TokenAttribution:
    """Outflow of the maximum flow that a solver returns; it depends on the solver."""
    return _flow(sentence, "single", "flow_single", layer, heads, residual, readout, "sum", solver=solver)


@register_method("gradient_flow", family="attention")
def gradient_flow(
    sentence: Sentence,
    *,
    layer: int | None = None,
    payoff: str | Payoff = "log_probability",
    target: TargetArgument | None = None,
    readout: Any = "auto",
    grouping: str = "quotient",
) -> TokenAttribution:
    """Shapley value of the flow game on gradient-weighted attention E_h relu(A * dA) (Azarkhalili & Libbrecht 2025)."""
    get_payoff(payoff, differentiable=True)
    with gradients_enabled(sentence.reader.model):  # inference tensors cannot be differentiated
        game = sentence.game(payoff=payoff, target=target, players="tokens")
    if isinstance(readout, str) and readout == "auto" and game.position is not None:
        readout = game.position
    network = gradient_network(game, sentence.network(readout=readout).readout)
    fields = {"payoff": game.payoff, "target": game.target, "target_name": game.target_name}
    return _flow_of(sentence, network, "shapley", "gradient_flow", layer, grouping, fields)


def gradient_network(game: TokenGame, readout: NDArray[np.float64]) -> AttentionNetwork:
    """Return the network with capacities E_h relu(A * dA), dA the gradient of the payoff at the whole sentence.

    The capacities are divided by their largest entry, which multiplies every flow by the same number. Rows do not sum
    to 1, so that rollout is no maximum flow of this network.

    Args:
        game: token game of a differentiable payoff.
        readout: (T,) capacities of the sink edges.

    Raises:
        CaptureError: the attention of the model cannot be recorded.
        InputError: no edge has a positive capacity.

    Source: Azarkhalili & Libbrecht, "Generalized Attention Flow" (ACL 2025), whose flow is made unique by a barrier.
    """
    model = game.reader.model
    with gradients_enabled(model):
        embeddings = game.embeddings()
    with eval_mode(model), gradients_enabled(model), record_attention(model) as records:
        payoff = game.payoffs(game.embedded_logits(embeddings)).sum()
        if not records:
            raise CaptureError(
                type(model).__name__,
                got="an attention implementation of its own",
                expected="a model that uses the attention interface of transformers",
            )
        with gradient_errors(model):
            gradients = torch.autograd.grad(payoff, [record.weights for record in records])
        layers = [
            (record.weights.detach() * gradient).clamp(min=0)[0].double().mean(dim=0)
            for record, gradient in zip(records, gradients, strict=True)
        ]
    capacities = torch.stack(layers).cpu().numpy()
    if not capacities.any():
        raise InputError("gradient-weighted attention", got="no positive entry", expected="a payoff that depends on it")
    return AttentionNetwork(capacities / capacities.max(), readout)


def last_layer_with_flow(values: NDArray[np.float64], *, tolerance: float) -> NDArray[np.intp]:
    """Return the last layer in which each token has flow, -1 for none.

    If a token has flow in layer k - 1 and none from layer k on, the model used it before layer k only. Attention is
    never exactly 0, so a token has no flow if its share is at most the tolerance.

    Args:
        values: float (L + 1, T), flow or rollout of all layers of positions.
        tolerance: share of the total flow, >= 0.

    Returns:
        intp (T,), layers in 0..L, or -1.

    Raises:
        InputError: values of another shape or not finite, or a negative tolerance.

    Source: Ethayarajh & Jurafsky (2021), section 6.

    Example:
        >>> values = np.array([[0.4, 0.4, 0.2], [0.7, 0.29, 0.01], [1.0, 0.0, 0.0]])
        >>> last_layer_with_flow(values, tolerance=0.02).tolist()
        [2, 1, 0]
    """
    values = check_numbers("values", values, "finite values of all layers, (L + 1, T)")
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError("values", got=f"shape {values.shape}", expected="finite values of all layers, (L + 1, T)")
    has_flow = values > check_nonnegative("tolerance", tolerance) * values.sum(axis=1, keepdims=True)
    last = len(values) - 1 - has_flow[::-1].argmax(axis=0)
    return np.where(has_flow.any(axis=0), last, -1).astype(np.intp)


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
    return _flow_of(sentence, network, kind, name, layer, grouping, **options)


def _flow_of(
    sentence: Sentence,
    network: AttentionNetwork,
    kind: str,
    name: str,
    layer: int | None,
    grouping: str,
    fields: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> TokenAttribution:
    layer = check_flow_layer(layer, network.n_layers)
    groups = sentence.groups("players")
    quotient = check_grouping(grouping) == "quotient" and groups.kind != "tokens"
    if quotient:
        options["groups"] = _partition(groups, network)
    result = attention_flow(network, method=kind, layers=[layer], seed=sentence.seed, **options)
    if result.is_saturated[0] and network.is_stochastic:  # other capacities carry information of their own
        _warn_saturated(float(result.saturation[0]), layer, network)
    fields = {
        **fields,
        "layer": layer,
        "low": result.lower[0],
        "high": result.upper[0],
        "interval": MAXIMUM_FLOWS,
        "stderr": result.stderr[0],
        "details": {"saturation": float(result.saturation[0]), "ambiguity": float(result.ambiguity[0])},
    }
    if not quotient:
        return sentence.by_position(result.values[0], name, "players", **fields)
    rows = np.arange(len(groups))  # the players are the first groups of the partition
    fields.update({key: fields[key][rows] for key in ("low", "high", "stderr")})
    return sentence.by_player(groups, result.values[0][rows], name, **fields)


def _partition(groups: Players, network: AttentionNetwork) -> list[list[int]]:
    """The groups of the players, followed by each remaining position alone."""
    taken = {position for group in groups.positions for position in group}
    alone = [[position] for position in range(network.n_positions) if position not in taken]
    return [list(group) for group in groups.positions] + alone


def _warn_saturated(saturation: float, layer: int, network: AttentionNetwork) -> None:
    above = range(layer + 1, network.n_layers)
    others = attention_flow(network, method="pairwise", layers=above).is_saturated if above else np.empty(0, dtype=bool)
    better = [str(other) for other, saturated in zip(above, others, strict=True) if not saturated]
    advice = f"layer={better[0]} is not saturated." if better else "All layers above are saturated too."
    warnings.warn(
        f"flow into layer {layer} of {network.n_layers}: trivial cuts decide {saturation:.0%} of the tokens, so that "
        f"the values do not measure importance. {advice}",
        SaturatedFlowWarning,
        stacklevel=_caller_level(),
    )


def _caller_level() -> int:
    """Return the ``stacklevel`` at which a warning refers to code outside the package."""
    package = __name__.partition(".")[0]
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == package:
        frame, level = frame.f_back, level + 1
    return level
