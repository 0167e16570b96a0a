"""Logistic heads on fixed features, many at once: one column of a stacked tensor program is one head.

All heads share the features and differ in which rows they are trained on, so a step of all of them is one matrix
product. Two ways to train: to the optimum of the regularised likelihood, which no seed, step size or starting point
can change, or by a stated number of epochs of gradient descent. Everything is float64: two ways to reach the same
optimum then agree to far less than the distance of any validation sentence from the decision boundary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_attnflow.errors import InputError

_TOLERANCE = 1e-6  # certified distance of a head from its optimum, in the norm of the weights
_MAX_ITERATIONS = 500  # the default penalty needs about ten; a head that needs more is finished by Newton's method
_MAX_NEWTON_STEPS = 200  # full steps converge in ten, halved ones far from the optimum come before them
SMALLEST_L2 = 1e-6  # below, rounding hides whether a head has reached its optimum
_DEFLATED = 16  # leading directions that the preconditioner treats exactly; measured best of 8, 16, 32
# The constant column, small beside the norm 1 of the features: the base rate is known from all labels, and an intercept
# as free as the features would make small coalitions echo their majority class, and values say little but the class.
_CONSTANT = 0.1
_NEGLIGIBLE = 1e-7  # a direction with less than this share of the largest variance is left out of the preconditioner


@dataclass(frozen=True)
class Design:
    """Features prepared for heads: centred, scaled to a mean square norm of 1, with a constant column.

    One global scale, not one a feature: the features of an encoder share a unit, and dividing by the standard
    deviation of a dead feature would turn rounding noise into a signal.

    Args:
        rows: float64 (n, d + 1).
        leading: float64 (n, r), the leading eigenvectors of ``rows @ rows.T``.
    """

    rows: Tensor
    leading: Tensor
    centre: Tensor
    scale: float

    @classmethod
    def of(cls, features: Tensor) -> Design:
        """Prepare training features, float64 (n, d)."""
        centre = features.mean(dim=0)
        centred = features - centre
        scale = float(centred.square().sum(dim=1).mean().sqrt())
        if not scale > 0:
            raise InputError(
                "features",
                got="the same row for every sentence",
                expected="features that differ",
                remedy="Check the encoder: a head cannot tell these sentences apart.",
            )
        rows = torch.cat([centred / scale, torch.full((len(features), 1), _CONSTANT, dtype=torch.float64)], dim=1)
        variances, directions = torch.linalg.eigh(rows.T @ rows)  # ascending
        kept = variances > variances[-1] * _NEGLIGIBLE
        kept[:-_DEFLATED] = False
        leading = rows @ (directions[:, kept] / variances[kept].sqrt())
        return cls(rows, leading, centre, scale)

    def apply(self, features: Tensor) -> Tensor:
        """Other sentences, float64 (m, d), in the same coordinates: (m, d + 1)."""
        scaled = (features - self.centre) / self.scale
        return torch.cat([scaled, torch.full((len(features), 1), _CONSTANT, dtype=torch.float64)], dim=1)


class Rows:
    """Some rows of a design and the product with their Gram matrix K, in whichever form is cheaper.

    Args:
        design: the prepared features.
        index: int64 (n,), the rows in the order in which :meth:`first` takes them.
    """

    def __init__(self, design: Design, index: Tensor) -> None:
        self._rows = design.rows[index]
        self._leading = design.leading[index]
        few = self._rows[: 2 * self._rows.shape[1]]  # below 2d rows K x costs less than Z (Z.T x)
        self._gram = few @ few.T

    def first(self, size: int) -> Gram:
        """The first ``size`` rows."""
        gram = self._gram[:size, :size] if size <= len(self._gram) else None
        return Gram(self._rows[:size], self._leading[:size], gram)

    def weights(self, dual: Tensor) -> Tensor:
        """Weights (d + 1, H) of heads given by their dual coefficients (b, H) on the first b rows."""
        return self._rows[: len(dual)].T @ dual


class Gram:
    """The Gram matrix of some rows, with a basis of its leading directions for the preconditioner."""

    def __init__(self, rows: Tensor, leading: Tensor, gram: Tensor | None) -> None:
        self._rows, self._gram = rows, gram
        guess = self @ leading  # one power iteration from the leading directions of all rows
        image = self @ guess
        energy, basis = torch.linalg.eigh(guess.T @ image)
        kept = energy > energy[-1] * _NEGLIGIBLE
        basis = basis[:, kept] / energy[kept].sqrt()
        self.variances, turn = torch.linalg.eigh((image @ basis).T @ (image @ basis))
        self.basis = guess @ (basis @ turn)  # (b, r): basis.T K basis = 1
        self.image = image @ (basis @ turn)  # K basis; image.T image = diag(variances)

    def __len__(self) -> int:
        return len(self._rows)

    def among(self, places: Tensor) -> Tensor:
        """The Gram matrix of the rows at ``places`` alone."""
        rows = self._rows[places]
        return rows @ rows.T

    def __matmul__(self, columns: Tensor) -> Tensor:
        return self._rows @ (self._rows.T @ columns) if self._gram is None else self._gram @ columns


def solve_heads(gram: Gram, targets: Tensor, present: Tensor, *, offset: Tensor, l2: float, start: Tensor) -> Tensor:
    """Minimise ``sum_present log-loss + l2/2 |w|^2`` for every column, w being ``rows.T @ dual`` and the logits
    ``offset + rows @ w``.

    Preconditioned nonlinear conjugate gradients (Polak-Ribiere, restarted when the conjugacy is lost) in the space of
    the weights, written in the dual coefficients: an iteration costs one product with the Gram matrix. The objective
    is l2-strongly convex, so ``|gradient| / l2`` bounds the distance from the optimum; that is the stopping rule. Heads
    that a small penalty keeps from it for long are finished one by one by Newton's method.

    Args:
        gram: of the b rows.
        targets: float64 (b, H) in {0, 1}.
        present: float64 (b, H), 1 where the row belongs to the head's coalition.
        offset: float64 (H,), logit of the base rate of each column's class.
        l2: the penalty, at least ``SMALLEST_L2``.
        start: float64 (b, H), dual coefficients to begin with.

    Returns:
        float64 (b, H), dual coefficients of the optimum.

    Raises:
        InputError: if a head has not converged, which a larger penalty mends.

    Source: Newton's method in dual coefficients: Rasmussen & Williams (2006), algorithm 3.1.
    """
    dual = start
    logits = gram @ dual + offset
    shrink = direction = image = None
    old, old_product = dual, dual[0]  # of the iteration before, once there is one
    for _ in range(_MAX_ITERATIONS):
        chance = torch.sigmoid(logits)
        residual = (targets - chance).mul_(present).sub_(dual, alpha=l2)  # minus the gradient, in dual coefficients
        steepest = gram @ residual
        if float((residual * steepest).sum(dim=0).amax()) <= (_TOLERANCE * l2) ** 2:
            return dual
        curvature = (chance - chance.square()).mul_(present)  # (b, H), second derivatives of the log-loss
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
    far = (residual * (gram @ residual)).sum(dim=0) > (_TOLERANCE * l2) ** 2
    for head in torch.nonzero(far).flatten().tolist():
        here = torch.nonzero(present[:, head]).flatten()
        dual[:, head] = 0
        dual[here, head] = _newton(gram.among(here), targets[here, head], offset[head], l2)
    return dual


def _newton(gram: Tensor, targets: Tensor, offset: Tensor, l2: float) -> Tensor:
    """Dual coefficients (b,) of one head on rows with the Gram matrix ``gram`` (b, b), by Newton steps from 0."""

    def objective(dual: Tensor) -> Tensor:
        penalty = l2 / 2 * dual @ gram @ dual
        return (
            torch.nn.functional.binary_cross_entropy_with_logits(gram @ dual + offset, targets, reduction="sum")
            + penalty
        )

    dual = torch.zeros_like(targets)
    value = objective(dual)
    for _ in range(_MAX_NEWTON_STEPS):
        logits = gram @ dual
        chance = torch.sigmoid(logits + offset)
        residual = targets - chance - l2 * dual
        if float(residual @ gram @ residual) <= (_TOLERANCE * l2) ** 2:
            return dual
        root = (chance * (1 - chance)).sqrt()
        system = torch.eye(len(gram), dtype=torch.float64) + root[:, None] * gram * root / l2
        right = root.square() * logits + targets - chance
        whitened = torch.linalg.solve(system, root * (gram @ right) / l2)
        step = (right - root * whitened) / l2 - dual
        length = 1.0
        while length > 1e-10 and not objective(dual + length * step) <= value + 1e-13 * (1 + value):  # up to rounding
            length /= 2
        dual = dual + length * step
        value = objective(dual)
    raise InputError(
        "l2",
        got=f"{l2}, with which a head did not converge",
        expected="a penalty that bounds the weights",
        remedy="Raise l2; 1.0 is the default.",
    )


def descend_heads(
    rows: Tensor,
    targets: Tensor,
    present: Tensor,
    *,
    offset: Tensor,
    l2: float,
    lr: float,
    batches: list[list[Tensor]],
) -> Tensor:
    """Train every column by gradient descent on ``mean_present log-loss + l2 / (2 |S|) |w|^2`` from weights 0.

    Args:
        rows: float64 (n, d + 1).
        targets: float64 (n, H) in {0, 1}.
        present: float64 (n, H), 1 where the row belongs to the head's coalition.
        offset: float64 (H,), logit of the base rate of each column's class.
        l2: the penalty.
        lr: the step size.
        batches: for each epoch its batches of row numbers; a head sees the rows of a batch that it has, and skips a
            batch of which it has none.

    Returns:
        float64 (d + 1, H), weights.
    """
    weights = torch.zeros(rows.shape[1], targets.shape[1], dtype=torch.float64)
    penalty = l2 / present.sum(dim=0).clamp(min=1)
    for batch in (batch for epoch in batches for batch in epoch):
        here, size = present[batch], present[batch].sum(dim=0)
        residual = (torch.sigmoid(rows[batch] @ weights + offset) - targets[batch]).mul_(here)
        gradient = rows[batch].T @ residual / size.clamp(min=1) + penalty * weights
        weights -= lr * torch.where(size > 0, gradient, 0.0)
    return weights
