"""Validation metrics of many classifiers in one call; every metric is larger for a better classifier."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_attnflow.errors import InputError

Score = Callable[[Tensor, Tensor], Tensor]  # logits (m, models, C), labels (m,) -> float64 (models,)
Metric = Callable[[Any, Any], Any]  # labels (m,), probabilities (m, C) -> float


def score_function(metric: str | Metric) -> Score:
    """Return a function of logits (m, models, C) and labels int64 (m,) that computes a metric, float64 (models,).

    Args:
        metric: accuracy, balanced_accuracy, f1 (mean over classes), log_loss (negated), auc, or a function of labels
            int64 (m,) and probabilities float64 (m, C), both NumPy arrays, that returns a number.

    Example:
        >>> logits = torch.tensor([[[0.0, 1.0]], [[0.0, -1.0]]], dtype=torch.float64)  # two sentences, one classifier
        >>> float(score_function("accuracy")(logits, torch.tensor([1, 1])))
        0.5
    """
    if callable(metric):
        return _of_function(metric)
    if not isinstance(metric, str) or metric not in _SCORES:
        raise InputError(
            "metric", got=repr(metric), expected=f"a function (labels, probabilities) or one of {sorted(_SCORES)}"
        )
    return _SCORES[metric]


def _of_function(metric: Metric) -> Score:
    def score(logits: Tensor, labels: Tensor) -> Tensor:
        truth, probabilities = labels.numpy(), logits.softmax(dim=2).numpy()
        scores = [float(metric(truth, probabilities[:, model])) for model in range(logits.shape[1])]
        return torch.from_numpy(np.array(scores))

    return score


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=2) == labels[:, None]).double().mean(dim=0)


def _balanced_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    correct = (logits.argmax(dim=2) == labels[:, None]).double()
    return torch.stack([correct[labels == label].mean(dim=0) for label in _classes(labels)]).mean(dim=0)


def _f1(logits: Tensor, labels: Tensor) -> Tensor:
    predictions = logits.argmax(dim=2)  # (m, models)
    scores = []
    for label in _classes(labels):
        predicted, true = (predictions == label).double(), (labels == label).double()[:, None]
        scores.append(2 * (predicted * true).sum(dim=0) / (predicted.sum(dim=0) + true.sum()))
    return torch.stack(scores).mean(dim=0)


def _log_loss(logits: Tensor, labels: Tensor) -> Tensor:
    own = logits.gather(2, labels[:, None, None].expand(-1, logits.shape[1], 1)).squeeze(2)
    return (own - logits.logsumexp(dim=2)).mean(dim=0)


def _auc(logits: Tensor, labels: Tensor) -> Tensor:
    """One class against the others, averaged over the classes of the validation set; ties count half."""
    margins = logits - logits.logsumexp(dim=2, keepdim=True)
    classes = [1] if logits.shape[2] == 2 else _classes(labels)
    scores = []
    for label in classes:
        column = margins[:, :, label].T.contiguous() if logits.shape[2] > 2 else (logits[:, :, 1] - logits[:, :, 0]).T
        inside, outside = column[:, labels == label].contiguous(), column[:, labels != label].sort(dim=1).values
        below = torch.searchsorted(outside, inside) + torch.searchsorted(outside, inside, right=True)
        scores.append(below.double().mean(dim=1) / (2 * outside.shape[1]))
    return torch.stack(scores).mean(dim=0)


def _classes(labels: Tensor) -> list[int]:
    return sorted(set(labels.tolist()))


_SCORES: dict[str, Score] = {
    "accuracy": _accuracy,
    "auc": _auc,
    "balanced_accuracy": _balanced_accuracy,
    "f1": _f1,
    "log_loss": _log_loss,
}
