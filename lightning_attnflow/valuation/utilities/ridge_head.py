"""Ridge regressions of the training sets of coalitions, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import dsymv, dsyr
from torch import Tensor

from lightning_attnflow._checks import check_numbers
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.utilities.design import Problem
from lightning_attnflow.valuation.utilities.example_removal import FullModel, Missing, misses_few

_CHUNK = 256  # prefixes whose outputs are returned together


class RidgeHead:
    """Models that minimise ``sum_S weight (target - offset - w x)^2 + l2 |w|^2``."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem

    def outputs(self, coalitions: NDArray[np.bool_]) -> Iterator[Tensor]:
        """Validation outputs (m, H, 1) of the models of coalitions bool (M, n), in chunks."""
        few = misses_few(coalitions, self.problem.design.rows.shape[1])
        for start in range(0, len(coalitions), _CHUNK):
            chunk, is_left = coalitions[start : start + _CHUNK], ~few[start : start + _CHUNK]
            coefficients = torch.empty(self.problem.design.rows.shape[1], len(chunk), dtype=torch.float64)
            if len(index := np.flatnonzero(~is_left)):
                coefficients[:, index], has_converged = self._train_without(chunk[index])
                is_left[index] = ~has_converged
            for model in np.flatnonzero(is_left):
                coefficients[:, model] = self.train(torch.from_numpy(np.flatnonzero(chunk[model])))
            yield (self.problem.validation_rows @ coefficients + self.problem.offset)[:, :, None]

    def _train_without(self, coalitions: NDArray[np.bool_]) -> tuple[Tensor, NDArray[np.bool_]]:
        """Coefficients (d + 1, H) of the models of large coalitions bool (H, n), and which of them are accurate."""
        problem, missing = self.problem, Missing.of(coalitions)
        (model,), (hessian, product) = self.full_models, self._normal_equations
        rows = problem.design.rows[missing.index]  # (H, k, d + 1)
        weights = missing.is_used * problem.weights[missing.index]
        targets = problem.targets[missing.index, 0] - problem.offset

        def gradient(at: Tensor) -> Tensor:
            residual = weights * (targets - (rows @ at.T[:, :, None])[..., 0])
            return product[:, None] - hessian @ at - (rows.mT @ residual[..., None])[..., 0].T

        coefficients, has_converged = model.without(missing, gradient)
        return coefficients, has_converged.numpy()

    @cached_property
    def full_models(self) -> list[FullModel]:
        """The model of all examples."""
        problem, rows = self.problem, self.problem.design.rows
        hessian, product = self._normal_equations
        factor = torch.linalg.cholesky(hessian)
        coefficients = torch.cholesky_solve(product[:, None], factor)[:, 0]
        residuals = problem.weights * (problem.targets[:, 0] - problem.offset - rows @ coefficients)
        return [FullModel(rows, coefficients, residuals, problem.weights, factor, problem.l2)]

    @cached_property
    def _normal_equations(self) -> tuple[Tensor, Tensor]:
        """Hessian with the penalty (d + 1, d + 1), and the product of the rows and the weighted targets (d + 1,)."""
        problem, rows = self.problem, self.problem.design.rows
        weighted = rows * problem.weights[:, None]
        hessian = rows.T @ weighted
        hessian.diagonal().add_(problem.l2)
        return hessian, weighted.T @ (problem.targets[:, 0] - problem.offset)

    def train(self, members: Tensor) -> Tensor:
        """Coefficients (d + 1,) of the model of the examples ``members``."""
        problem = self.problem
        root = problem.weights[members].sqrt()
        rows = problem.design.rows[members] * root[:, None]
        targets = (problem.targets[members, 0] - problem.offset) * root
        if len(rows) > rows.shape[1]:
            hessian = rows.T @ rows
            hessian.diagonal().add_(problem.l2)
            coefficients: Tensor = torch.linalg.solve(hessian, rows.T @ targets)
            return coefficients
        gram = rows @ rows.T
        gram.diagonal().add_(problem.l2)
        dual: Tensor = torch.linalg.solve(gram, targets)
        return rows.T @ dual

    def prefix_outputs(self, permutation: Tensor, sizes: Sequence[int]) -> Iterator[Tensor]:
        """Validation outputs (m, k, 1) of the models of prefixes with ascending sizes > 0, in chunks.

        An example changes the inverse of the Hessian by a matrix of rank one, so that the updated models are exact.

        Source: Sherman & Morrison (1950).
        """
        problem = self.problem
        rows, validation = problem.design.rows[permutation].numpy(), problem.validation_rows.numpy()
        targets, weights = problem.targets[permutation, 0].numpy(), problem.weights[permutation].numpy()
        offset = float(problem.offset)
        inverse = np.asfortranarray(np.eye(rows.shape[1]) / problem.l2)  # its lower triangle is kept up to date
        coefficients, current = np.zeros(rows.shape[1]), np.full(len(validation), offset)
        wanted, found = set(sizes), []
        for position in range(sizes[-1]):
            row, weight = rows[position], weights[position]
            direction = dsymv(1.0, inverse, row, lower=1)
            gain = weight / (1 + weight * float(row @ direction))
            step = gain * (targets[position] - offset - float(row @ coefficients))
            coefficients += step * direction
            current += step * (validation @ direction)
            dsyr(-gain, direction, a=inverse, lower=1, overwrite_a=1)
            if position + 1 in wanted:
                found.append(current.copy())
            if len(found) == _CHUNK or position + 1 == sizes[-1]:
                yield torch.from_numpy(np.stack(found, axis=1))[:, :, None]
                found = []


def check_targets(name: str, values: Any, length: int) -> NDArray[np.float64]:
    """Return the targets of a regression, finite float64 (length,)."""
    array = check_numbers(name, values, "numbers, one for each row of the features")
    if array.shape != (length,):
        raise InputError(
            name, got=f"shape {array.shape}", expected=f"shape ({length},), one number for each row of the features"
        )
    invalid = np.flatnonzero(~np.isfinite(array))
    if len(invalid):
        raise InputError(
            name, got=f"{len(invalid)} NaN or infinite; first at index {invalid[0]}", expected="finite numbers"
        )
    return array


def predictions(outputs: Tensor) -> Tensor:
    """Predictions (H, m) of outputs (m, H, 1)."""
    return outputs[:, :, 0].T


def negative_mean_squared_error(outputs: Tensor, truth: Tensor) -> Tensor:
    """Score (H,) of outputs (m, H, 1) and targets (m,)."""
    return -(outputs[:, :, 0] - truth[:, None]).square().mean(dim=0)


def r2(outputs: Tensor, truth: Tensor) -> Tensor:
    """Share of the variance of the targets that is explained, (H,)."""
    return 1 + negative_mean_squared_error(outputs, truth) / truth.var(correction=0)


REGRESSION_SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mean_squared_error": negative_mean_squared_error,
    "r2": r2,
}
