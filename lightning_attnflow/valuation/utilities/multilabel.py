"""Multi-label data, and the scores of independent logistic regressions of the labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_attnflow._checks import check_numbers
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.utilities.metrics import area_under_curve


def check_label_matrix(name: str, labels: Any, length: int, n_labels: int | None = None) -> NDArray[np.int64]:
    """Return labels 0 or 1, int64 (length, k) with k >= 1, or k = ``n_labels``."""
    columns = "k" if n_labels is None else str(n_labels)
    expected = f"zeros and ones of shape ({length}, {columns}), one column for each label"
    array = check_numbers(name, labels, expected)
    if array.ndim != 2 or len(array) != length or array.shape[1] != (n_labels or max(1, array.shape[1])):
        raise InputError(name, got=f"shape {array.shape}", expected=expected)
    invalid = np.argwhere((array != 0) & (array != 1))
    if len(invalid):
        row, column = invalid[0]
        raise InputError(name, got=f"{array[row, column]} in row {row}, column {column}", expected=expected)
    return array.astype(np.int64)


def check_both_values(truth: NDArray[np.int64]) -> None:
    """Raise unless every column has zeros and ones, without which the area under its ROC curve is undefined."""
    constant = np.flatnonzero(np.ptp(truth, axis=0) == 0)
    if len(constant):
        raise InputError(
            "validation_labels",
            got=f"label {constant[0]} with the same value in all rows",
            expected="zeros and ones in every column for metric='auc'",
        )


def label_probabilities(outputs: Tensor) -> Tensor:
    """Probabilities (H, m, k) of logits (m, H, k)."""
    return torch.sigmoid(outputs).transpose(0, 1)


def _log_loss(outputs: Tensor, truth: Tensor) -> Tensor:
    """Mean log-likelihood of a label."""
    signs = (2 * truth - 1).double()[:, None]  # (m, 1, k)
    return torch.nn.functional.logsigmoid(signs * outputs).mean(dim=(0, 2))


def _accuracy(outputs: Tensor, truth: Tensor) -> Tensor:
    """Share of correct labels, 1 - Hamming loss."""
    return ((outputs > 0) == truth[:, None].bool()).double().mean(dim=(0, 2))


def _f1(outputs: Tensor, truth: Tensor) -> Tensor:
    """Mean F1 score of the labels; 0 for a label that is neither predicted nor true."""
    predicted, true = (outputs > 0).double(), truth.double()[:, None]
    both = (predicted * true).sum(dim=0)  # (H, k)
    return (2 * both / (predicted.sum(dim=0) + true.sum(dim=0)).clamp(min=1)).mean(dim=1)


def _auc(outputs: Tensor, truth: Tensor) -> Tensor:
    """Mean area under the ROC curve of the labels."""
    areas = [area_under_curve(outputs[:, :, label], truth[:, label] == 1) for label in range(truth.shape[1])]
    return torch.stack(areas).mean(dim=0)


MULTILABEL_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "accuracy": _accuracy,
    "auc": _auc,
    "f1": _f1,
    "log_loss": _log_loss,
}
