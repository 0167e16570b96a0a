"""Validation metrics of many models in one call; every score is larger for a better model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.data import function_name

Score = Callable[[Tensor, Tensor], Tensor]  # outputs (m, H, C) and the truth of m examples -> float64 (H,)
Metric = Callable[[Any, Any], Any]  # truth and predictions -> float


@dataclass(frozen=True)
class Scorer:
    """Computes a metric of many models: outputs (m, H, C) and the truth of m examples give float64 (H,).

    Args:
        metric: a name, a torchmetrics.Metric, or a function of the truth and the predictions of a model, NumPy arrays.
        named: metrics by name.
        predictions: from outputs (m, H, C) to what a torchmetrics.Metric or a function is given of each model,
            (H, m, ...).

    Example:
        >>> outputs = torch.tensor([[[0.0, 1.0]], [[0.0, -1.0]]], dtype=torch.float64)  # two sentences, one classifier
        >>> Scorer("accuracy", CLASSIFICATION_SCORES, probabilities)(outputs, torch.tensor([1, 1])).tolist()
        [0.5]
    """

    metric: str | Metric
    named: Mapping[str, Score]
    predictions: Callable[[Tensor], Tensor]

    def __post_init__(self) -> None:
        if self.metric not in self.named if isinstance(self.metric, str) else not callable(self.metric):
            expected = f"one of {sorted(self.named)}, a torchmetrics.Metric or a function of labels and predictions"
            raise InputError("metric", got=repr(self.metric), expected=expected)

    def __call__(self, outputs: Tensor, truth: Tensor) -> NDArray[np.float64]:
        if isinstance(self.metric, str):
            scores: NDArray[np.float64] = self.named[self.metric](outputs, truth).numpy()
            return scores
        predictions = self.predictions(outputs)
        if not is_torchmetric(self.metric):
            known = truth.numpy()
            return np.array([float(self.metric(known, prediction.numpy())) for prediction in predictions])
        if truth.ndim == 1 and predictions.shape[2:] == (2,) and not hasattr(self.metric, "num_classes"):
            predictions = predictions[:, :, 1]  # metrics of two classes expect the probability of the second one
        return np.array([compute_torchmetric(self.metric, prediction, truth) for prediction in predictions])


def is_torchmetric(metric: object) -> bool:
    """Whether an object has the methods of a ``torchmetrics.Metric``."""
    return all(callable(getattr(metric, name, None)) for name in ("update", "compute", "reset"))


def compute_torchmetric(metric: Any, predictions: Tensor, truth: Tensor) -> float:
    """Value of a torchmetrics.Metric, negated if lower values are better; the metric itself is not changed."""
    metric = copy.deepcopy(metric)
    metric.reset()
    metric.update(predictions, truth)  # metric(...) would compute it twice
    value = float(metric.compute())
    return -value if getattr(metric, "higher_is_better", True) is False else value


def metric_name(metric: str | Metric) -> str:
    """Name of a metric, with the settings of a torchmetrics.Metric, for the configuration of a ledger.

    Example:
        >>> from torchmetrics.classification import BinaryF1Score
        >>> metric_name(BinaryF1Score(threshold=0.3)) == metric_name(BinaryF1Score())
        False
    """
    if isinstance(metric, str):
        return metric
    if not is_torchmetric(metric):
        return function_name(metric)
    simple = (bool, int, float, str, type(None))
    values = {name: value for name, value in vars(metric).items() if not name.startswith("_")}
    settings = [f"{name}={value!r}" for name, value in sorted(values.items()) if isinstance(value, simple)]
    return f"{function_name(metric)}({', '.join(settings)})"


def probabilities(logits: Tensor) -> Tensor:
    """Probabilities (H, m, C) of logits (m, H, C)."""
    return logits.softmax(dim=2).transpose(0, 1)


def area_under_curve(scores: Tensor, is_positive: Tensor) -> Tensor:
    """Area under the ROC curve (H,) of scores (m, H); ties count half."""
    columns = scores.T
    inside, outside = columns[:, is_positive].contiguous(), columns[:, ~is_positive].sort(dim=1).values
    below = torch.searchsorted(outside, inside) + torch.searchsorted(outside, inside, right=True)
    return below.double().mean(dim=1) / (2 * outside.shape[1])


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=2) == labels[:, None]).double().mean(dim=0)


def _balanced_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    correct = (logits.argmax(dim=2) == labels[:, None]).double()
    return torch.stack([correct[labels == label].mean(dim=0) for label in _classes(labels)]).mean(dim=0)


def _f1(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean F1 score of the classes of the validation set."""
    predictions = logits.argmax(dim=2)  # (m, H)
    scores = []
    for label in _classes(labels):
        predicted, true = (predictions == label).double(), (labels == label).double()[:, None]
        scores.append(2 * (predicted * true).sum(dim=0) / (predicted.sum(dim=0) + true.sum()))
    return torch.stack(scores).mean(dim=0)


def _log_loss(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(2, labels[:, None, None].expand(-1, logits.shape[1], 1)).squeeze(2)
    return (own - logits.logsumexp(dim=2)).mean(dim=0)


def _auc(logits: Tensor, labels: Tensor) -> Tensor:
    """One class against the others, averaged over the classes of the validation set."""
    if logits.shape[2] == 2:
        return area_under_curve(logits[:, :, 1] - logits[:, :, 0], labels == 1)
    margins = logits - logits.logsumexp(dim=2, keepdim=True)
    areas = [area_under_curve(margins[:, :, label], labels == label) for label in _classes(labels)]
    return torch.stack(areas).mean(dim=0)


def _classes(labels: Tensor) -> list[int]:
    return sorted(set(labels.tolist()))


CLASSIFICATION_SCORES: dict[str, Score] = {
    "accuracy": _accuracy,
    "auc": _auc,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "log_loss": _log_loss,
}
