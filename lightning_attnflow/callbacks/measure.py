"""From a model and a few batches of sentences to their flows, and from those to the numbers that are logged."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lightning_attnflow.attention.capture import capture_attention
from lightning_attnflow.attention.network import AttentionNetwork, Floats, Heads, Readout
from lightning_attnflow.attention.readout import choose_readout, is_causal
from lightning_attnflow.attention.tokens import Players
from lightning_attnflow.callbacks.batches import real_tokens
from lightning_attnflow.flow.attention_flow import attention_flow
from lightning_attnflow.plots.records import SentenceFlow, layer_name
from lightning_attnflow.plots.sentence_flow import shown_flow
from lightning_attnflow.plots.summaries import drift, normalised_entropy, rank_agreement, special_share

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Method = Literal["shapley", "pairwise", "single", "rollout"]


@dataclass(frozen=True)
class FlowSettings:
    """The arguments of the monitor that decide what a flow is."""

    method: Method
    readout: Readout | Literal["auto"]
    heads: Heads
    residual: float
    words: bool
    seed: int


@dataclass(frozen=True)
class Measured:
    """Flows of the sentences in the order of the batches, and what was decided on the way."""

    flows: list[SentenceFlow]
    readout: Readout
    reason: str
    n_without_words: int


def measure(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase | None,
    settings: FlowSettings,
    texts: Mapping[tuple[int, ...], str] | None = None,
) -> Measured:
    """Capture the attention of every batch and compute the flows of all sentences in one go.

    Args:
        transformer: the model.
        batches: keyword arguments of the model, one forward pass each.
        tokenizer: for words and names; None names tokens by their ids.
        settings: what a flow is.
        texts: what is known of the sentences' wording, by their token ids; the others are decoded.
    """
    captured = [capture_attention(transformer, batch) for batch in batches]
    masks = [real_tokens(batch) for batch in batches]
    readout, reason = settings.readout, "set by the user"
    if readout == "auto":
        causal = [is_causal(layers, real) for layers, real in zip(captured, masks, strict=True) if real.shape[1] > 1]
        readout, reason = choose_readout(transformer, causal=bool(causal) and all(causal))
    networks: list[AttentionNetwork] = []
    players: list[Players] = []
    keys: list[str] = []
    for batch, layers, real in zip(batches, captured, masks, strict=True):
        arrays = [layer.cpu().numpy() for layer in layers]
        for row, mask in enumerate(real.numpy()):
            networks.append(
                AttentionNetwork.from_attentions(
                    [array[row] for array in arrays],
                    mask=mask,
                    heads=settings.heads,
                    residual=settings.residual,
                    readout=readout,
                )
            )
            ids = batch["input_ids"][row].cpu().numpy()[mask]
            text = (texts or {}).get(tuple(ids.tolist()))
            players.append(Players.of_ids(ids, tokenizer, words=settings.words, known_text=text))
            keys.append(hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=12).hexdigest())
    groups = [player.positions for player in players]
    flows = attention_flow(networks, method=settings.method, seed=settings.seed, groups=groups)
    records = [
        shown_flow(
            network,
            flow,
            group.positions,
            labels=group.names,
            special=group.is_special,
            text=group.text.strip(),
            key=key,
        )
        for network, group, flow, key in zip(networks, players, flows, keys, strict=True)
    ]
    wanted_words = settings.words and tokenizer is not None
    return Measured(records, readout, reason, sum(group.kind != "words" for group in players) if wanted_words else 0)


def layer_scalars(
    flows: Sequence[SentenceFlow], previous: Mapping[str, Floats], *, tokenizer_known: bool
) -> dict[str, float]:
    """Return the logged numbers of every layer below the readout, averaged over the sentences where they are defined.

    Args:
        flows: the sentences of this validation.
        previous: values of the last logged validation by sentence key; drift is averaged over sentences found there.
        tokenizer_known: without a tokenizer nobody knows the special tokens, and their share is left out.

    Returns:
        `entropy/layer_00` and so on; a number that no sentence defines is left out rather than NaN.
    """
    columns: dict[str, list[Floats]] = {
        "ambiguity": [flow.ambiguity for flow in flows],
        "drift": [drift(flow.values, previous[flow.key]) for flow in flows if _comparable(flow, previous)],
        "entropy": [normalised_entropy(flow.values) for flow in flows],
        "rollout_agreement": [rank_agreement(flow.values, flow.rollout) for flow in flows],
        "saturation": [flow.saturation for flow in flows],
        "special_share": [special_share(flow.values, flow.special) for flow in flows] if tokenizer_known else [],
    }
    n_layers = flows[0].n_layers
    scalars = {}
    for name, rows in columns.items():
        for layer in range(n_layers):  # layer L is the readout itself and tells nothing about the model
            defined = [float(row[layer]) for row in rows if np.isfinite(row[layer])]
            if defined:
                scalars[f"{name}/{layer_name(layer, n_layers)}"] = sum(defined) / len(defined)
    return scalars


def pooled_shares(flows: Sequence[SentenceFlow], layer: int) -> Floats:
    """Return the flow of all players of all sentences at one layer, in multiples of the sentence's uniform share."""
    return np.concatenate([flow.values[layer] * len(flow.labels) / flow.values[layer].sum() for flow in flows])


def _comparable(flow: SentenceFlow, previous: Mapping[str, Floats]) -> bool:
    return flow.key in previous and previous[flow.key].shape == flow.values.shape
