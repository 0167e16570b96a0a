"""Ridge regression of an additive game on many players by Lanczos iterations, without a decomposition of the design.

One Krylov basis solves the normal equations for all ridge penalties. A second one, of a random vector, estimates the
trace of the smoother for generalised cross-validation. Source: Golub & von Matt (1997), Generalized cross-validation
for large-scale problems; Bai, Fahey & Golub (1996), Some large-scale matrix computation problems.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley.game import Coalitions

FloatArray = NDArray[np.float64]
_ROWS = 64  # of a block, which fits the cache as float32
_STEPS_PER_ROUND = 8  # between two choices of the ridge penalty
_MAX_ROUNDS = 10
_MIN_FREEDOM = 1e-3  # residual degrees of freedom per pair
_ZERO = 1e-6  # of a squared singular value, relative to the largest one
_TOLERANCE = 1e-5  # residual of the normal equations, relative to the right-hand side


def fit_iteratively(
    coalitions: Coalitions, halves: FloatArray, weights: FloatArray, total: float, ridges: FloatArray
) -> tuple[FloatArray, float]:
    """Coefficients (n,) and effective number of parameters of `fit_additive`, up to the tolerance of the iterations."""
    pairs, n = coalitions.shape
    shares = coalitions.sum(axis=1) / n  # (pairs,) the mean of a row, which is subtracted
    weights = weights / weights.mean()
    target = halves - (shares * n - n / 2) * (total / n)
    projected = _transposed_product(coalitions, shares, weights * target)
    if not projected.any():
        return np.full(n, total / n), 0.0
    signs = np.random.default_rng(0).integers(0, 2, n) * 2.0 - 1.0
    solution, trace = _Krylov.start(projected), _Krylov.start(signs - signs.mean())
    mean_square = float(n * (shares - shares**2) @ weights) / min(pairs, n - 1)  # of the singular values
    ridges = ridges * mean_square
    squares = float(weights @ target**2)
    for _ in range(_MAX_ROUNDS):
        for _ in range(_STEPS_PER_ROUND):
            images = _normal_product(coalitions, shares, weights, np.stack([solution.last, trace.last]))
            solution.extend(images[0])
            trace.extend(images[1])
        deviations, degrees, residual = _cross_validated(solution, trace, squares, ridges, pairs)
        if residual < _TOLERANCE:
            break
    return total / n + deviations, degrees


@dataclass
class _Krylov:
    """Orthonormal vectors in which the normal matrix is tridiagonal.

    Args:
        norm: of the vector from which the iterations start.
        basis: (steps + 1, n), filled one vector after the other.
        diagonal: of the tridiagonal matrix.
        below: its subdiagonal, and the norm of the next vector.
    """

    norm: float
    basis: FloatArray
    diagonal: list[float] = field(default_factory=list)
    below: list[float] = field(default_factory=list)

    @classmethod
    def start(cls, vector: FloatArray) -> _Krylov:
        norm = float(np.linalg.norm(vector))
        basis = np.empty((_MAX_ROUNDS * _STEPS_PER_ROUND + 1, len(vector)))
        basis[0] = vector / norm
        return cls(norm, basis)

    @property
    def last(self) -> FloatArray:
        """The last vector."""
        vector: FloatArray = self.basis[len(self.diagonal)]
        return vector

    def extend(self, image: FloatArray) -> None:
        """Add the image of the last vector under the normal matrix."""
        self.diagonal.append(float(image @ self.last))
        basis = self.basis[: len(self.diagonal)]
        image = image - (basis @ image) @ basis
        image = image - (basis @ image) @ basis  # once leaves rounding errors
        self.below.append(float(np.linalg.norm(image)))
        self.basis[len(self.diagonal)] = image / max(self.below[-1], 1e-300)

    def eigensystem(self) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues (k,) of the tridiagonal matrix, not negative, and eigenvectors (k, k)."""
        inner = self.below[:-1]
        values, vectors = np.linalg.eigh(np.diag(self.diagonal) + np.diag(inner, 1) + np.diag(inner, -1))
        return np.maximum(values, 0.0), vectors


def _cross_validated(
    solution: _Krylov, trace: _Krylov, squares: float, ridges: FloatArray, pairs: int
) -> tuple[FloatArray, float, float]:
    """Deviations (n,) for the best ridge penalty, its effective number of parameters, and the relative residual."""
    values, vectors = solution.eigensystem()
    trace_values, trace_vectors = trace.eigensystem()
    n = solution.basis.shape[1]
    best, coordinates, degrees = np.inf, np.zeros(len(values)), 0.0
    for ridge in ridges:
        inverse = np.divide(1.0, values + ridge, out=np.zeros_like(values), where=values > _ZERO * values.max())
        explained = solution.norm**2 * vectors[0] ** 2 @ (2 * inverse - values * inverse**2)
        kept = np.divide(trace_values, trace_values + ridge, out=np.ones_like(values), where=trace_values > 0)
        parameters = (n - 1) * float(trace_vectors[0] ** 2 @ kept)
        freedom = 1 - parameters / pairs
        if freedom > _MIN_FREEDOM:
            error = max(squares - float(explained), 0.0) / freedom**2
            if error < best:
                best, coordinates, degrees = error, solution.norm * (vectors @ (inverse * vectors[0])), parameters
    residual = solution.below[-1] * abs(float(coordinates[-1])) / solution.norm
    return coordinates @ solution.basis[: len(coordinates)], degrees, residual


def _normal_product(coalitions: Coalitions, shares: FloatArray, weights: FloatArray, vectors: FloatArray) -> FloatArray:
    """Products (k, n) of vectors (k, n) with the normal matrix, in float32."""
    narrow = vectors.astype(np.float32).T.copy()
    means = vectors.sum(axis=1)
    found = np.zeros((len(vectors), coalitions.shape[1]))
    block = np.empty((_ROWS, coalitions.shape[1]), dtype=np.float32)
    for start in range(0, len(coalitions), _ROWS):
        rows = slice(start, start + _ROWS)
        members = block[: len(coalitions[rows])]
        members[:] = coalitions[rows]
        images = (members @ narrow - np.outer(shares[rows], means)) * weights[rows, None]  # (rows, k)
        found += images.T.astype(np.float32) @ members
        found -= (shares[rows] @ images)[:, None]
    return found


def _transposed_product(coalitions: Coalitions, shares: FloatArray, values: FloatArray) -> FloatArray:
    """Sum (n,) of the centred rows times values (pairs,)."""
    found = np.full(coalitions.shape[1], -float(shares @ values))
    for start in range(0, len(coalitions), _ROWS):
        rows = slice(start, start + _ROWS)
        found += values[rows] @ coalitions[rows].astype(np.float64)
    return found
