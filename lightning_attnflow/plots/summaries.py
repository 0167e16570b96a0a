"""The numbers the monitor logs of a layer, each as a pure function of flow values (layers, players).

Values are first divided by their sum over the players of the layer, so that every layer is a distribution.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_attnflow.errors import InputError

Floats = NDArray[np.float64]


def shares(values: ArrayLike) -> Floats:
    """Return `values` (layers, n) divided by their sum over the players.

    Raises:
        InputError: not two axes, a negative or non-finite value, or a layer without any flow.

    Example:
        >>> shares([[1.0, 3.0]]).tolist()
        [[0.25, 0.75]]
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or 0 in array.shape or not np.isfinite(array).all() or array.min() < 0:
        raise InputError(
            "flow values",
            got=f"shape {array.shape}" if array.ndim != 2 or 0 in array.shape else "negative or non-finite values",
            expected="finite values >= 0 of shape (layers, players)",
            remedy="Pass AttentionFlow.values.",
        )
    total = array.sum(axis=1, keepdims=True)
    if not total.all():
        raise InputError(
            "flow values",
            got=f"no flow at all in layer {int(np.flatnonzero(total == 0)[0])}",
            expected="a positive sum in every layer",
            remedy="Look at the readout: it must read a real token.",
        )
    return np.asarray(array / total)


def normalised_entropy(values: ArrayLike) -> Floats:
    """Return the entropy of every layer divided by log n: 1 is uniform, 0 is all on one player (also if n is 1).

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
    """Return the share of every layer's flow that lies on special tokens, given as a mask (n,).

    Example:
        >>> special_share([[0.5, 0.25, 0.25]], [True, False, False]).tolist()
        [0.5]
    """
    share, mask = shares(values), np.asarray(special, dtype=bool)
    _check_shape("special", mask.shape, share.shape[1:])
    return np.asarray(share[:, mask].sum(axis=1))


def drift(values: ArrayLike, previous: ArrayLike) -> Floats:
    """Return the total variation distance, in [0, 1], between two flows of the same sentence, layer by layer.

    Example:
        >>> drift([[0.5, 0.5]], [[1.0, 0.0]]).tolist()
        [0.5]
    """
    now, before = shares(values), shares(previous)
    _check_shape("previous", before.shape, now.shape)
    return np.asarray(np.abs(now - before).sum(axis=1) / 2.0)


def rank_agreement(values: ArrayLike, reference: ArrayLike) -> Floats:
    """Return Spearman's rank correlation of every layer with `reference`; NaN where all players of one are equal.

    Example:
        >>> rank_agreement([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]], [[0.2, 0.3, 0.5]] * 2).round(4).tolist()
        [1.0, -1.0]
    """
    import torch  # here and not above: everything else in this module is NumPy
    from torchmetrics.functional import spearman_corrcoef

    left, right = shares(values), shares(reference)
    _check_shape("reference", right.shape, left.shape)
    result = np.full(len(left), np.nan)
    defined = (np.ptp(left, axis=1) > 0) & (np.ptp(right, axis=1) > 0)
    for layer in np.flatnonzero(defined):
        result[layer] = float(spearman_corrcoef(torch.from_numpy(left[layer]), torch.from_numpy(right[layer])))
    return result


def _check_shape(name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if got != expected:
        raise InputError(
            name, got=f"shape {got}", expected=f"shape {expected}", remedy="Compare flows of the same sentence only."
        )
