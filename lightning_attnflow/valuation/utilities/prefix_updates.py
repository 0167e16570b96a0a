"""Logistic regressions of growing training sets: updated by one example at a time, retrained at growing intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import exp, inf

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsymv, dsyr
from scipy.linalg.lapack import dpotrf, dpotri
from torch import Tensor

from lightning_attnflow.valuation.utilities.logistic_regression import Rows, fit_logistic_regressions

FloatArray = NDArray[np.float64]

SMALLEST_SIZE = 256  # prefixes up to this size cost less when they are trained together
_GROWTH = 1.2  # retrain when the training set has grown by this factor
_LARGEST_GAP = 0.05  # of a logit between the updated and the retrained model; above it the interval is halved


def prefix_outputs(
    rows: Rows,
    targets: Tensor,
    weights: Tensor,
    validation_rows: Tensor,
    *,
    offset: Tensor,
    l2: float,
    sizes: Sequence[int],
    dual: Tensor,
) -> Iterator[Tensor]:
    """Outputs float64 (m, k, C) of the models of prefixes on validation rows, in chunks between two retrainings.

    The model of a prefix is the minimum of the log-loss of its examples and a quadratic penalty. An example is added by
    minimising the quadratic approximation of the old loss at the old optimum plus the log-loss of the example, which is
    a problem of one unknown; the inverse Hessian is updated by a matrix of rank one. At a retraining the difference
    between the updated and the retrained outputs is distributed over the prefixes since the last retraining,
    proportionally to the number of examples added since then.

    Args:
        rows: design matrix of the permuted examples.
        targets: float64 (n, C) in {0, 1}, permuted.
        weights: float64 (n,), permuted.
        validation_rows: float64 (m, d + 1).
        offset: float64 (C,).
        l2: penalty.
        sizes: ascending sizes of the prefixes, larger than the number of rows of ``dual``.
        dual: float64 (s, C), dual coefficients of the trained models of the first s examples.

    Source: one-step Newton updates: Pregibon (1981); the distribution of the difference is ours.
    """
    model = _Models(rows, targets, weights, validation_rows, offset, l2)
    start = len(dual)
    model.retrain(start, dual)
    step, last = max(1, int(start * (_GROWTH - 1))), sizes[-1]
    while start < last:
        end = min(last, start + step)
        before = model.state()
        wanted = [size for size in sizes if start < size <= end]
        outputs = model.extend(start, end, wanted)  # (m, k + 1, C); the last one is that of ``end``
        model.retrain(end)
        gap = model.outputs - outputs[:, -1]
        if float(gap.abs().max()) > _LARGEST_GAP and end - start > 1:
            model.restore(before)
            step = max(1, (end - start) // 2)
            continue
        share = torch.tensor([(size - start) / (end - start) for size in wanted], dtype=torch.float64)
        if wanted:
            yield outputs[:, :-1] + share[:, None] * gap[:, None]
        start, step = end, max(step, int(end * (_GROWTH - 1))) if step > 1 else 2


class _Models:
    """C logistic regressions with their inverse Hessians, and their outputs on the validation rows."""

    def __init__(
        self, rows: Rows, targets: Tensor, weights: Tensor, validation_rows: Tensor, offset: Tensor, l2: float
    ) -> None:
        self._rows, self._targets, self._weights = rows, targets, weights
        self._offset, self._l2, self._validation = offset, l2, validation_rows
        self._arrays = rows.all().numpy(), targets.numpy(), weights.numpy(), validation_rows.numpy(), offset.numpy()
        self._coefficients: FloatArray = np.zeros((len(offset), rows.all().shape[1]))
        self._inverses: list[FloatArray] = []
        self.outputs = torch.empty(0)

    def state(self) -> tuple[FloatArray, list[FloatArray], Tensor]:
        """What :meth:`restore` needs."""
        return self._coefficients.copy(), [inverse.copy(order="F") for inverse in self._inverses], self.outputs

    def restore(self, state: tuple[FloatArray, list[FloatArray], Tensor]) -> None:
        """Return to an earlier state."""
        self._coefficients, self._inverses, self.outputs = state

    def retrain(self, size: int, dual: Tensor | None = None) -> None:
        """Train on the first examples to the optimum; start from the present models unless their ``dual`` is given."""
        rows, targets, weights = self._rows.all()[:size], self._targets[:size], self._weights[:size]
        present = weights[:, None].expand_as(targets)
        if dual is None:
            outputs = rows @ torch.from_numpy(self._coefficients.T) + self._offset
            start = present * (targets - torch.sigmoid(outputs)) / self._l2
            dual = fit_logistic_regressions(
                self._rows.gram(size), targets, present, offset=self._offset, l2=self._l2, start=start
            )
        coefficients = self._rows.weights(dual)  # (d + 1, C)
        self._coefficients = np.ascontiguousarray(coefficients.T.numpy())
        self.outputs = self._validation @ coefficients + self._offset
        probability = torch.sigmoid(rows @ coefficients + self._offset)
        curvature = present * probability * (1 - probability)
        self._inverses = []
        for column in curvature.T:
            scaled = rows * column.sqrt()[:, None]
            hessian = scaled.T @ scaled
            hessian.diagonal().add_(self._l2)
            factor, _ = dpotrf(hessian.numpy(), lower=1)
            self._inverses.append(np.asfortranarray(dpotri(factor, lower=1)[0]))  # the lower triangle

    def extend(self, start: int, end: int, wanted: Sequence[int]) -> Tensor:
        """Add the examples from ``start`` to ``end``; return the outputs at the wanted sizes, and at the end."""
        rows, targets, weights, validation, offset = self._arrays
        outputs = np.empty((len(self._validation), len(wanted) + 1, len(offset)))
        place = {size: index for index, size in enumerate(wanted)}
        for c, inverse in enumerate(self._inverses):
            coefficients, current = self._coefficients[c], self.outputs[:, c].numpy().copy()
            for position in range(start, end):
                row, target, weight = rows[position], targets[position, c], weights[position]
                direction = dsymv(1.0, inverse, row, lower=1)
                leverage, old = float(row @ direction), float(row @ coefficients) + offset[c]
                probability = _sigmoid(_logit_with(old, leverage * weight, target))
                slope = weight * probability * (1 - probability)
                residual = weight * (target - probability)
                coefficients += residual * direction
                current += residual * (validation @ direction)
                dsyr(-slope / (1 + leverage * slope), direction, a=inverse, lower=1, overwrite_a=1)
                if position + 1 in place:
                    outputs[:, place[position + 1], c] = current
            outputs[:, -1, c] = current
        return torch.from_numpy(outputs)


def _logit_with(old: float, leverage: float, target: float) -> float:
    """Solve ``new = old + leverage * (target - sigmoid(new))`` by Newton's method within a bracket."""
    low, high = sorted((old, old + leverage * (target - _sigmoid(old))))
    new, moved = old, inf
    for _ in range(200):  # bisection alone needs about 60
        probability = _sigmoid(new)
        error = new - old - leverage * (target - probability)
        low, high = (new, high) if error < 0 else (low, new)
        step = new - error / (1 + leverage * probability * (1 - probability))
        if not low <= step <= high or abs(step - new) > moved / 2:  # Newton's method may go back and forth
            step = (low + high) / 2
        new, moved = step, abs(step - new)
        if moved <= 1e-12 * (1 + abs(new)):
            break
    return new


def _sigmoid(logit: float) -> float:
    return 1 / (1 + exp(-logit)) if logit > -700 else 0.0
