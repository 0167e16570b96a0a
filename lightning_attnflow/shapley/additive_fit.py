"""Ridge regression of an additive game on the differences of complementary coalitions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.shapley.coalition_sampling import MANY_PLAYERS
from lightning_attnflow.shapley.iterative_fit import fit_iteratively

FloatArray = NDArray[np.float64]
_RIDGES = np.concatenate([[0.0], np.logspace(-4, 3, 15), [np.inf]])  # relative to the mean squared singular value


@dataclass(frozen=True)
class LinearFit:
    """Coefficients (n,) that add up to the total, and the effective number of parameters."""

    coefficients: FloatArray
    degrees: float


def fit_additive(coalitions: NDArray[np.bool_], halves: FloatArray, weights: FloatArray, total: float) -> LinearFit:
    """Fit an additive game ``b`` with ``b(N) = total`` to ``halves[r] ~ (b(S_r) - b(N - S_r)) / 2``.

    The ridge penalty shrinks towards equal shares. It is chosen by generalised cross-validation from 0 to infinity. The
    fit of 257 players and more is iterative (``shapley.iterative_fit``).

    Args:
        coalitions: bool (pairs, n).
        halves: float (pairs,), half the difference of the payoffs of a coalition and its complement.
        weights: float (pairs,).
        total: sum of the coefficients.

    Source: Golub, Heath & Wahba (1979), Generalized cross-validation as a method for choosing a good ridge parameter.

    Example:
        >>> coalitions = np.array([[True, False, False], [False, True, False], [False, False, True]])
        >>> fit = fit_additive(coalitions, np.array([-2.0, -1.0, 0.0]), np.ones(3), total=6.0)
        >>> fit.coefficients.round(4).tolist()
        [1.0, 2.0, 3.0]
    """
    pairs, n = coalitions.shape
    if n >= MANY_PLAYERS:
        return LinearFit(*fit_iteratively(coalitions, halves, weights, total, _RIDGES))
    design = coalitions - 0.5
    target = halves - design.sum(axis=1) * (total / n)
    design = design - design.mean(axis=1, keepdims=True)  # deviations from equal shares add up to 0
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
