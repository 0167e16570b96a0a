"""Integer capacities: maximum flows in exact arithmetic, independent of the order of summation."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.errors import InputError

Ints = NDArray[np.int64]

DEFAULT_BITS = 48
"""A total flow of 1 becomes 2^48 units, so that a flow through E edges is off by at most E / 2^49."""


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """An attention network in units of ``1 / scale``.

    Attributes:
        capacities: int64 (L, T, T), ``[layer, query, key]``.
        readout: int64 (T,).
        scale: units in a flow of 1.
        conserves: whether every row and the readout sum to exactly ``scale``, so that the total flow is exactly that.
    """

    capacities: Ints
    readout: Ints
    scale: float
    conserves: bool

    @property
    def n_layers(self) -> int:
        """L."""
        return int(self.capacities.shape[0])

    @property
    def n_positions(self) -> int:
        """T."""
        return int(self.capacities.shape[1])


def quantise(network: AttentionNetwork, bits: int = DEFAULT_BITS) -> IntegerNetwork:
    """Round a network to integer capacities.

    The scale is the power of two that brings the largest capacity and the sum of the readout to at most 2^bits. Rows
    and readouts that are probability vectors keep their sum exactly (their largest entry takes the rounding).

    Args:
        network: the network.
        bits: size of the largest capacity and of the largest possible flow.

    Returns:
        The integer network.

    Warns:
        UserWarning: if all positive capacities of a position were rounded to 0.

    Raises:
        InputError: if every capacity of a layer, or of the readout, is too small to be seen beside the largest.

    Example:
        >>> import numpy as np
        >>> integers = quantise(AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]]), np.array([1.0, 0.0])), bits=4)
        >>> integers.capacities.tolist(), integers.scale
        ([[[11, 5], [6, 10]]], 16.0)
    """
    largest = max(float(network.capacities.max()), float(network.readout.sum()))
    scale = float(2.0 ** (bits - np.ceil(np.log2(largest))))
    capacities = np.empty(network.capacities.shape, dtype=np.int64)
    for layer, exact in zip(capacities, network.capacities, strict=True):  # one by one, to take no more memory
        layer[:] = np.rint(exact * scale)
    readout = np.rint(network.readout * scale).astype(np.int64)
    if not readout.any() or not capacities.any(axis=(1, 2)).all():
        raise InputError(
            "capacities",
            got=f"a layer or readout whose capacities all vanish beside the largest, {largest:g}",
            expected=f"capacities of at least {0.5 / scale:g}",
            remedy="Rescale the layers to a common size, for example each row to sum 1.",
        )
    silenced = int(((network.capacities > 0).any(axis=1) & (capacities == 0).all(axis=1)).sum())
    silenced += int(((network.readout > 0) & (readout == 0)).sum())
    if silenced:
        warnings.warn(
            f"{silenced} positions have no capacity left: theirs are positive, but all below {0.5 / scale:.1e}, half a "
            "unit of the integer capacities, so that their flow is exactly 0",
            UserWarning,
            stacklevel=2,
        )
    conserves = network.is_probability
    if conserves:
        _keep_sums(capacities.reshape(-1, network.n_positions), int(scale))
        _keep_sums(readout[None], int(scale))
    return IntegerNetwork(capacities, readout, scale, conserves)


def _keep_sums(rows: Ints, total: int) -> None:
    largest = rows.argmax(axis=1)
    rows[np.arange(len(rows)), largest] += total - rows.sum(axis=1)
