"""Scores of classifiers on the validation set, many classifiers at once.

Every score is larger for a better classifier, so the log loss is negated. F1 is the mean over the classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lightning_attnflow.errors import InputError

Score = Callable[[Tensor, Tensor], Tensor]


def score_function(name: str) -> Score:
    """The score called ``name``: logits (m, H, C) and labels int64 (m,) to float64 (H,).

    Args:
        name: accuracy, balanced_accuracy, f1, log_loss or auc.

    Raises:
        InputError: if there is no such score.

    Example:
        >>> logits = torch.tensor([[[0.0, 1.0]], [[0.0, -1.0]]], dtype=torch.float64)  # two sentences, one classifier
        >>> float(score_function("accuracy")(logits, torch.tensor([1, 1])))
        0.5
    """
    if name not in _SCORES:
        raise InputError(
            "metric", got=repr(name), expected=f"one of {sorted(_SCORES)}", remedy="Pass metric='accuracy'."
        )
    return _SCORES[name]


def _accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.argmax(dim=2) == labels[:, None]).double().mean(dim=0)


def _balanced_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    hits = (logits.argmax(dim=2) == labels[:, None]).double()
    return torch.stack([hits[labels == label].mean(dim=0) for label in _classes(labels)]).mean(dim=0)


def _f1(logits: Tensor, labels: Tensor) -> Tensor:
    said = logits.argmax(dim=2)  # (m, H)
    scores = []
    for label in _classes(labels):
        claimed, true = (said == label).double(), (labels == label).double()[:, None]
        scores.append(2 * (claimed * true).sum(dim=0) / (claimed.sum(dim=0) + true.sum()))
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
SCORES = tuple(_SCORES)
