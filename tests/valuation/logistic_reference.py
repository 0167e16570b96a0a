"""Sentences with a class signal, and the logistic regression of a coalition by Newton's method."""

from __future__ import annotations

import numpy as np
from scipy.special import expit, logit
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss, roc_auc_score

SCORES = {  # of labels and P(class 1), by scikit-learn
    "accuracy": lambda truth, p: ((p > 0.5) == truth).mean(),
    "auc": roc_auc_score,
    "balanced_accuracy": lambda truth, p: balanced_accuracy_score(truth, p > 0.5),
    "f1": lambda truth, p: f1_score(truth, p > 0.5, average="macro"),
    "log_loss": lambda truth, p: -log_loss(truth, p),
}
METRICS = tuple(SCORES)


def sentences(n: int = 60, m: int = 50, d: int = 8, classes: int = 2, seed: int = 0):
    """Features with a class signal and unequal classes, as (train features, labels, validation features, labels)."""
    rng = np.random.default_rng(seed)
    labels = (
        np.r_[rng.permutation(np.arange(n) % (classes + 1)), rng.permutation(np.arange(m) % (classes + 1))] % classes
    )
    features = rng.normal(size=(n + m, d))
    features[:, :classes] += 1.5 * np.eye(classes)[labels]
    return features[:n], labels[:n], features[n:], labels[n:]


def random_coalitions(count: int, n: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((count, n)) < rng.random((count, 1))


def reference_probabilities(data, members: np.ndarray, l2: float = 1.0) -> np.ndarray:
    """P(class 1) on the validation set by Newton's method, on features prepared as the utility documents it."""
    features, labels, held_out, _ = data
    rows, outside, offset = prepared(features, held_out, labels)
    rows, targets, weights = rows[members], labels[members], np.zeros(rows.shape[1])
    for _ in range(50):
        chance = expit(offset + rows @ weights)
        hessian = (rows.T * (chance * (1 - chance))) @ rows + l2 * np.eye(len(weights))
        weights -= np.linalg.solve(hessian, rows.T @ (chance - targets) + l2 * weights)
    return expit(offset + outside @ weights)


def prepared(features: np.ndarray, held_out: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Rows of both sets with the constant column, and the offset of the logits: the base rate, shrunk towards .5."""
    centre = features.mean(axis=0)
    scale = np.sqrt(((features - centre) ** 2).sum(axis=1).mean())
    both = [np.c_[(part - centre) / scale, np.full(len(part), 0.1)] for part in (features, held_out)]
    rate = (labels.sum() + 1) / (len(labels) + 2)
    return both[0], both[1], max(0.0, 1 - 1 / (len(labels) * rate * (1 - rate) * logit(rate) ** 2)) * logit(rate)
