"""Share of wrong labels, estimated from how often labels agree with predictions of a model that did not see them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

FloatArray = NDArray[np.float64]

_MAX_GROUPS = 200  # examples are grouped by certainty, so that the cost does not grow with n
_GROUP_SIZE = 5
_GRID = 80  # candidate shares between 0 and (C - 1) / C
_CHI2 = 1.9207  # half of the 95% quantile of chi-squared with one degree of freedom
_TINY = 1e-12


@dataclass(frozen=True)
class LabelNoise:
    """Estimated label noise of n training examples.

    Args:
        share: estimated share of wrong labels.
        interval: its 95% profile likelihood interval.
        correct: float64 (n,), probability that the label is correct if the share is as estimated.
    """

    share: float
    interval: tuple[float, float]
    correct: FloatArray


def estimate_share(probabilities: FloatArray, labels: NDArray[np.int64], n_train: int) -> LabelNoise:
    """Estimate the share of wrong training labels by maximum likelihood.

    A correct label agrees with the predicted class with probability ``p = sigmoid(a + b s)``, where s is the logit of
    the predicted class. If a share e of the training labels was replaced by another class at random, labels agree
    with probability ``(1 - e) p + e (1 - p) / (C - 1)``, which stays below 1 however certain the prediction is.
    Validation labels are taken to be correct. Wrong labels that are not random are underestimated if they concentrate
    on uncertain predictions; examples that are hard for the features but correct are overestimated if they do not.

    Args:
        probabilities: float64 (N, C), leave-one-out probabilities of training and validation examples.
        labels: int (N,).
        n_train: the first ``n_train`` examples are the training examples.

    Source: a psychometric function with a lapse rate: Wichmann & Hill (2001).
    """
    n_classes = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    largest = probabilities[np.arange(len(labels)), predicted]
    certainty = logit(np.clip(largest, _TINY, 1 - _TINY))
    agrees, trusted = predicted == labels, np.arange(len(labels)) >= n_train
    scale = float(np.sqrt(np.mean(certainty**2))) or 1.0
    size = max(1, min(_MAX_GROUPS, len(labels) // _GROUP_SIZE))
    group = np.argsort(np.argsort(certainty, kind="stable"), kind="stable") * size // len(labels)
    mean = np.bincount(group, certainty / scale, size) / np.bincount(group, minlength=size)
    counts = np.array([np.bincount(group[chosen], minlength=size) for chosen in (
        ~trusted & agrees, ~trusted & ~agrees, trusted & agrees, trusted & ~agrees,
    )])  # fmt: skip
    largest_share = (n_classes - 1) / n_classes
    shares = np.linspace(0, largest_share, _GRID, endpoint=False)
    curve, fits = np.array([0.0, 1.0]), []
    for share in shares:
        found = minimize(
            _negative_log_likelihood,
            curve,
            args=(share, mean, counts, n_classes),
            jac=True,
            method="L-BFGS-B",
            bounds=[(-10, 10), (0, 100)],
        )
        curve = found.x
        fits.append((float(found.fun), curve))
    profile = np.array([value for value, _ in fits])
    best = int(profile.argmin())
    share = float(shares[best])
    intercept, slope = fits[best][1]
    clean = expit(intercept + slope * certainty[:n_train] / scale)
    other = probabilities[np.arange(n_train), labels[:n_train]] / np.maximum(1 - largest[:n_train], _TINY)
    clean = np.where(agrees[:n_train], clean, (1 - clean) * np.minimum(other, 1))
    right, wrong = (1 - share) * clean, share / (n_classes - 1) * (1 - clean)
    correct = right / np.maximum(right + wrong, _TINY)
    return LabelNoise(share, _interval(shares, profile - profile[best], largest_share), correct)


def _negative_log_likelihood(
    curve: FloatArray, share: float, certainty: FloatArray, counts: NDArray[np.int64], n_classes: int
) -> tuple[float, FloatArray]:
    """Value and gradient by intercept and slope."""
    span = 1 - share * n_classes / (n_classes - 1)
    clean = np.clip(expit(curve[0] + curve[1] * certainty), _TINY, 1 - _TINY)
    noisy = np.clip(share / (n_classes - 1) + span * clean, _TINY, 1 - _TINY)
    agrees, differs, trusted_agrees, trusted_differs = counts
    value = -float(
        agrees @ np.log(noisy)
        + differs @ np.log(1 - noisy)
        + trusted_agrees @ np.log(clean)
        + trusted_differs @ np.log(1 - clean)
    )
    slope = span * clean * (1 - clean) * (agrees / noisy - differs / (1 - noisy))
    slope += trusted_agrees * (1 - clean) - trusted_differs * clean
    return value, -np.array([slope.sum(), slope @ certainty])


def _interval(shares: FloatArray, excess: FloatArray, largest: float) -> tuple[float, float]:
    """Ends of the shares whose log-likelihood is within the quantile of the best, interpolated on the grid."""
    inside = np.flatnonzero(excess <= _CHI2)
    low, high = int(inside[0]), int(inside[-1])

    def end(inner: int, outer: int) -> float:
        weight = (_CHI2 - excess[inner]) / (excess[outer] - excess[inner])
        return float(shares[inner] + weight * (shares[outer] - shares[inner]))

    return (0.0 if low == 0 else end(low, low - 1), largest if high == len(shares) - 1 else end(high, high + 1))
