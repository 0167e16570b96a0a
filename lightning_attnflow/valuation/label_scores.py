"""Scores of wrong labels from a logistic regression on frozen features: closed-form leave-one-out, AUM, influence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, log_expit

from lightning_attnflow.errors import InputError

FloatArray = NDArray[np.float64]

_L2 = 1.0  # as in FrozenEncoderUtility
_CONSTANT = 0.1  # value of the constant column, as in FrozenEncoderUtility
_MAX_NEWTON_STEPS = 50  # six to eight are needed
_TOLERANCE = 1e-8  # of the Newton decrement, relative to the penalty
_AUM_STEPS = 60
_AUM_RATE = 16.0  # step size of gradient descent on the mean loss; detection is flat between 4 and 16
_BLOCK_ROWS = 8192  # rows weighted at the same time: 25 MB for 384 features


@dataclass(frozen=True)
class HeadScores:
    """Scores of n rows; low: the label is likely wrong.

    Args:
        margin: float64 (n,), leave-one-out margin: the logit of the given label minus the largest other logit, both
            predicted by the head without the row.
        aum: float64 (n,), mean margin over the steps of a gradient descent.
        self_influence: float64 (n,), minus the influence of the row on its own loss.
        probabilities: float64 (n, C), leave-one-out probabilities of the classes.
        influence: float64 (n,), change of the validation log-likelihood by the row; None without validation rows.
    """

    margin: FloatArray
    aum: FloatArray
    self_influence: FloatArray
    probabilities: FloatArray
    influence: FloatArray | None = None


def design(features: FloatArray, n_reference: int) -> FloatArray:
    """Centre rows and scale them to a mean square norm of 1 on the first ``n_reference``, and add a constant column."""
    n, d = features.shape
    rows = np.empty((n, d + 1))
    centre = features[:n_reference].mean(axis=0)
    np.subtract(features, centre, out=rows[:, :d])
    scale = np.sqrt(np.einsum("ij,ij->", rows[:n_reference, :d], rows[:n_reference, :d]) / n_reference)
    if not scale > 0:
        raise InputError("features", got="the same row for every example", expected="rows that differ")
    rows[:, :d] /= scale
    rows[:, d] = _CONSTANT
    return rows


def head_scores(
    rows: FloatArray, labels: NDArray[np.int64], n_classes: int, *, weights: FloatArray | None = None, n_train: int
) -> HeadScores:
    """Scores of all rows by a head trained on all of them.

    Two classes are one logistic regression, more are one for each class against the rest. With the optimum w, the
    Hessian H and the leverage ``h = x' H^-1 x``, removing a row changes its logit by ``-h r / (1 - c h)`` to first
    order, where r is its residual and c its curvature.

    Args:
        rows: float64 (n, d + 1), see :func:`design`.
        labels: int (n,).
        n_classes: number of classes.
        weights: float64 (n,), weights of the losses; default: 1.
        n_train: the rows after the first ``n_train`` are the validation rows of ``influence``.

    Source: leave-one-out of logistic regression: Pregibon (1981); self-influence: Koh & Liang (2017); AUM: Pleiss et
    al. (2020).
    """
    n = len(rows)
    weight = np.ones(n) if weights is None else weights
    n_columns = 1 if n_classes == 2 else n_classes
    loo, own, influence = np.empty((n, n_columns)), np.zeros(n), np.zeros(n_train)
    for column in range(n_columns):
        targets = (labels == (1 if n_classes == 2 else column)).astype(np.float64)
        _, factor, logits = _optimum(rows, targets, weight)
        probability = expit(logits)
        residual, curvature = weight * (targets - probability), weight * probability * (1 - probability)
        leverage = np.empty(n)
        for block in _blocks(n):
            leverage[block] = np.einsum("ij,ij->i", rows[block], cho_solve(factor, rows[block].T).T)
        loo[:, column] = logits - leverage * residual / np.maximum(1 - curvature * leverage, 1e-6)
        own += leverage * residual**2
        if n_train < n:
            gradient = rows[n_train:].T @ (targets[n_train:] - probability[n_train:])
            influence += rows[:n_train] @ cho_solve(factor, gradient) * residual[:n_train] / (n - n_train)
    probabilities = _probabilities(loo)
    return HeadScores(
        margin=margins(loo, labels),
        aum=_aum(rows, labels, n_classes, weight),
        self_influence=-own,
        probabilities=probabilities,
        influence=influence if n_train < n else None,
    )


def margins(logits: FloatArray, labels: NDArray[np.int64]) -> FloatArray:
    """Logit of the given label minus the largest other logit, float64 (n,); one column means two classes."""
    if logits.shape[1] == 1:
        signed: FloatArray = np.where(labels == 1, logits[:, 0], -logits[:, 0])
        return signed
    index = np.arange(len(labels))
    other = logits.copy()
    other[index, labels] = -np.inf
    difference: FloatArray = logits[index, labels] - other.max(axis=1)
    return difference


def _optimum(
    rows: FloatArray, targets: FloatArray, weight: FloatArray
) -> tuple[FloatArray, tuple[FloatArray, bool], FloatArray]:
    """Coefficients, Cholesky factor of the Hessian and logits of the regularised optimum, by damped Newton steps."""
    coefficients, logits = np.zeros(rows.shape[1]), np.zeros(len(rows))
    value = _objective(logits, coefficients, targets, weight)
    for _ in range(_MAX_NEWTON_STEPS):
        probability = expit(logits)
        gradient = rows.T @ (weight * (targets - probability)) - _L2 * coefficients
        factor = cho_factor(_hessian(rows, weight * probability * (1 - probability)))
        step = cho_solve(factor, gradient)
        decrement = float(gradient @ step)
        if decrement <= _TOLERANCE * _L2:
            return coefficients, factor, logits
        length, change = 1.0, rows @ step
        while True:
            trial = _objective(logits + length * change, coefficients + length * step, targets, weight)
            if trial <= value - 1e-4 * length * decrement or length < 1e-8:
                break
            length /= 2
        coefficients, logits, value = coefficients + length * step, logits + length * change, trial
    return coefficients, factor, logits


def _objective(logits: FloatArray, coefficients: FloatArray, targets: FloatArray, weight: FloatArray) -> float:
    losses = -log_expit(np.where(targets > 0, logits, -logits))
    return float(weight @ losses + _L2 / 2 * coefficients @ coefficients)


def _hessian(rows: FloatArray, curvature: FloatArray) -> FloatArray:
    hessian = _L2 * np.eye(rows.shape[1])
    for block in _blocks(len(rows)):
        scaled = rows[block] * np.sqrt(curvature[block])[:, None]
        hessian += scaled.T @ scaled
    return hessian


def _aum(rows: FloatArray, labels: NDArray[np.int64], n_classes: int, weight: FloatArray) -> FloatArray:
    """Mean margin over the steps of gradient descent on the mean loss, from coefficients 0."""
    n = len(rows)
    columns = [1] if n_classes == 2 else list(range(n_classes))
    targets = (labels[:, None] == np.array(columns)).astype(np.float64)
    share = weight / weight.sum()
    coefficients, total = np.zeros((rows.shape[1], len(columns))), np.zeros(n)
    largest = _largest_eigenvalue(rows, share)
    rate = min(_AUM_RATE, 4.0 / largest)  # the curvature of the loss is at most a quarter of the eigenvalue
    logits = np.zeros_like(targets)
    for _ in range(_AUM_STEPS):
        coefficients += rate * rows.T @ (share[:, None] * (targets - expit(logits)))
        logits = rows @ coefficients
        total += margins(logits, labels)
    return total / _AUM_STEPS


def _largest_eigenvalue(rows: FloatArray, share: FloatArray) -> float:
    """Largest eigenvalue of the weighted second moments of the rows, by 20 power iterations."""
    vector = rows[0] + 1e-3
    size = 1.0
    for _ in range(20):
        vector = rows.T @ (share * (rows @ vector))
        size = float(np.linalg.norm(vector))
        vector /= size
    return size


def _probabilities(logits: FloatArray) -> FloatArray:
    if logits.shape[1] == 1:
        return np.concatenate([expit(-logits), expit(logits)], axis=1)
    one_against_rest = expit(logits)
    normalised: FloatArray = one_against_rest / np.maximum(one_against_rest.sum(axis=1, keepdims=True), 1e-300)
    return normalised


def _blocks(n: int) -> Iterator[slice]:
    for start in range(0, n, _BLOCK_ROWS):
        yield slice(start, start + _BLOCK_ROWS)
