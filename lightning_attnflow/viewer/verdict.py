"""A finding about a run, in words, and what its rules read from the records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.viewer.packing import unpack
from lightning_attnflow.viewer.record import Record


@dataclass(frozen=True)
class Verdict:
    """One finding.

    Attributes:
        name: of the rule, such as ``collapsed``.
        text: the finding in one sentence.
        rule: the rule with its threshold and the numbers found.
        level: ``warning`` or ``note``.
        causes: common causes, in one sentence, of a finding that is a consequence.
        sentence: name of a sentence that shows it, empty if all of them do.

    Example:
        >>> from lightning_attnflow.viewer import RunLog, find_verdicts, step_record
        >>> entropies = {0: [0.7, 0.6], 50: [0.995, 0.6]}  # of two layers
        >>> log = RunLog(step_record(step=step, layers={"attention_entropy": row}) for step, row in entropies.items())
        >>> (verdict,) = find_verdicts(log, step=50)
        >>> verdict.name, verdict.level, verdict.text
        ('uniform', 'warning', 'Attention is uniform in layer 1 since step 50.')
        >>> verdict.rule
        'Rule: the normalised entropy of the attention is at least 0.98. Found: 0.995 in layer 1.'
    """

    name: str
    text: str
    rule: str
    level: str = "warning"
    causes: str = ""
    sentence: str = ""

    def to_json(self) -> Record:
        """Return the JSON values."""
        return asdict(self)


Sentences = Sequence[dict[int, Record]]
"""The records of every sentence by step."""
Rule = Callable[[Sentences, dict[int, Record], int], Iterator[Verdict]]
"""Yields findings from the records of the sentences, those of the steps, and the step."""


def layer_numbers(steps: dict[int, Record], step: int, name: str) -> list[float]:
    """Numbers of all layers at a step; NaN where there is none."""
    values = steps.get(step, {}).get("layers", {}).get(name, [])
    return [float("nan") if value is None else float(value) for value in values]


def classes_of(record: Record) -> dict[str, Any]:
    """Probabilities of the classes by name; none if one of them is not a finite number."""
    classes: dict[str, Any] = (record.get("prediction") or {}).get("classes") or {}
    return {} if None in classes.values() else classes


def probability_of(prediction: Record) -> str:
    """The probability of a prediction as text."""
    probability = prediction.get("probability")
    return "an unknown probability" if probability is None else f"{probability:.0%}"


def flow_shares(record: Record) -> NDArray[np.float64] | None:
    """Shares (rows, n) of the words in the conductance of every layer; None without conductance or any flow."""
    flow = record["flows"].get("conductance")
    if flow is None:
        return None
    strength = np.abs(unpack(flow["values"]).astype(np.float64))
    whole = strength.sum(axis=1, keepdims=True)
    return strength / whole if whole.all() else None


def input_shares(record: Record) -> NDArray[np.float64] | None:
    shares = flow_shares(record)
    return None if shares is None else shares[0]


def layer_list(layers: Sequence[int]) -> str:
    """The layers in words: "layer 2", "layers 1 to 3" or "layers 1, 3"."""
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if list(layers) == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    return f"layers {', '.join(map(str, layers))}"


def short(text: str, length: int = 60) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
