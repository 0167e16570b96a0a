"""A linear fit to the differences of complementary coalitions, its ridge chosen by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
_RIDGES = np.concatenate([[0.0], np.logspace(-4, 3, 15), [np.inf]])  # relative to the mean squared singular value


@dataclass(frozen=True)
class LinearFit:
    """Coefficients (n,) that add up to the total, and the effective number of parameters they took."""

    coefficients: FloatArray
    degrees: float


def fit_additive(coalitions: NDArray[np.bool_], halves: FloatArray, weights: FloatArray, total: float) -> LinearFit:
    """Additive payoffs ``b(S)`` with ``b(N) = total`` that fit ``halves[r] ~ (b(S_r) - b(N - S_r)) / 2``.

    The ridge draws towards equal shares; generalised cross-validation chooses it, from none (a game that is nearly
    additive) to infinite (one where additive payoffs explain nothing).

    Args:
        coalitions: bool (pairs, n).
        halves: float (pairs,), half the difference of the payoffs of a coalition and its complement.
        weights: float (pairs,).
        total: what the coefficients add up to.

    Source: Golub, Heath & Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter.

    Example:
        >>> coalitions = np.array([[True, False, False], [False, True, False], [False, False, True]])
        >>> fit = fit_additive(coalitions, np.array([-2.0, -1.0, 0.0]), np.ones(3), total=6.0)
        >>> fit.coefficients.round(4).tolist()
        [1.0, 2.0, 3.0]
    """
    pairs, n = coalitions.shape
    design = coalitions - 0.5
    target = halves - design.sum(axis=1) * (total / n)
    design = design - design.mean(axis=1, keepdims=True)  # so that the deviations from equal shares add up to 0
    root = np.sqrt(weights / weights.mean())
    left, singular, right = np.linalg.svd(design * root[:, None], full_matrices=False)
    kept = singular > 1e-9 * singular.max(initial=0.0)
    left, singular, right = left[:, kept], singular[kept], right[kept]
    target = target * root
    projected = left.T @ target
    outside = max(float(target @ target - projected @ projected), 0.0)
    scale = np.mean(singular**2) if len(singular) else 1.0
    best = (np.inf, np.zeros(len(singular)))
    for ridge in _RIDGES:
        kept_share = singular**2 / (singular**2 + ridge * scale)
        freedom = 1 - kept_share.sum() / pairs
        if freedom > 1e-9:
            error = (outside + float((((1 - kept_share) * projected) ** 2).sum())) / freedom**2
            if error < best[0]:
                best = (error, kept_share)
    deviations = right.T @ (best[1] * projected / singular)
    return LinearFit(total / n + deviations, float(best[1].sum()))
