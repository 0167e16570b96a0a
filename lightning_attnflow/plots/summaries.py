"""Summaries of flow values (layers, players) that the monitor logs.

Values are divided by their sum over the players first, so that every layer is a distribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._ranks import spearman
from lightning_attnflow.errors import InputError

Floats = NDArray[np.float64]


def shares(values: ArrayLike) -> Floats:
    """Return values (layers, n) divided by their sum over the players.

    Example:
        >>> shares([[1.0, 3.0]]).tolist()
        [[0.25, 0.75]]
    """
    array = np.asarray(values, dtype=np.float64)
    has_shape = array.ndim == 2 and 0 not in array.shape
    if not has_shape or not np.isfinite(array).all() or array.min() < 0:
        got = "negative or non-finite values" if has_shape else f"shape {array.shape}"
        raise InputError("flow values", got=got, expected="finite values >= 0 of shape (layers, players)")
    total = array.sum(axis=1, keepdims=True)
    if not total.all():
        raise InputError(
            "flow values",
            got=f"no flow in layer {int(np.flatnonzero(total == 0)[0])}",
            expected="a positive sum in every layer",
            remedy="Check that the readout is not a padding token.",
        )
    return np.asarray(array / total)


def normalised_entropy(values: ArrayLike) -> Floats:
    """Return the entropy of every layer divided by log n: 1 for uniform flow, 0 for one player with all flow.

    Example:
        >>> normalised_entropy([[0.5, 0.5], [1.0, 0.0]]).tolist()
        [1.0, 0.0]
    """
    share = shares(values)
    if share.shape[1] == 1:
        return np.zeros(len(share))
    logarithms = np.log(share, out=np.zeros_like(share), where=share > 0)
    return np.asarray(np.abs((share * logarithms).sum(axis=1)) / np.log(share.shape[1]))


def special_share(values: ArrayLike, special: ArrayLike) -> Floats:
    """Return the share of the flow of every layer on special tokens, given by a mask (n,).

    Example:
        >>> special_share([[0.5, 0.25, 0.25]], [True, False, False]).tolist()
        [0.5]
    """
    share, mask = shares(values), np.asarray(special, dtype=bool)
    _check_shape("special", mask.shape, share.shape[1:])
    return np.asarray(share[:, mask].sum(axis=1))


def drift(values: ArrayLike, previous: ArrayLike) -> Floats:
    """Return the total variation distance, in [0, 1], between two flows of the same sentence for every layer.

    Example:
        >>> drift([[0.5, 0.5]], [[1.0, 0.0]]).tolist()
        [0.5]
    """
    now, before = shares(values), shares(previous)
    _check_shape("previous", before.shape, now.shape)
    return np.asarray(np.abs(now - before).sum(axis=1) / 2.0)


def rank_correlation(values: ArrayLike, reference: ArrayLike) -> Floats:
    """Return Spearman's rank correlation with ``reference`` for every layer; NaN where one of them is constant.

    Example:
        >>> rank_correlation([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], [[0.2, 0.3, 0.5]] * 2).round(4).tolist()
        [1.0, -1.0]
    """
    left, right = shares(values), shares(reference)
    _check_shape("reference", right.shape, left.shape)
    return np.array([spearman(*rows) for rows in zip(left, right, strict=True)])


def _check_shape(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise InputError(name, got=f"shape {got}", expected=f"shape {expected}")
