"""Linear models trained without a few examples, from the model of all examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_TOLERANCE = 1e-6  # accepted bound on the distance of the weights from the optimum, as for retrained models
_TARGET = 1e-7  # bound before the last step, which reduces the distance by a factor of 50 or more
_MAX_STEPS = 30  # two to four are needed with the default penalty
_LARGEST_SHARE = 20  # a twentieth of the examples may be missing; the steps converge more slowly the more there are


@dataclass(frozen=True)
class FullModel:
    """Optimum of ``sum of losses + l2/2 |w|^2`` of all n examples, one output.

    Args:
        rows: float64 (n, d + 1).
        coefficients: float64 (d + 1,).
        residuals: float64 (n,), minus the derivatives of the weighted losses by the output.
        curvature: float64 (n,), the second derivatives.
        factor: float64 (d + 1, d + 1), lower Cholesky factor of the Hessian.
        l2: penalty.
    """

    rows: Tensor
    coefficients: Tensor
    residuals: Tensor
    curvature: Tensor
    factor: Tensor
    l2: float

    def without(self, missing: Missing, gradient: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Weights (d + 1, H) of models without some examples, and whether each has converged, bool (H,).

        The Hessian of the full model less the terms of the missing examples, a matrix of low rank, is the metric of the
        steps. The first step is the closed form, exact for a quadratic loss; for a logistic regression, later steps
        remove its error. ``|gradient| / l2`` bounds the distance from the optimum.

        Args:
            missing: the missing examples of each model.
            gradient: negative gradients (d + 1, H) of the H objectives at weights (d + 1, H).

        Source: Pregibon (1981); Sherman & Morrison (1950), Woodbury (1950).
        """
        rows = self.rows[missing.index]  # (H, k, d + 1)
        scaled = rows * (missing.is_used * self.curvature[missing.index]).sqrt()[..., None]
        image = torch.cholesky_solve(scaled.flatten(0, 1).T, self.factor).T.view_as(scaled)
        core = torch.eye(scaled.shape[1], dtype=scaled.dtype) - scaled @ image.mT  # (H, k, k)
        own = self.rows.T @ self.residuals - self.l2 * self.coefficients  # 0 up to the tolerance of the full model
        removed = (rows * (missing.is_used * self.residuals[missing.index])[..., None]).sum(dim=1)
        steepest = own[:, None] - removed.T
        weights = self.coefficients[:, None].expand_as(steepest)
        last = torch.full((len(core),), torch.inf, dtype=weights.dtype)
        distance, is_improving = last, torch.ones(len(core), dtype=torch.bool)
        for _ in range(_MAX_STEPS):
            step = torch.cholesky_solve(steepest, self.factor)
            inner = torch.linalg.solve_ex(core, scaled @ step.T[:, :, None])[0]
            weights = torch.where(is_improving, weights + step + (image.mT @ inner)[..., 0].T, weights)
            if not bool((is_improving & ~(distance <= _TARGET)).any()):
                break
            steepest = gradient(weights)
            last, distance = distance, torch.linalg.vector_norm(steepest, dim=0) / self.l2
            is_improving = distance < last / 2  # not at the precision of the numbers, or where the steps diverge
        return weights, distance <= _TOLERANCE

    def influence(self, slope: Tensor) -> Tensor:
        """Derivatives (n,) of a function of the weights by the relative weight of each example.

        Args:
            slope: float64 (d + 1,), derivatives of the function by the weights.
        """
        direction = torch.cholesky_solve(slope[:, None], self.factor)[:, 0]
        return self.rows @ direction * self.residuals


@dataclass(frozen=True)
class Missing:
    """Missing examples of H models, padded to the same number k.

    Args:
        index: int64 (H, k).
        is_used: float64 (H, k), 0 for padding.
    """

    index: Tensor
    is_used: Tensor

    @classmethod
    def of(cls, coalitions: NDArray[np.bool_]) -> Missing:
        """The players that are not in coalitions bool (H, n)."""
        model, player = np.nonzero(~coalitions)
        counts = np.bincount(model, minlength=len(coalitions))
        place = np.arange(len(model)) - np.repeat(np.cumsum(counts) - counts, counts)
        index = np.zeros((len(coalitions), max(1, int(counts.max(initial=0)))), dtype=np.int64)
        index[model, place] = player
        is_used = np.arange(index.shape[1]) < counts[:, None]
        return cls(torch.from_numpy(index), torch.from_numpy(is_used.astype(np.float64)))


def misses_few(coalitions: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Whether models of ``width`` weights are trained faster by removing the missing examples, bool (H,)."""
    n = coalitions.shape[1]
    missing: NDArray[np.intp] = n - coalitions.sum(axis=1)
    few: NDArray[np.bool_] = (missing <= min(max(1, n // _LARGEST_SHARE), width)) & (missing < n)
    return few
