"""The propositions of Ethayarajh & Jurafsky (2021), sections 3 and 6, on one sentence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attribution import Sentence, last_layer_with_flow
from lightning_attnflow.attribution.methods.attention import check_flow_layer
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow import FlowGame, attention_flow
from lightning_attnflow.shapley import CachedGame, FunctionGame, audit_axioms, exact_shapley, is_modular, leave_one_out

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Proposition:
    """One proposition with an example from a sentence.

    Args:
        name: ``Prop. 1`` and so on.
        claim: of the paper.
        example: from this sentence, with its numbers.
        size: the decisive number: a gap, a violation or an ambiguity.
    """

    name: str
    claim: str
    example: str
    size: float


def propositions(sentence: Sentence, *, layer: int | None = None, reading_tolerance: float = 0.02) -> list[Proposition]:
    """Evaluate Propositions 1 to 3 and the layer reading on one sentence.

    Args:
        sentence: model and sentence; its players must be at most 12 tokens.
        layer: of the flow; default three below the readout.
        reading_tolerance: share of the total flow up to which a token has no flow.

    Returns:
        Prop. 1, its extension to rollout, Prop. 2 for the Shapley flow and in the literal reading, Prop. 3, section 6.

    Raises:
        InputError: a sentence of one position or of too many players, or an unknown layer.
    """
    tokens = sentence.encoded.tokens
    if len(tokens) < 2:
        raise InputError(
            "sentence",
            got=f"{sentence.text!r}, a single position",
            expected="at least two positions",
        )
    network = sentence.network()
    layer = check_flow_layer(layer, network.n_layers)
    raw = sentence.network(residual=0.0).capacities
    return [
        _received("Prop. 1", "received attention is not a Shapley value", "receives", raw.mean(axis=0), tokens),
        _received(
            "Prop. 1, rollout",
            "rollout is not a Shapley value if the players are also the queries",
            "receives in rollout from all positions",
            reduce(np.matmul, network.capacities[::-1]),
            tokens,
        ),
        *_flow_is_shapley(sentence, layer),
        _leave_one_out(sentence),
        _layer_reading(sentence, reading_tolerance),
    ]


def _received(name: str, claim: str, verb: str, matrix: FloatArray, tokens: tuple[str, ...]) -> Proposition:
    """Rows of (T, T) sum to 1 in every coalition of queries and keys, so v(S) = |S| and all players are symmetric."""
    received = matrix.sum(axis=0)
    game = FunctionGame(lambda coalitions: coalitions.sum(axis=1) * 1.0, len(tokens))
    check = audit_axioms(game, received, tolerance=1e-6).symmetry
    least, most = sorted(check.witness, key=lambda player: received[player])
    example = (
        f"{tokens[most]!r} {verb} {received[most]:.3f}, {tokens[least]!r} {received[least]:.3f}; but the "
        f"attention within a coalition S sums to |S|, so both contribute 1 and symmetry requires equal values"
    )
    return Proposition(name, claim, example, check.violation)


def _flow_is_shapley(sentence: Sentence, layer: int) -> list[Proposition]:
    network, tokens = sentence.network(), sentence.encoded.tokens
    game = CachedGame(FlowGame(network, layer))
    shapley = attention_flow(network, method="shapley", layers=[layer], seed=sentence.seed)
    single = attention_flow(network, method="single", layers=[layer])
    exact = exact_shapley(game).values
    gap, single_gap = (float(np.abs(flow.values[0] - exact).max()) for flow in (shapley, single))
    modularity = is_modular(game, tolerance=1e-6)
    widest = int((shapley.upper - shapley.lower)[0].argmax())
    members = ", ".join(repr(tokens[player]) for player in modularity.witness)
    unique = (
        f"layer {layer}: values sum to {shapley.values[0].sum():.6f}, the maximum flow is {shapley.total[0]:.6f}; "
        f"largest distance to the exact Shapley value of the flow game {gap:.1e}"
    )
    literal = (
        f"layer {layer}: one solver's flow is up to {single_gap:.3f} from it, because the maximum flow is not unique: "
        f"{tokens[widest]!r} has between {shapley.lower[0, widest]:.3f} and {shapley.upper[0, widest]:.3f}. "
        + (
            "The flow game is modular, so both readings agree"
            if modularity
            else f"The game is not modular: the flow of {{{members}}} is {modularity.violation:.3f} below their sum"
        )
    )
    return [
        Proposition("Prop. 2", "attention flow is a Shapley value", unique, gap),
        Proposition("Prop. 2, literal", "every maximum flow is one, of a modular game", literal, single_gap),
    ]


def _leave_one_out(sentence: Sentence) -> Proposition:
    game = sentence.cached_game()
    values, exact = leave_one_out(game), exact_shapley(game)
    worst = int(np.abs(values - exact.values).argmax())
    names = sentence.groups("present").names
    example = (
        f"leave-one-out values sum to {values.sum():+.3f}, the log-probability changes by "
        f"{exact.v_full - exact.v_empty:+.3f}; {names[worst]!r} has {values[worst]:+.3f}, its Shapley value is "
        f"{exact.values[worst]:+.3f}"
    )
    gap = float(abs(exact.v_full - exact.v_empty - values.sum()))
    return Proposition("Prop. 3", "leave-one-out is a Shapley value only in degenerate games", example, gap)


def _layer_reading(sentence: Sentence, tolerance: float) -> Proposition:
    flow = attention_flow(sentence.network(), method="shapley", seed=sentence.seed)
    last = last_layer_with_flow(flow.values, tolerance=tolerance)
    tokens = sentence.encoded.tokens
    groups = {
        int(layer): [token for token, of_token in zip(tokens, last, strict=True) if of_token == layer]
        for layer in sorted(set(last.tolist()))
    }
    top = len(flow.values) - 1
    read = "; ".join(
        f"{', '.join(map(repr, names))}: "
        + (
            "no flow"
            if layer < 0
            else "flow up to the readout"
            if layer == top
            else f"no flow from layer {layer + 1} on"
        )
        for layer, names in groups.items()
    )
    name = f"Section 6 (tolerance {tolerance:.0%} of the flow)"
    return Proposition(name, "a token without flow from some layer on was used before it", read, tolerance)
