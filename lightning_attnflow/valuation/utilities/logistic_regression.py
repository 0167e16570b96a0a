"""Batched logistic regression: many models on the same features, each trained on its own subset of the rows.

Column h of every tensor belongs to model h, so that one matrix product computes a step of all models. Models are
trained to the optimum of the regularised likelihood or by a given number of epochs of gradient descent. All tensors
are float64, so that a model does not depend on the batch in which it is trained.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.utilities.design import NEGLIGIBLE, Design

_TOLERANCE = 1e-6  # upper bound on the distance of the weights from the optimum, in the Euclidean norm
_MAX_ITERATIONS = 500  # the default penalty needs about ten; Newton's method finishes models that need more
_MAX_NEWTON_STEPS = 200  # full steps converge in ten; far from the optimum, halved steps precede them
BLOCK_ROWS = 8192  # rows weighted at the same time: 25 MB for 384 features
SMALLEST_L2 = 1e-6  # for smaller penalties, convergence cannot be verified in float64


class Rows:
    """Rows of a design matrix and the Gram matrices of their leading parts.

    Args:
        design: the design matrix.
        index: int64 (n,), the selected rows.
    """

    def __init__(self, design: Design, index: Tensor) -> None:
        self._rows = design.rows[index]
        self._leading = design.leading[index]
        few = self._rows[: 2 * self._rows.shape[1]]  # for at most 2d rows, K x costs less than Z (Z.T x)
        self._gram = few @ few.T

    def all(self) -> Tensor:
        """All selected rows, float64 (n, d + 1)."""
        return self._rows

    def gram(self, size: int) -> Gram:
        """Gram matrix of the first ``size`` rows."""
        gram = self._gram[:size, :size] if size <= len(self._gram) else None
        return Gram(self._rows[:size], self._leading[:size], gram)

    def weights(self, dual: Tensor) -> Tensor:
        """Weights (d + 1, H) of models with dual coefficients (b, H) on the first b rows."""
        return self._rows[: len(dual)].T @ dual


class Gram:
    """Gram matrix K of some rows, with a basis of its leading directions for the preconditioner."""

    def __init__(self, rows: Tensor, leading: Tensor, gram: Tensor | None) -> None:
        self.rows, self._gram = rows, gram
        guess = self @ leading  # one power iteration from the leading directions of all rows
        image = self @ guess
        energy, basis = torch.linalg.eigh(guess.T @ image)
        kept = energy > energy[-1] * NEGLIGIBLE
        basis = basis[:, kept] / energy[kept].sqrt()
        self.variances, turn = torch.linalg.eigh((image @ basis).T @ (image @ basis))
        self.basis = guess @ (basis @ turn)  # (b, r): basis.T K basis = 1
        self.image = image @ (basis @ turn)  # K basis; image.T image = diag(variances)

    def __len__(self) -> int:
        return len(self.rows)

    def __matmul__(self, columns: Tensor) -> Tensor:
        return self.rows @ (self.rows.T @ columns) if self._gram is None else self._gram @ columns


def fit_logistic_regressions(
    gram: Gram, targets: Tensor, present: Tensor, *, offset: Tensor, l2: float, start: Tensor
) -> Tensor:
    """Minimise ``sum over present rows of log-loss + l2/2 |w|^2`` for every model.

    The weights are ``w = rows.T @ dual`` and the logits ``offset + rows @ w``. The method is preconditioned nonlinear
    conjugate gradients (Polak-Ribiere with restarts) in the space of the weights, expressed in the dual coefficients:
    an iteration costs one product with the Gram matrix. The objective is l2-strongly convex, so ``|gradient| / l2``
    bounds the distance from the optimum and is the stopping rule. Models that have not converged after the maximum
    number of iterations are solved by Newton's method.

    Args:
        gram: Gram matrix of the b rows.
        targets: float64 (b, H) in {0, 1}.
        present: float64 (b, H), the weight of the row where it belongs to the coalition of the model, else 0.
        offset: float64 (H,), logit of the base rate of the class of each model.
        l2: penalty, at least ``SMALLEST_L2``.
        start: float64 (b, H), initial dual coefficients.

    Returns:
        float64 (b, H), dual coefficients of the optimum.

    Raises:
        InputError: a model has not converged because the penalty is too small.
    """
    dual = start
    logits = gram @ dual + offset
    shrink = direction = image = None
    old, old_product = dual, dual[0]  # replaced after the first iteration
    for _ in range(_MAX_ITERATIONS):
        probability = torch.sigmoid(logits)
        residual = (targets - probability).mul_(present).sub_(dual, alpha=l2)  # negative gradient (dual)
        steepest = gram @ residual
        if float((residual * steepest).sum(dim=0).amax()) <= (_TOLERANCE * l2) ** 2:
            return dual
        curvature = (probability - probability.square()).mul_(present)  # (b, H), second derivatives of the log-loss
        if shrink is None:
            mean_curvature = curvature.sum(dim=0) / len(gram)
            shrink = 1 - l2 / (l2 + gram.variances[:, None] * mean_curvature)
        leading = shrink * (gram.basis.T @ steepest)
        step, step_image = residual - gram.basis @ leading, steepest.sub_(gram.image @ leading)
        product = (residual * step_image).sum(dim=0)
        if direction is None or image is None:
            direction, image = step, step_image
        else:
            conjugacy = (
                ((product - (old * step_image).sum(dim=0)) / old_product).nan_to_num_(0.0, 0.0, 0.0).clamp_(min=0)
            )
            direction, image = direction.mul_(conjugacy).add_(step), image.mul_(conjugacy).add_(step_image)
        bend = (curvature * image).mul_(image).sum(dim=0) + l2 * (direction * image).sum(dim=0)
        length = ((residual * image).sum(dim=0) / bend).nan_to_num_(0.0, 0.0, 0.0)
        dual = dual + length * direction
        logits.addcmul_(length, image)
        old, old_product = residual, product
    unsolved = (residual * (gram @ residual)).sum(dim=0) > (_TOLERANCE * l2) ** 2
    for model in torch.nonzero(unsolved).flatten().tolist():
        members = torch.nonzero(present[:, model]).flatten()
        goal, weights = targets[members, model], present[members, model]
        outputs, _ = fit_by_newton(gram.rows[members], goal, weights, offset=offset[model], l2=l2)
        dual[:, model] = 0
        dual[members, model] = weights * (goal - torch.sigmoid(outputs)) / l2
    return dual


def fit_by_newton(
    rows: Tensor, targets: Tensor, weights: Tensor, *, offset: Tensor | float, l2: float
) -> tuple[Tensor, Tensor]:
    """Minimise ``sum of weighted log-loss + l2/2 |w|^2`` of one model by Newton steps from weights 0.

    Args:
        rows: float64 (n, d + 1).
        targets: float64 (n,) in {0, 1}.
        weights: float64 (n,), weights of the rows, at least 0.
        offset: logit of the base rate.
        l2: penalty, at least ``SMALLEST_L2``.

    Returns:
        float64 (n,), logits at the optimum; float64 (d + 1, d + 1), lower Cholesky factor of the Hessian there.

    Raises:
        InputError: the model has not converged because the penalty is too small.
    """

    def objective(logits: Tensor, coefficients: Tensor) -> Tensor:
        losses = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, weights, reduction="sum")
        return losses + l2 / 2 * coefficients @ coefficients

    coefficients = rows.new_zeros(rows.shape[1])
    logits = torch.zeros_like(targets) + offset
    value = objective(logits, coefficients)
    for _ in range(_MAX_NEWTON_STEPS):
        probability = torch.sigmoid(logits)
        gradient = rows.T @ (weights * (targets - probability)) - l2 * coefficients
        factor = torch.linalg.cholesky(hessian(rows, weights * probability * (1 - probability), l2))
        if float(gradient @ gradient) <= (_TOLERANCE * l2) ** 2:
            return logits, factor
        step = torch.cholesky_solve(gradient[:, None], factor)[:, 0]
        change, length = rows @ step, 1.0
        while length > 1e-10:
            trial = objective(logits + length * change, coefficients + length * step)
            if trial <= value + 1e-13 * (1 + value):  # up to rounding
                break
            length /= 2
        coefficients, logits = coefficients + length * step, logits + length * change
        value = objective(logits, coefficients)
    raise InputError(
        "l2",
        got=f"{l2}, for which a logistic regression did not converge",
        expected="a larger penalty",
        remedy="The default is l2=1.0.",
    )


def hessian(rows: Tensor, curvature: Tensor, l2: float) -> Tensor:
    """Sum of the outer products of the rows times their curvature, and the penalty, (d + 1, d + 1)."""
    hessian = l2 * torch.eye(rows.shape[1], dtype=rows.dtype)
    for part, scale in zip(torch.split(rows, BLOCK_ROWS), torch.split(curvature.sqrt(), BLOCK_ROWS), strict=True):
        scaled = part * scale[:, None]
        hessian.addmm_(scaled.T, scaled)
    return hessian


def fit_by_gradient_descent(
    rows: Tensor, targets: Tensor, present: Tensor, *, offset: Tensor, l2: float, lr: float, batches: list[list[Tensor]]
) -> Tensor:
    """Train every model by gradient descent on ``mean log-loss + l2 / (2 |S|) |w|^2`` from weights 0.

    Args:
        rows: float64 (n, d + 1).
        targets, present, offset, l2: as for `fit_logistic_regressions`.
        lr: step size.
        batches: for each epoch its batches of row indices. A model uses the rows of a batch that belong to its
            coalition and skips a batch without any.

    Returns:
        float64 (d + 1, H), weights.
    """
    weights = torch.zeros(rows.shape[1], targets.shape[1], dtype=torch.float64)
    penalty = l2 / present.sum(dim=0).clamp(min=1)
    for batch in (batch for epoch in batches for batch in epoch):
        members, size = present[batch], present[batch].sum(dim=0)
        residual = (torch.sigmoid(rows[batch] @ weights + offset) - targets[batch]).mul_(members)
        gradient = rows[batch].T @ residual / size.clamp(min=1) + penalty * weights
        weights -= lr * torch.where(size > 0, gradient, 0.0)
    return weights
