"""Metrics of the monitored sentences: a few of the run, and on request those of every layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow.callbacks.monitored_sentence import MonitoredSentence
from lightning_attnflow.plots.sentence_flow import layer_name
from lightning_attnflow.plots.summaries import (
    drift,
    handover_layer,
    n_players_for_share,
    normalised_entropy,
    rank_correlation,
    signed_drift,
    special_share,
)
from lightning_attnflow.viewer.numbers import SCALARS

Floats = NDArray[np.float64]

RELATIVE_TO_LAST = ("drift", "attention_drift", "flips")


@dataclass
class Reference:
    """Flows and predictions of an earlier validation, by sentence key."""

    attention: dict[str, Floats] = field(default_factory=dict)
    conductance: dict[str, Floats] = field(default_factory=dict)
    targets: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, sentences: Sequence[MonitoredSentence]) -> Reference:
        """Keep what later validations are compared with."""
        return cls(
            {one.key: one.attention.values for one in sentences if one.attention is not None},
            {one.key: one.conductance.values for one in sentences if one.conductance is not None},
            {one.key: one.target for one in sentences if one.target is not None},
        )

    def __bool__(self) -> bool:
        """Whether it knows a sentence."""
        return bool(self.targets or self.attention)

    def state(self) -> dict[str, Any]:
        """Return the reference as tensors and integers, for a checkpoint."""
        return {
            "attention": {key: torch.from_numpy(values.copy()) for key, values in self.attention.items()},
            "conductance": {key: torch.from_numpy(values.copy()) for key, values in self.conductance.items()},
            "targets": dict(self.targets),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Reference:
        """Return the reference of a checkpoint."""
        attention, conductance = (
            {key: values.numpy() for key, values in state.get(name, {}).items()}
            for name in ("attention", "conductance")
        )
        return cls(attention, conductance, dict(state.get("targets", {})))

    def knows(self, sentences: Sequence[MonitoredSentence]) -> bool:
        """Whether one of the sentences was in this validation."""
        return any(one.key in self.attention or one.key in self.conductance for one in sentences)

    def of_attention(self, one: MonitoredSentence) -> Floats | None:
        """Return the earlier attention flow of a sentence with the same players."""
        return _same_shape(self.attention.get(one.key), one.attention)

    def of_conductance(self, one: MonitoredSentence) -> Floats | None:
        """Return the earlier conductance flow of a sentence with the same players, towards the same prediction."""
        if self.targets.get(one.key) != one.target:
            return None
        return _same_shape(self.conductance.get(one.key), one.conductance)


def run_scalars(sentences: Sequence[MonitoredSentence], last: Reference, start: Reference) -> dict[str, float]:
    """Return at most eleven metrics of a validation, see ``SCALARS``, averaged over the sentences that have them.

    Args:
        sentences: the sentences of this validation.
        last: of the last logged validation.
        start: from before the training.
    """
    values: dict[str, list[float]] = {name: [] for name in SCALARS}
    for one in sentences:
        words = ~one.special
        values["probability"].append(one.probability)
        if one.key in last.targets:
            values["flips"].append(float(last.targets[one.key] != one.target))
        if one.conductance is not None:
            flow = one.conductance.values
            values["special_share"].append(
                float(one.conductance.special_share()[1:-1].mean()) if len(flow) > 2 else 0.0
            )
            values["handover_layer"].append(handover_layer(flow, one.special))
            values["words_for_80_percent"].append(n_players_for_share(flow[0, words]))
            for name, reference in (("drift", last), ("drift_from_start", start)):
                values[name].append(_conductance_drift(one, reference))
        if one.attention is not None:
            layers = slice(0, one.attention.n_layers)  # layer L is the readout itself, independent of the model
            values["attention_entropy"].append(float(normalised_entropy(one.attention.values)[layers].mean()))
            saturated = [one.attention.is_saturated(layer) for layer in range(one.attention.n_layers)]
            values["attention_saturated_layers"].append(float(sum(saturated)))
            for name, reference in (("attention_drift", last), ("attention_drift_from_start", start)):
                before = reference.of_attention(one)
                if before is not None:
                    values[name].append(float(drift(one.attention.values, before)[layers].mean()))
    return {name: mean for name, numbers in values.items() if not np.isnan(mean := _mean(numbers))}


def layer_scalars(sentences: Sequence[MonitoredSentence], last: Reference, *, has_tokenizer: bool) -> dict[str, float]:
    """Return the metrics of every layer, ``conductance_drift/layer_00`` and so on, averaged like ``run_scalars``.

    Args:
        sentences: the sentences of this validation.
        last: of the last logged validation.
        has_tokenizer: without a tokenizer special tokens are unknown and their share is omitted.
    """
    attention = [one for one in sentences if one.attention is not None]
    signed = [one for one in sentences if one.conductance is not None]
    metrics: dict[str, list[Floats]] = {
        "attention_ambiguity": [one.attention.ambiguity for one in attention if one.attention],
        "attention_drift": _compared(attention, drift, lambda one: one.attention, last.of_attention),
        "attention_entropy": [normalised_entropy(one.attention.values) for one in attention if one.attention],
        "attention_rollout_agreement": [
            rank_correlation(one.attention.values, one.attention.rollout) for one in attention if one.attention
        ],
        "attention_saturation": [one.attention.saturation for one in attention if one.attention],
        "attention_special_share": [
            special_share(one.attention.values, one.special) for one in attention if one.attention and has_tokenizer
        ],
        "conductance_drift": _compared(signed, signed_drift, lambda one: one.conductance, last.of_conductance),
        "conductance_error": [one.conductance.conservation_error for one in signed if one.conductance],
        "conductance_special_share": [one.conductance.special_share() for one in signed if one.conductance],
    }
    scalars = {}
    for name, rows in metrics.items():
        n_layers = len(rows[0]) - 1 if rows else 0
        n_shown = n_layers + 1 if name.startswith("conductance") else n_layers  # layer L of attention is the readout
        for layer in range(n_shown if rows else 0):
            mean = _mean([float(row[layer]) for row in rows])
            if not np.isnan(mean):
                scalars[f"{name}/{layer_name(layer, n_layers)}"] = mean
    return scalars


def sentence_drift(one: MonitoredSentence, reference: Reference) -> float:
    """Return the drift of the conductance flow of a sentence, or without it of its attention flow; NaN if it is new."""
    if one.conductance is not None or one.attention is None:
        return _conductance_drift(one, reference)
    before = reference.of_attention(one)
    return float("nan") if before is None else float(drift(one.attention.values, before)[:-1].mean())


def mean_of_layers(sentences: Sequence[MonitoredSentence]) -> dict[str, list[float]]:
    """Return numbers of every layer for the page, averaged over the sentences that have them.

    ``conductance_special_share`` and ``conductance_error`` have L + 1 rows, from the input; ``attention_saturation``
    too; ``attention_entropy``, of the attention of each layer, has L.
    """
    attention = [one.attention for one in sentences if one.attention is not None]
    signed = [one.conductance for one in sentences if one.conductance is not None]
    rows: dict[str, list[Floats]] = {
        "conductance_special_share": [flow.special_share() for flow in signed],
        "conductance_error": [flow.conservation_error for flow in signed],
        "attention_entropy": [flow.attention_entropy for flow in attention if flow.attention_entropy is not None],
        "attention_saturation": [flow.saturation for flow in attention],
    }
    return {
        name: [_mean(column) for column in np.array(found).T.tolist()]
        for name, found in rows.items()
        if len({len(row) for row in found}) == 1
    }


def _conductance_drift(one: MonitoredSentence, reference: Reference) -> float:
    """Drift at the input layer; 1 if the prediction flipped, NaN if the sentence is new."""
    if one.conductance is None or one.key not in reference.conductance:
        return float("nan")
    before = reference.of_conductance(one)
    return 1.0 if before is None else float(signed_drift(one.conductance.values[:1], before[:1])[0])


def _compared(
    sentences: Sequence[MonitoredSentence],
    distance: Callable[[Floats, Floats], Floats],
    flow: Callable[[MonitoredSentence], Any],
    reference: Callable[[MonitoredSentence], Floats | None],
) -> list[Floats]:
    pairs = [(flow(one).values, reference(one)) for one in sentences]
    return [distance(values, before) for values, before in pairs if before is not None]


def _same_shape(before: Floats | None, flow: Any) -> Floats | None:
    return before if before is not None and flow is not None and before.shape == flow.values.shape else None


def _mean(numbers: Sequence[float]) -> float:
    """Mean of the numbers that are defined, NaN if there is none."""
    defined = [number for number in numbers if np.isfinite(number)]
    return float(sum(defined) / len(defined)) if defined else float("nan")
