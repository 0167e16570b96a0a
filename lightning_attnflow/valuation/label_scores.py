"""Scores of wrong labels from a logistic regression on frozen features: closed-form leave-one-out, AUM, influence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.special import expit
from torch import Tensor

from lightning_attnflow.valuation.kernel_features import kernel_features
from lightning_attnflow.valuation.utilities.design import design_matrix, leading_directions
from lightning_attnflow.valuation.utilities.logistic_regression import (
    BLOCK_ROWS,
    Gram,
    fit_by_newton,
    fit_logistic_regressions,
    hessian,
)

FloatArray = NDArray[np.float64]

_L2 = 1.0  # as in FrozenEncoderUtility
_KERNEL_L2 = 0.3  # of the head on kernel features
_FEW = 300  # examples, with which the kernel head has half its weight: it follows their noise more than the linear head
# Constant column beside features with a norm of 1. At .1, as in FrozenEncoderUtility, the logits of a few hundred
# examples hardly show that classes differ in size; with a free intercept, they follow the noise of one class.
_CONSTANT = 0.2
_AUM_STEPS = 60
_AUM_RATE = 16.0  # step size of gradient descent on the mean loss; detection is flat between 4 and 16


@dataclass(frozen=True)
class HeadScores:
    """Scores of n rows; low: the label is likely wrong.

    Args:
        margin: float64 (n,), leave-one-out margin: the logit of the given label minus the largest other logit, both
            predicted by the head without the row.
        aum: float64 (n,), mean margin over the steps of a gradient descent.
        self_influence: float64 (n,), minus the influence of the row on its own loss.
        logits: float64 (n, C), or (n, 1) for two classes, leave-one-out logits of each class against the rest.
        influence: float64 (n,), change of the validation log-likelihood by the row; None without validation rows.
    """

    margin: FloatArray
    aum: FloatArray
    self_influence: FloatArray
    logits: FloatArray
    influence: FloatArray | None = None


def design(features: FloatArray, n_reference: int) -> FloatArray:
    """Design matrix of a linear model, with the centre and scale of the first ``n_reference`` rows."""
    rows, _, _ = design_matrix(torch.from_numpy(features), n_reference)
    rows[:, -1] = _CONSTANT
    return rows.numpy()


def kernel_design(rows: FloatArray, n_reference: int, seed: int) -> FloatArray:
    """Design matrix of a linear model of kernel features, for the rows of :func:`design`."""
    columns = np.concatenate([kernel_features(rows[:, :-1], n_reference, seed), rows[:, -1:]], axis=1)
    columns *= np.sqrt(_L2 / _KERNEL_L2)  # a penalty of _L2 is then one of _KERNEL_L2
    return columns


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
    loo, own, influence = [], np.zeros(n), np.zeros(n_train)
    for fit in _fits(rows, labels, n_classes, weight):
        loo.append(fit.loo)
        own += fit.leverage * (weight * fit.residual) ** 2
        if n_train < n:
            gradient = rows[n_train:].T @ fit.residual[n_train:]
            direction = cho_solve((fit.factor.numpy(), True), gradient)
            influence += rows[:n_train] @ direction * (weight * fit.residual)[:n_train] / (n - n_train)
    logits = np.stack(loo, axis=1)
    return HeadScores(
        margin=margins(logits, labels),
        aum=_aum(rows, labels, n_classes, weight),
        self_influence=-own,
        logits=logits,
        influence=influence if n_train < n else None,
    )


def loo_logits(
    rows: FloatArray, labels: NDArray[np.int64], n_classes: int, weights: FloatArray | None = None
) -> FloatArray:
    """The ``logits`` of :class:`HeadScores` alone; the arguments are those of :func:`head_scores`."""
    weight = np.ones(len(rows)) if weights is None else weights
    return np.stack([fit.loo for fit in _fits(rows, labels, n_classes, weight)], axis=1)


def blended(linear: FloatArray, kernel: FloatArray) -> FloatArray:
    """Mean of the logits of two heads; the weight of the second is a quarter for 300 examples, a half for many."""
    weight = 0.5 * len(linear) / (len(linear) + _FEW)
    return (1 - weight) * linear + weight * kernel


def probabilities(logits: FloatArray) -> FloatArray:
    """Probabilities (n, C) of the classes from logits of each class against the rest, (n, C) or (n, 1)."""
    if logits.shape[1] == 1:
        return np.concatenate([expit(-logits), expit(logits)], axis=1)
    one_against_rest = expit(logits)
    normalised: FloatArray = one_against_rest / np.maximum(one_against_rest.sum(axis=1, keepdims=True), 1e-300)
    return normalised


class _Fit(NamedTuple):
    """One class against the rest: residuals, leverages and leave-one-out logits (n,), and the factor of the Hessian."""

    residual: FloatArray
    leverage: FloatArray
    loo: FloatArray
    factor: Tensor


def _fits(rows: FloatArray, labels: NDArray[np.int64], n_classes: int, weight: FloatArray) -> Iterator[_Fit]:
    """Fit all classes against the rest together, or one of two classes."""
    matrix = torch.from_numpy(rows)
    columns = _columns(n_classes)
    targets = (labels[:, None] == columns).astype(np.float64)
    found = _optimal_logits(matrix, torch.from_numpy(targets), torch.from_numpy(weight))
    for target, logits in zip(targets.T, found.T.numpy(), strict=True):
        probability = expit(logits)
        residual, curvature = target - probability, weight * probability * (1 - probability)
        factor = torch.linalg.cholesky(hessian(matrix, torch.from_numpy(curvature), _L2))
        leverage = _leverages(matrix, factor)
        loo = logits - leverage * weight * residual / np.maximum(1 - curvature * leverage, 1e-6)
        yield _Fit(residual, leverage, loo, factor)


def _optimal_logits(rows: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Logits (n, H) of H models at their optimum, by the faster method for one and for several."""
    if targets.shape[1] == 1:
        return fit_by_newton(rows, targets[:, 0], weights, offset=0.0, l2=_L2)[0][:, None]
    gram, zeros = Gram(rows, leading_directions(rows), None), torch.zeros_like(targets)
    present = weights[:, None].expand_as(targets)
    return gram @ fit_logistic_regressions(gram, targets, present, offset=zeros[0], l2=_L2, start=zeros)


def _columns(n_classes: int) -> NDArray[np.int64]:
    """Classes that are fitted against the rest: one of two, or all."""
    return np.arange(1, 2) if n_classes == 2 else np.arange(n_classes)


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


def _aum(rows: FloatArray, labels: NDArray[np.int64], n_classes: int, weight: FloatArray) -> FloatArray:
    """Mean margin over the steps of gradient descent on the mean loss, from coefficients 0."""
    n = len(rows)
    columns = _columns(n_classes)
    targets = (labels[:, None] == columns).astype(np.float64)
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


def _leverages(rows: Tensor, factor: Tensor) -> FloatArray:
    """Quadratic form x' H^-1 x of each row x, (n,), where H has the lower Cholesky factor ``factor``."""
    whitened = (torch.linalg.solve_triangular(factor, part.T, upper=False) for part in torch.split(rows, BLOCK_ROWS))
    leverages: FloatArray = torch.cat([part.square().sum(dim=0) for part in whitened]).numpy()
    return leverages
