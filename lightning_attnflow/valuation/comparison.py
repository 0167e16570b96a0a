"""How far several rankings of the same examples agree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow.errors import InputError


def rank_agreement(values: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """Spearman's rank correlation of every pair of methods; equal values share their mean rank.

    Args:
        values: by the name of the method, float (n,) each, n >= 2.

    Returns:
        float64 (methods, methods), in the order of the mapping; NaN for a method that gives all the same value.

    Raises:
        InputError: if the lengths differ or are below 2.

    Example:
        >>> rank_agreement({"shapley": [0.1, 0.2, 0.3], "knn": [3.0, 2.0, 1.0]}).round(4).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    columns = [np.asarray(column, dtype=np.float64) for column in values.values()]
    if not columns or any(column.ndim != 1 or len(column) < 2 or len(column) != len(columns[0]) for column in columns):
        raise InputError(
            "values",
            got=f"shapes {[column.shape for column in columns]}",
            expected="(n,) each, n >= 2",
            remedy="Pass values of the same examples.",
        )
    ranks = np.array([_mean_ranks(column) for column in columns])
    centred = ranks - ranks.mean(axis=1, keepdims=True)
    norms = np.sqrt((centred**2).sum(axis=1))
    norms[norms == 0] = np.nan
    agreement: NDArray[np.float64] = centred @ centred.T / np.outer(norms, norms)
    return agreement


def _mean_ranks(column: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    ranks: NDArray[np.float64] = mean_rank[place]
    return ranks
