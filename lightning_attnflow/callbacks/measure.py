"""Flows of the monitored sentences and the metrics of each layer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from lightning_attnflow._checks import check_choice, is_number
from lightning_attnflow.attention.capture import capture_attention
from lightning_attnflow.attention.network import AttentionNetwork, Floats, Heads, Readout
from lightning_attnflow.attention.readout import choose_readout, is_causal
from lightning_attnflow.attention.tokens import Players
from lightning_attnflow.callbacks.batches import real_tokens
from lightning_attnflow.errors import InputError
from lightning_attnflow.flow.attention_flow import attention_flow
from lightning_attnflow.plots.sentence_flow import SentenceFlow, layer_name
from lightning_attnflow.plots.summaries import drift, normalised_entropy, rank_correlation, special_share

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Method = Literal["shapley", "pairwise", "single", "rollout"]

NO_DRIFT = (
    "drift is not logged: no sentence was in the last validation. Do not shuffle the validation set, or pass probes=."
)


@dataclass(frozen=True)
class FlowSettings:
    """Arguments of the monitor that determine the flow; see ``AttentionFlowMonitor``."""

    method: Method
    readout: Readout | Literal["auto"]
    heads: Heads
    residual: float
    words: bool
    seed: int

    def __post_init__(self) -> None:
        check_choice("method", self.method, ("shapley", "pairwise", "single", "rollout"))
        check_choice("readout", self.readout, ("auto", "first", "last", "mean", "all"), or_index="a position")
        check_choice("heads", self.heads, ("mean", "max", "min"), or_index="the index of a head")
        if not is_number(self.residual) or not 0 <= self.residual < 1:
            raise InputError("residual", got=repr(self.residual), expected="a share in [0, 1)")


@dataclass(frozen=True)
class Measured:
    """Flows of the sentences in the order of the batches, and the readout with the reason for it."""

    flows: list[SentenceFlow]
    readout: Readout
    reason: str
    n_without_words: int

    def notes(self) -> dict[str, str]:
        """Return what the user is told once, by topic."""
        notes = {"readout": f"readout {self.readout!r}: {self.reason}."}
        if self.n_without_words:
            notes["words"] = (
                f"{self.n_without_words} of {len(self.flows)} sentences are shown token by token: the tokenizer is not "
                "a fast one, or does not reproduce the tokens of the decoded text."
            )
        return notes


def measure(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase | None,
    settings: FlowSettings,
    texts: Mapping[tuple[int, ...], str] | None = None,
) -> Measured:
    """Capture the attention of all batches and compute the flows of all sentences together."""
    captured = [capture_attention(transformer, batch) for batch in batches]
    masks = [real_tokens(batch) for batch in batches]
    readout, reason = settings.readout, "set by the user"
    if readout == "auto":
        causal = [is_causal(layers, real) for layers, real in zip(captured, masks, strict=True) if real.shape[1] > 1]
        readout, reason = choose_readout(transformer, causal=bool(causal) and all(causal))
    options: dict[str, Any] = {"heads": settings.heads, "residual": settings.residual, "readout": readout}
    networks: list[AttentionNetwork] = []
    players: list[Players] = []
    keys: list[str] = []
    for batch, layers, real in zip(batches, captured, masks, strict=True):
        arrays = [layer.cpu().numpy() for layer in layers]
        for row, mask in enumerate(real.numpy()):
            networks.append(AttentionNetwork.from_attentions([layer[row] for layer in arrays], mask=mask, **options))
            ids = batch["input_ids"][row].cpu().numpy()[mask]
            text = (texts or {}).get(tuple(ids.tolist()))
            players.append(Players.of_ids(ids, tokenizer, words=settings.words, known_text=text))
            keys.append(hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=12).hexdigest())
    groups = [one.positions for one in players]
    flows = attention_flow(networks, method=settings.method, seed=settings.seed, groups=groups)
    sentences = [
        SentenceFlow.from_flow(*row[:3], key=row[3]) for row in zip(networks, flows, players, keys, strict=True)
    ]
    expects_words = settings.words and tokenizer is not None
    n_without_words = sum(one.kind != "words" for one in players) if expects_words else 0
    return Measured(sentences, readout, reason, n_without_words)


def layer_scalars(
    flows: Sequence[SentenceFlow], previous: Mapping[str, Floats], *, has_tokenizer: bool
) -> dict[str, float]:
    """Return the metrics of every layer below the readout, averaged over the sentences for which they are defined.

    Args:
        flows: the sentences of this validation.
        previous: values of the last logged validation by sentence key; drift is averaged over sentences in both.
        has_tokenizer: without a tokenizer special tokens are unknown and their share is omitted.

    Returns:
        ``entropy/layer_00`` and so on. A metric that is defined for no sentence is omitted.
    """
    repeated = [f for f in flows if f.key in previous and previous[f.key].shape == f.values.shape]
    metrics: dict[str, list[Floats]] = {
        "ambiguity": [flow.ambiguity for flow in flows],
        "drift": [drift(flow.values, previous[flow.key]) for flow in repeated],
        "entropy": [normalised_entropy(flow.values) for flow in flows],
        "rollout_agreement": [rank_correlation(flow.values, flow.rollout) for flow in flows],
        "saturation": [flow.saturation for flow in flows],
        "special_share": [special_share(flow.values, flow.special) for flow in flows] if has_tokenizer else [],
    }
    n_layers = flows[0].n_layers
    scalars = {}
    for name, rows in metrics.items():
        for layer in range(n_layers):  # layer L is the readout itself, independent of the model
            defined = [float(row[layer]) for row in rows if np.isfinite(row[layer])]
            if defined:
                scalars[f"{name}/{layer_name(layer, n_layers)}"] = sum(defined) / len(defined)
    return scalars
