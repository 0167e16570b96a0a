"""Labels, targets and scores of classification, multi-label classification and regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.data import check_validation_labels
from lightning_attnflow.valuation.labels import encode_labels
from lightning_attnflow.valuation.utilities.example_weights import class_weights, sample_weights
from lightning_attnflow.valuation.utilities.logistic_head import shrunk_base_rates
from lightning_attnflow.valuation.utilities.metrics import (
    CLASSIFICATION_SCORES,
    Metric,
    Scorer,
    metric_name,
    probabilities,
)
from lightning_attnflow.valuation.utilities.multilabel import (
    MULTILABEL_SCORES,
    check_both_values,
    check_label_matrix,
    label_probabilities,
)
from lightning_attnflow.valuation.utilities.ridge_head import REGRESSION_SCORES, check_targets, predictions

DIFFERENTIABLE = ("log_loss", "mean_squared_error", "r2")
ClassWeight = str | Mapping[Any, float] | None


@dataclass(frozen=True)
class Task:
    """What a linear model on frozen features is trained on, and how it is scored.

    Args:
        labels: of the training set: int64 (n,), int64 (n, k) or float64 (n,).
        validation_labels: of the same kind.
        targets: float64 (n, C), one column for each model.
        weights: float64 (n,), weights of the training examples.
        offset: float64 (C,), outputs of the model of the empty coalition.
        scorer: the metric.
        classes: the classes, or None.
    """

    labels: NDArray[Any]
    validation_labels: NDArray[Any]
    targets: Tensor
    weights: NDArray[np.float64]
    offset: Tensor
    scorer: Scorer
    classes: tuple[Any, ...] | None = None

    def scores(self, outputs: Tensor) -> NDArray[np.float64]:
        """Scores (H,) of models with outputs (m, H, C)."""
        return self.scorer(self._of_classes(outputs), torch.from_numpy(self.validation_labels))

    def derivatives(self, outputs: Tensor) -> Tensor:
        """Derivatives of the score of one model with outputs (m, C) by its outputs, (m, C)."""
        metric = self.scorer.metric
        if metric not in DIFFERENTIABLE:
            expected = f"one of {list(DIFFERENTIABLE)}, which have derivatives"
            got = metric_name(metric)
            raise InputError("metric", got=got, expected=expected, remedy="leave_one_out takes any metric.")
        with torch.enable_grad():
            inputs = outputs.detach().clone().requires_grad_()
            score = self.scorer.named[str(metric)](
                self._of_classes(inputs[:, None]), torch.from_numpy(self.validation_labels)
            )
            return torch.autograd.grad(score.sum(), inputs)[0]

    def _of_classes(self, outputs: Tensor) -> Tensor:
        """With classes, one output for each of them, (m, H, C)."""
        if self.classes is None:
            return outputs
        is_binary = outputs.shape[2] == 1
        outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=2) if is_binary else outputs
        return outputs if is_binary else torch.nn.functional.logsigmoid(outputs)


@dataclass(frozen=True)
class TaskArguments:
    """Arguments of ``FrozenEncoderUtility`` from which a task is made; n training and m validation examples."""

    labels: Any
    validation_labels: Any
    n: int
    m: int
    metric: str | Metric | None
    sample_weight: ArrayLike | None
    class_weight: ClassWeight


def classification(given: TaskArguments) -> Task:
    """One logistic regression for two classes, else one for each class against the others."""
    labels, classes = encode_labels("labels", given.labels, given.n)
    truth = check_validation_labels(given.validation_labels, given.m, classes)
    positive = [1] if len(classes) == 2 else range(len(classes))
    targets = torch.from_numpy(np.stack([labels == c for c in positive], axis=1).astype(np.float64))
    weights = sample_weights(given.sample_weight, given.n) * class_weights(given.class_weight, labels, classes)
    offset = shrunk_base_rates(targets, torch.from_numpy(weights), len(classes))
    scorer = Scorer("log_loss" if given.metric is None else given.metric, CLASSIFICATION_SCORES, probabilities)
    return Task(labels, truth, targets, weights, offset, scorer, classes)


def multilabel(given: TaskArguments) -> Task:
    """An independent logistic regression for each label."""
    _check_no_class_weight(given.class_weight, "multilabel")
    labels = check_label_matrix("labels", given.labels, given.n)
    truth = check_label_matrix("validation_labels", given.validation_labels, given.m, labels.shape[1])
    if given.metric == "auc":
        check_both_values(truth)
    targets, weights = torch.from_numpy(labels).double(), sample_weights(given.sample_weight, given.n)
    offset = shrunk_base_rates(targets, torch.from_numpy(weights), 2)
    scorer = Scorer("log_loss" if given.metric is None else given.metric, MULTILABEL_SCORES, label_probabilities)
    return Task(labels, truth, targets, weights, offset, scorer)


def regression(given: TaskArguments) -> Task:
    """Ridge regression; the empty coalition predicts the weighted mean."""
    _check_no_class_weight(given.class_weight, "regression")
    labels = check_targets("labels", given.labels, given.n)
    truth = check_targets("validation_labels", given.validation_labels, given.m)
    scorer = Scorer("mean_squared_error" if given.metric is None else given.metric, REGRESSION_SCORES, predictions)
    if given.metric == "r2" and np.ptp(truth) == 0:
        raise InputError("validation_labels", got="equal numbers", expected="numbers that differ for metric='r2'")
    weights = sample_weights(given.sample_weight, given.n)
    offset = torch.tensor([np.average(labels, weights=weights)])
    return Task(labels, truth, torch.from_numpy(labels)[:, None], weights, offset, scorer)


def _check_no_class_weight(class_weight: ClassWeight, task: str) -> None:
    if class_weight is not None:
        raise InputError("class_weight", got=repr(class_weight), expected=f"None with task={task!r}")


TASKS: dict[str, Callable[[TaskArguments], Task]] = {
    "classification": classification,
    "multilabel": multilabel,
    "regression": regression,
}
