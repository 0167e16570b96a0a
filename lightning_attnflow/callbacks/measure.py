"""Flows and predictions of the monitored sentences."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from lightning_attnflow._checks import check_choice, check_residual
from lightning_attnflow._state import eval_mode
from lightning_attnflow.attention.head_merging import Heads
from lightning_attnflow.attention.merged import capture_merged
from lightning_attnflow.attention.network import AttentionNetwork, Readout
from lightning_attnflow.attention.players import Players
from lightning_attnflow.attention.tokens import EncodedText
from lightning_attnflow.attribution.conductance import conductance_flows
from lightning_attnflow.attribution.padded_batch import unpadded_rows
from lightning_attnflow.attribution.target import LogitReader, class_probabilities
from lightning_attnflow.callbacks.batches import real_tokens, sentence_keys
from lightning_attnflow.callbacks.heads import WordHeads, word_heads
from lightning_attnflow.callbacks.readouts import Readouts
from lightning_attnflow.errors import AttnFlowError, CaptureError, InputError
from lightning_attnflow.flow.attention_flow import attention_flow
from lightning_attnflow.flow.conductance import ConductanceFlow, ConservationWarning
from lightning_attnflow.plots.sentence_flow import SentenceFlow

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Method = Literal["shapley", "pairwise", "single", "rollout"]
Flow = Literal["both", "conductance", "attention"]

CONDUCTANCE_TOLERANCE = 0.03
"""Bound of the conservation error of monitored conductance flows; the error that is reached is logged."""

_MAX_NETWORK_BYTES = 2**24  # of the attention networks of sentences whose flows are computed together
_MOST_CLASSES = 20  # whose probabilities are kept


@dataclass(frozen=True)
class FlowSettings:
    """Arguments of the monitor that determine the flow; see ``AttentionFlowMonitor``."""

    flow: Flow
    method: Method
    readout: Readout | Literal["auto"]
    heads: Heads
    residual: float
    words: bool
    seed: int

    def __post_init__(self) -> None:
        check_choice("flow", self.flow, ("both", "conductance", "attention"))
        check_choice("method", self.method, ("shapley", "pairwise", "single", "rollout"))
        check_choice("readout", self.readout, ("auto", "first", "last", "mean", "all"), or_index="a position")
        check_choice("heads", self.heads, ("mean", "max", "min"), or_index="the index of a head")
        check_residual(self.residual)


@dataclass(frozen=True, eq=False)
class MonitoredSentence:
    """Flows and prediction of one sentence at one validation.

    Args:
        text: the sentence, empty if unknown.
        labels: n names of the players: words, tokens or token ids.
        special: bool (n,), True for special tokens such as [CLS].
        key: identifies the sentence across validations; equal for equal tokens.
        attention: attention flow over the players, if it was computed.
        conductance: conductance flow of the predicted class over the players, if it was computed.
        target: predicted class or token id, None for a model without logits.
        prediction: name of the predicted class or token.
        probability: of the prediction, NaN for a model without logits.
        classes: probability of every class by name, empty for more than 20 classes.
        heads: attention of every head between the players, or why there is none.
        label: name of the correct class, empty if it is unknown.
    """

    text: str
    labels: tuple[str, ...]
    special: np.ndarray[Any, np.dtype[np.bool_]]
    key: str
    attention: SentenceFlow | None = None
    conductance: ConductanceFlow | None = None
    target: int | None = None
    prediction: str = ""
    probability: float = float("nan")
    classes: Mapping[str, float] = field(default_factory=dict)
    heads: WordHeads = ""
    label: str = ""

    def title(self, step: int) -> str:
        """Return the sentence, its prediction with probability, and the step, for a figure."""
        predicted = f"{self.prediction} {self.probability:.0%}, " if np.isfinite(self.probability) else ""
        return f"{self.text}  ({predicted}step {step})".strip()


@dataclass(frozen=True)
class Measured:
    """Sentences in the order of the batches, and what the user is told once, by topic."""

    sentences: list[MonitoredSentence]
    notes: dict[str, str]


def measure(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase | None,
    settings: FlowSettings,
    texts: Mapping[tuple[int, ...], str] | None = None,
    *,
    edges: bool = True,
) -> Measured:
    """Compute the flows and predictions of all sentences.

    Args:
        transformer: the Hugging Face model.
        batches: keyword arguments of the model, padded on either side.
        tokenizer: names the tokens; without it there is no conductance flow, which needs the mask token.
        settings: which flows.
        texts: known texts by token ids.
        edges: whether to compute the edges of the conductance flow too.
    """
    masks = [real_tokens(batch) for batch in batches]
    players: list[Players] = []
    keys: list[str] = []
    for batch, real in zip(batches, masks, strict=True):
        for row, mask in enumerate(real.numpy()):
            ids = batch["input_ids"][row].cpu().numpy()[mask]
            text = (texts or {}).get(tuple(ids.tolist()))
            players.append(Players.of_ids(ids, tokenizer, words=settings.words, known_text=text))
        keys += sentence_keys(batch)
    notes: dict[str, str] = {}
    attention: Sequence[SentenceFlow | None] = [None] * len(keys)
    conductance: Sequence[ConductanceFlow | None] = [None] * len(keys)
    if settings.flow != "conductance":
        attention, notes["readout"] = _attention_flows(transformer, batches, masks, players, keys, settings, edges)
    predictions = _predictions(transformer, batches, tokenizer, notes, required=settings.flow == "conductance")
    if settings.flow != "attention" and predictions[0][0] is not None:
        targets = [prediction[0] for prediction in predictions]
        conductance = _conductance_flows(transformer, batches, players, tokenizer, targets, settings, notes, edges)
    if settings.words and tokenizer is not None and any(one.kind != "words" for one in players):
        notes["words"] = (
            "some sentences are shown token by token: the tokenizer is not a fast one, or does not reproduce the "
            "tokens of the decoded text."
        )
    sentences = [
        MonitoredSentence(one.text.strip(), one.names, one.is_special, key, flow, signed, *prediction)
        for one, key, flow, signed, prediction in zip(players, keys, attention, conductance, predictions, strict=True)
    ]
    if edges and settings.flow != "conductance":
        heads = word_heads(transformer, batches, masks, players)
        sentences = [replace(one, heads=of_heads) for one, of_heads in zip(sentences, heads, strict=True)]
    return Measured(sentences, notes)


def _attention_flows(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    masks: Sequence[torch.Tensor],
    players: Sequence[Players],
    keys: Sequence[str],
    settings: FlowSettings,
    edges: bool,
) -> tuple[list[SentenceFlow], str]:
    """Return the attention flow of every sentence, and the readout with the reason for it."""
    readouts = Readouts(transformer, batches, masks, settings.readout)
    sentences: list[SentenceFlow] = []
    pending: list[AttentionNetwork] = []

    def add_flows() -> None:
        rows = slice(len(sentences), len(sentences) + len(pending))
        groups = [one.positions for one in players[rows]]
        flows = attention_flow(pending, method=settings.method, seed=settings.seed, groups=groups)
        sentences.extend(
            SentenceFlow.from_flow(*row[:3], key=row[3], edges=edges)
            for row in zip(pending, flows, players[rows], keys[rows], strict=True)
        )
        pending.clear()

    for batch, real in zip(batches, masks, strict=True):
        for row, merged in enumerate(capture_merged(transformer, batch, real, heads=settings.heads)):
            readout = readouts.of(batch, row, real[row], causal=merged.is_causal)
            pending.append(merged.network(residual=settings.residual, readout=readout, copy=False))
            del merged  # to save memory while the next sentence is captured
            if sum(network.capacities.nbytes for network in pending) > _MAX_NETWORK_BYTES:
                add_flows()  # of few long sentences, or of many short ones in parallel
    add_flows()
    return sentences, readouts.note


def _predictions(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase | None,
    notes: dict[str, str],
    *,
    required: bool,
) -> list[tuple[int | None, str, float, dict[str, float]]]:
    """Return the predicted class or token of every sentence, its name and probability, and those of all classes."""
    reader = LogitReader(transformer)
    try:
        with eval_mode(transformer), torch.no_grad():
            logits = [reader(**{"attention_mask": real_tokens(batch).to(reader.device), **batch}) for batch in batches]
    except AttnFlowError as error:
        if required:
            raise
        notes["prediction"] = f"no prediction and no conductance flow: {error}"
        return [(None, "", float("nan"), {})] * sum(len(batch["input_ids"]) for batch in batches)
    probabilities = torch.cat([class_probabilities(batch, reader.problem) for batch in logits])
    best = probabilities.max(dim=-1)
    n_classes = probabilities.shape[-1]
    few = reader.problem != "score" and not reader.is_causal_lm and n_classes <= _MOST_CLASSES
    names = [reader.name_of(target, tokenizer) for target in range(n_classes if few else 0)]
    return [
        (
            target,
            reader.name_of(target, tokenizer),
            probability,
            dict(zip(names, row.tolist(), strict=True)) if few else {},
        )
        for target, probability, row in zip(best.indices.tolist(), best.values.tolist(), probabilities, strict=True)
    ]


def _conductance_flows(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    players: Sequence[Players],
    tokenizer: PreTrainedTokenizerBase | None,
    targets: Sequence[int | None],
    settings: FlowSettings,
    notes: dict[str, str],
    edges: bool,
) -> list[ConductanceFlow | None]:
    """Return the conductance flow of every sentence for its predicted class; None with a note where it is undefined."""
    inputs = [row for batch in batches for row in unpadded_rows(batch)]
    texts = [_encoded(one, row) for one, row in zip(players, inputs, strict=True)]
    flows: list[ConductanceFlow | None] = []
    failures: list[AttnFlowError] = []
    try:
        flows += _flows_together(transformer, tokenizer, texts, targets, edges)
    except AttnFlowError:  # of at least one sentence
        for text, target in zip(texts, targets, strict=True):
            try:
                flows += _flows_together(transformer, tokenizer, [text], [target], edges)
            except AttnFlowError as error:  # such as a collapsed model, whose prediction does not depend on the words
                flows.append(None)
                failures.append(error)
    flows = [flow and flow.grouped(one.positions, one.names) for flow, one in zip(flows, players, strict=True)]
    if len(failures) == len(flows) and settings.flow == "conductance":
        raise failures[0]
    if failures:
        notes["conductance"] = f"no conductance flow of {len(failures)} of {len(flows)} sentences: {failures[0]}"
    worst = max((float(flow.conservation_error.max()) for flow in flows if flow is not None), default=0.0)
    if worst > CONDUCTANCE_TOLERANCE:
        notes["conservation"] = f"the conductance flow of a sentence is conserved up to {worst:.0%} only."
    return flows


def _encoded(players: Players, inputs: dict[str, torch.Tensor]) -> EncodedText:
    """Return a sentence whose positions have the names of their players."""
    n = inputs["input_ids"].shape[1]
    names, special = [""] * n, np.zeros(n, dtype=bool)
    for group, name, mark in zip(players.positions, players.names, players.is_special, strict=True):
        for position in group:
            names[position], special[position] = name, mark
    return EncodedText(players.text, inputs, tuple(names), special, (None,) * n, ((0, 0),) * n, n)


def _flows_together(
    transformer: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase | None,
    texts: Sequence[EncodedText],
    targets: Sequence[int | None],
    edges: bool,
) -> list[ConductanceFlow]:
    """Return the conductance flows of sentences that share forward passes, without edges where there are none."""
    if tokenizer is None:
        raise InputError("tokenizer", got="None", expected="the model's tokenizer, for its mask token")
    options: dict[str, Any] = {"targets": targets, "tolerance": CONDUCTANCE_TOLERANCE, "max_steps": 64}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConservationWarning)  # stated once, for all sentences
        try:
            return conductance_flows(transformer, tokenizer, texts, edges=edges, **options)
        except CaptureError:  # the attention cannot be recorded
            if not edges:
                raise
            return conductance_flows(transformer, tokenizer, texts, edges=False, **options)
