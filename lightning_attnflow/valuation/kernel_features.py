"""Features of a Gaussian kernel, so that a linear model of them is a model that is not linear in the examples."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_attnflow.valuation.utilities.logistic_regression import BLOCK_ROWS

FloatArray = NDArray[np.float64]

_LANDMARKS = 500  # twice as many find little more and take three times as long
_GAMMA = 0.5  # exp(-gamma |x - y|^2); centred rows with a mean square norm of 1 are about sqrt(2) apart
_JITTER = 1e-6  # for examples that are equal


def kernel_features(rows: FloatArray, n_train: int, seed: int) -> FloatArray:
    """Features whose inner products approximate the Gaussian kernel (exact for at most 500 training rows).

    Args:
        rows: float64 (n, d), centred, with a mean square norm of 1.
        n_train: the first ``n_train`` rows are those among which landmarks are drawn.
        seed: of the landmarks.

    Returns:
        float64 (n, m), m at most 500.

    Source: Williams & Seeger (2001), the Nystrom method.

    Example:
        >>> rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> features = kernel_features(rows, 4, seed=0)
        >>> (features @ features.T)[0].round(4).tolist()
        [1.0, 0.1353, 0.3679, 0.3679]
    """
    chosen = np.random.default_rng(seed).permutation(n_train)[:_LANDMARKS]
    landmarks = torch.from_numpy(rows[np.sort(chosen)])
    kernel = _kernel(landmarks, landmarks) + _JITTER * torch.eye(len(landmarks), dtype=torch.float64)
    factor = torch.linalg.cholesky(kernel)
    features = torch.empty(len(rows), len(landmarks), dtype=torch.float64)
    for start in range(0, len(rows), BLOCK_ROWS):
        part = torch.from_numpy(rows[start : start + BLOCK_ROWS])
        features[start : start + BLOCK_ROWS] = torch.linalg.solve_triangular(
            factor, _kernel(landmarks, part), upper=False
        ).T
    return features.numpy()


def _kernel(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Gaussian kernel (a, b) of rows (a, d) and (b, d)."""
    squares = left.square().sum(dim=1)[:, None] + right.square().sum(dim=1)
    return squares.addmm_(left, right.T, alpha=-2).clamp_(min=0).mul_(-_GAMMA).exp_()
