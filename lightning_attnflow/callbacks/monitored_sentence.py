"""What the monitor knows of one sentence at one validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lightning_attnflow.callbacks.heads import WordHeads
from lightning_attnflow.flow.conductance import ConductanceFlow
from lightning_attnflow.plots.sentence_flow import SentenceFlow


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

    Example:
        >>> words, special = ("[CLS]", "fine", "film"), np.array([True, False, False])
        >>> values = np.array([[0.0, 0.5, -0.1], [0.4, 0.0, 0.0]])
        >>> flow = ConductanceFlow(values, 0.4, n_steps=8, tolerance=0.01, tokens=words, is_special=special, target=1)
        >>> one = MonitoredSentence(  # as in monitor.latest after a validation
        ...     "fine film", words, special, "0", conductance=flow, target=1, prediction="positive", probability=0.9
        ... )
        >>> one.title(step=100), dict(zip(one.labels, one.conductance.values[0].round(4).tolist(), strict=True))
        ('fine film  (positive 90%, step 100)', {'[CLS]': 0.0, 'fine': 0.5, 'film': -0.1})
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
