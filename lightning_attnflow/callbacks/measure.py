"""Flows and predictions of the monitored sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from lightning_attnflow._checks import check_bool, check_choice, check_residual
from lightning_attnflow._memory import return_freed_memory
from lightning_attnflow.attention.head_merging import Heads
from lightning_attnflow.attention.merged import capture_merged
from lightning_attnflow.attention.network import AttentionNetwork, Readout
from lightning_attnflow.attention.own_head import ModelWithHead
from lightning_attnflow.attention.players import Players
from lightning_attnflow.attention.tokens import EncodedText
from lightning_attnflow.attribution.conductance_games import bypass_reason, flows_of_games, path_game, worst_flow
from lightning_attnflow.attribution.padded_batch import unpadded_rows
from lightning_attnflow.attribution.target import LogitReader, label_name
from lightning_attnflow.callbacks.batches import real_tokens, sentence_keys
from lightning_attnflow.callbacks.heads import WordHeads, heads_wanted, word_heads
from lightning_attnflow.callbacks.monitored_sentence import MonitoredSentence
from lightning_attnflow.callbacks.predictions import TopPrediction, predictions_of
from lightning_attnflow.callbacks.readouts import Readouts
from lightning_attnflow.errors import AttnFlowError, CaptureError, InputError
from lightning_attnflow.flow.attention_flow import attention_flow
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.plots.sentence_flow import SentenceFlow

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Method = Literal["shapley", "pairwise", "single", "rollout"]
Flow = Literal["both", "conductance", "attention"]

CONDUCTANCE_TOLERANCE = 0.03
"""Bound of the conservation error of monitored conductance flows; the error that is reached is logged."""

_MAX_NETWORK_BYTES = 2**24  # of the attention networks of sentences whose flows are computed together
_MOST_WORDS = 128  # of validation sentences with edges, which take memory with the square of the number of words


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
        check_bool("words", self.words)


@dataclass(frozen=True)
class Measured:
    """Sentences in the order of the batches, and what the user is told once, by topic."""

    sentences: list[MonitoredSentence]
    notes: dict[str, str]


@dataclass
class ModelFacts:
    """What the first measurement of a model finds out for later ones, because training does not change it.

    Args:
        readout: a readout with a name and the reason for it.
        no_edges: why the edges of the conductance flow cannot be computed; empty until that failed.
        bypass: which layers the model bypasses, empty for none; None until a flow was not conserved.
    """

    readout: tuple[str, str] | None = None
    no_edges: str = ""
    bypass: str | None = None


def measure(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    tokenizer: PreTrainedTokenizerBase | None,
    settings: FlowSettings,
    texts: Mapping[tuple[int, ...], str] | None = None,
    *,
    edges: bool = True,
    facts: ModelFacts | None = None,
    module: torch.nn.Module | None = None,
    classes: Mapping[str, int] | None = None,
) -> Measured:
    """Compute the flows and predictions of all sentences.

    Args:
        transformer: the Hugging Face model.
        batches: keyword arguments of the model, padded on either side.
        tokenizer: names the tokens; without it there is no conductance flow, which needs the mask token.
        settings: which flows.
        texts: known texts by token ids.
        edges: whether to compute what only the page of the run shows: the attention of every head, and edges between
            more than 128 words.
        facts: of earlier measurements; updated.
        module: contains the model and perhaps its head.
        classes: the correct class of sentences, by their key.
    """
    facts = ModelFacts() if facts is None else facts
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
    heads: Sequence[WordHeads] = [""] * len(keys)
    no_attention: CaptureError | None = None
    if settings.flow != "conductance":
        try:
            attention, heads, notes["readout"] = _attention_flows(
                transformer, batches, masks, players, keys, settings, edges, facts, module
            )
        except CaptureError as error:
            if settings.flow == "attention":
                raise
            no_attention, notes["attention"] = error, f"no attention flow: {error}"
    reader = LogitReader(transformer if module is None else module, transformer)
    if isinstance(reader.model, ModelWithHead):
        name, n_classes = type(reader.model).__name__, reader.model.n_outputs
        notes["head"] = f"predictions are the logits (batch, {n_classes}) that the forward of {name} returns" + (
            ", read by a softmax; if they are independent labels, set config.problem_type of the encoder to "
            '"multi_label_classification".'
            if reader.problem == "one_class"
            else "."
        )
    predictions = predictions_of(reader, batches, tokenizer, notes, required=settings.flow == "conductance")
    if settings.flow != "attention" and predictions[0].target is not None:
        conductance = _conductance_flows(
            reader, batches, players, tokenizer, predictions, settings, notes, edges, facts
        )
    if no_attention is not None and all(flow is None for flow in conductance):
        raise no_attention
    if settings.words and tokenizer is not None and any(one.kind != "words" for one in players):
        notes["words"] = (
            "some sentences are shown token by token: the tokenizer is not a fast one, or does not reproduce the "
            "tokens of the decoded text."
        )
    sentences = [
        MonitoredSentence(
            text=one.text.strip(),
            labels=one.names,
            special=one.is_special,
            key=key,
            attention=flow,
            conductance=signed,
            target=prediction.target,
            prediction=prediction.name,
            probability=prediction.probability,
            classes=prediction.classes,
            heads=of_heads,
            label=label_name(reader.model, classes[key]) if classes and key in classes else "",
        )
        for one, key, flow, signed, prediction, of_heads in zip(
            players, keys, attention, conductance, predictions, heads, strict=True
        )
    ]
    return Measured(sentences, notes)


def _attention_flows(
    transformer: PreTrainedModel,
    batches: Sequence[Mapping[str, Any]],
    masks: Sequence[torch.Tensor],
    players: Sequence[Players],
    keys: Sequence[str],
    settings: FlowSettings,
    edges: bool,
    facts: ModelFacts,
    module: torch.nn.Module | None,
) -> tuple[list[SentenceFlow], list[WordHeads], str]:
    """Return the attention flow and the heads of every sentence, and the readout with the reason for it."""
    readouts = Readouts(transformer, batches, masks, settings.readout, facts.readout, module)
    wanted = heads_wanted(transformer, players) if edges else [False] * len(players)
    sentences: list[SentenceFlow] = []
    heads: list[WordHeads] = []
    pending: list[AttentionNetwork] = []

    def add_flows() -> None:
        rows = slice(len(sentences), len(sentences) + len(pending))
        groups = [one.positions for one in players[rows]]
        flows = attention_flow(pending, method=settings.method, seed=settings.seed, groups=groups)
        sentences.extend(
            SentenceFlow.from_flow(*row[:3], key=row[3], edges=edges or len(row[2].names) <= _MOST_WORDS)
            for row in zip(pending, flows, players[rows], keys[rows], strict=True)
        )
        pending.clear()

    for batch, real in zip(batches, masks, strict=True):
        rows = slice(len(heads), len(heads) + len(real))
        options: dict[str, Any] = {"heads": settings.heads, "by_head": wanted[rows]}
        for merged in capture_merged(transformer, batch, real, **options):
            row = len(heads) - rows.start  # enumerate() would keep the attention while the next sentence is captured
            readout = readouts.of(batch, row, real[row], causal=merged.is_causal)
            heads.append(word_heads(transformer, merged, players[len(heads)]) if edges else "")
            pending.append(merged.network(residual=settings.residual, readout=readout, copy=False))
            del merged  # to save memory while the next sentence is captured
            if sum(network.capacities.nbytes for network in pending) > _MAX_NETWORK_BYTES:
                return_freed_memory()  # of the forward pass
                add_flows()  # of few long sentences, or of many short ones in parallel
                return_freed_memory()
    add_flows()
    facts.readout = facts.readout or readouts.named
    return sentences, heads, readouts.note


def _conductance_flows(
    reader: LogitReader,
    batches: Sequence[Mapping[str, Any]],
    players: Sequence[Players],
    tokenizer: PreTrainedTokenizerBase | None,
    predictions: Sequence[TopPrediction],
    settings: FlowSettings,
    notes: dict[str, str],
    edges: bool,
    facts: ModelFacts,
) -> list[ConductanceFlow | None]:
    """Return the conductance flow of every sentence for its predicted class; None with a note where it is undefined."""
    edges = edges or all(len(one.names) <= _MOST_WORDS for one in players)

    def add_flows(texts: Sequence[EncodedText], predictions: Sequence[TopPrediction]) -> None:
        wanted = edges and not facts.no_edges
        found, error = _flows_together(reader, tokenizer, texts, predictions, wanted)
        flows.extend(found)
        facts.no_edges = facts.no_edges or (str(error) if error else "")
        if facts.no_edges:
            notes["edges"] = f"no edges of the conductance flow: {facts.no_edges}"

    inputs = [row for batch in batches for row in unpadded_rows(batch)]
    texts = [_encoded(one, row) for one, row in zip(players, inputs, strict=True)]
    flows: list[ConductanceFlow | None] = []
    failures: list[AttnFlowError] = []
    try:
        add_flows(texts, predictions)
    except AttnFlowError:  # of at least one sentence, or it has other logits without padding
        for text, prediction in zip(texts, predictions, strict=True):
            try:
                add_flows([text], [prediction._replace(logits=None)])
            except AttnFlowError as error:  # such as a collapsed model, whose prediction does not depend on the words
                flows.append(None)
                failures.append(error)
    flows = [flow and flow.grouped(one.positions, one.names) for flow, one in zip(flows, players, strict=True)]
    if len(failures) == len(flows) and settings.flow == "conductance":
        raise failures[0]
    if failures:
        notes["conductance"] = f"no conductance flow of {len(failures)} of {len(flows)} sentences: {failures[0]}"
    known = [flow for flow in flows if flow is not None]
    if known and not (worst := worst_flow(known)).is_conserved:
        if facts.bypass is None:
            facts.bypass = bypass_reason(path_game(reader, tokenizer, texts[flows.index(worst)]))
        reason = f": {facts.bypass}" if facts.bypass else ""
        notes["conservation"] = (
            f"the conductance flow of a sentence is conserved up to {worst.conservation_error.max():.0%} only{reason}."
        )
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
    reader: LogitReader,
    tokenizer: PreTrainedTokenizerBase | None,
    texts: Sequence[EncodedText],
    predictions: Sequence[TopPrediction],
    edges: bool,
) -> tuple[list[ConductanceFlow], CaptureError | None]:
    """Return the conductance flows of sentences that share forward passes, and why they have no edges."""
    if tokenizer is None:
        raise InputError("tokenizer", got="None", expected="the model's tokenizer, for its mask token")
    games = [
        path_game(reader, tokenizer, text, target=one.target, logits=one.logits)
        for text, one in zip(texts, predictions, strict=True)
    ]
    options: dict[str, Any] = {"tolerance": CONDUCTANCE_TOLERANCE, "max_steps": 64}
    try:
        return flows_of_games(games, edges=edges, **options), None
    except CaptureError as error:  # the attention cannot be recorded, or is not all that mixes positions
        if not edges:
            raise
        return flows_of_games(games, edges=False, **options), error
