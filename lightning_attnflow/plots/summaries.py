"""Summaries of flow values (layers, players) that the monitor logs.

Attention flow is divided by its sum over the players first, so that every layer is a distribution. Conductance flow is
signed; its summaries are relative to the total variation of a layer, the sum of the absolute values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow._ranks import spearman
from lightning_attnflow.errors import InputError

Floats = NDArray[np.float64]

_READOUT_SHARE = 0.95  # of the top layer, held by the position that a head reads


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


def attention_entropy(capacities: ArrayLike) -> Floats:
    """Return the mean entropy of the attention to other positions for every layer, divided by its largest value.

    1 if every position attends to all others that it sees equally. The diagonal, which holds the residual stream, is
    left out; positions that see fewer than two others are too. NaN for a layer without any other.

    Args:
        capacities: float (L, T, T), attention ``[layer, query, key]`` >= 0, with or without the residual stream.

    Example:
        >>> attention_entropy([[[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.1, 0.1, 0.8]]]).tolist()
        [1.0]
    """
    return np.array([_entropy(layer) for layer in np.asarray(capacities, dtype=np.float64)])


def _entropy(layer: Floats) -> float:
    """Return the mean entropy of the attention (T, T) of one layer to other positions; see `attention_entropy`."""
    weights = layer.copy()
    np.fill_diagonal(weights, 0.0)
    whole, seen = weights.sum(axis=1), (weights > 0).sum(axis=1)
    share = np.divide(weights, whole[:, None], out=np.zeros_like(weights), where=whole[:, None] > 0)
    logarithms = np.log(share, out=np.zeros_like(share), where=share > 0)
    valid = seen >= 2
    entropy = np.divide(np.abs((share * logarithms).sum(axis=1)), np.log(np.maximum(seen, 2)))
    return float((entropy * valid).sum() / valid.sum()) if valid.any() else float("nan")


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


def signed_drift(values: ArrayLike, previous: ArrayLike) -> Floats:
    """Return the distance of two signed flows of the same sentence for every layer, in [0, 1].

    It is ``sum |values - previous|`` over ``sum |values| + sum |previous|``: 0 for equal flows, 1 if every player
    changed its sign or one of the flows is zero.

    Example:
        >>> signed_drift([[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [-1.0, 0.0]]).tolist()
        [0.0, 1.0]
    """
    now, before = np.asarray(values, dtype=np.float64), np.asarray(previous, dtype=np.float64)
    _check_shape("previous", before.shape, now.shape)
    distance, size = np.abs(now - before).sum(axis=1), np.abs(now).sum(axis=1) + np.abs(before).sum(axis=1)
    return np.asarray(np.divide(distance, size, out=np.zeros_like(size), where=size > 0))


def n_players_for_share(values: ArrayLike, share: float = 0.8) -> int:
    """Return the smallest number of players that hold a share of the total variation of values (n,).

    Example:
        >>> n_players_for_share([0.5, -0.4, 0.1]), n_players_for_share([0.0, 0.0])
        (2, 0)
    """
    sizes = np.sort(np.abs(np.asarray(values, dtype=np.float64)))[::-1]
    if not sizes.any():
        return 0
    return int(np.searchsorted(sizes.cumsum(), share * sizes.sum() * (1 - 1e-12)) + 1)


def handover_layer(values: ArrayLike, special: ArrayLike) -> float:
    """Return the layer at which words have handed over half of a conductance flow to the readout.

    It is the first layer, interpolated linearly, at which the readout and the special tokens hold half of the total
    variation. NaN if no single position is the readout, as with mean pooling.

    Args:
        values: float (L + 1, n), conductance flow.
        special: bool (n,), special tokens.

    Example:
        >>> handover_layer([[0.0, 1.0], [0.25, 0.75], [0.75, 0.25], [1.0, 0.0]], [True, False])
        1.5
    """
    sizes = np.abs(np.asarray(values, dtype=np.float64))
    holders = np.array(special, dtype=bool)
    _check_shape("special", holders.shape, sizes.shape[1:])
    readout = int(sizes[-1].argmax())
    if sizes[-1, readout] < _READOUT_SHARE * sizes[-1].sum() or not sizes.any(axis=1).all():
        return float("nan")
    holders[readout] = True
    held = sizes[:, holders].sum(axis=1) / sizes.sum(axis=1)
    layer = int(np.flatnonzero(held >= 0.5)[0])
    if layer == 0:
        return 0.0
    return float(layer - (held[layer] - 0.5) / (held[layer] - held[layer - 1]))


def _check_shape(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise InputError(name, got=f"shape {got}", expected=f"shape {expected}")
