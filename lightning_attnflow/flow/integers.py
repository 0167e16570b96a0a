"""Integer capacities, for exact maximum flows that do not depend on the order of summation."""

from __future__ import annotations

import math
import sys
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._words import counted
from lightning_attnflow.attention.network import AttentionNetwork
from lightning_attnflow.errors import InputError

Ints = NDArray[np.int64]

DEFAULT_BITS = 48
"""A total flow of 1 becomes 2^48 units, so that the rounding error of a flow through E edges is at most E / 2^49."""


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """An attention network in units of ``1 / scale``.

    Attributes:
        capacities: int64 (L, T, T), ``[layer, query, key]``.
        readout: int64 (T,).
        scale: units in a flow of 1.
        conserves: whether every row and the readout sum to exactly ``scale``, which is then the total flow.
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
    and readouts that are probability vectors keep their sum exactly: their largest entry absorbs the rounding errors.

    Args:
        network: the network.
        bits: size of the largest capacity and of the largest possible flow.

    Example:
        >>> import numpy as np
        >>> integers = quantise(AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]]), np.array([1.0, 0.0])), bits=4)
        >>> integers.capacities.tolist(), integers.scale
        ([[[11, 5], [6, 10]]], 16.0)
    """
    scale = scale_of(network, bits)
    capacities = np.empty(network.capacities.shape, dtype=np.int64)
    for layer, exact in zip(capacities, network.capacities, strict=True):  # one by one, to save memory
        layer[:] = np.rint(exact * scale)
    readout = np.rint(network.readout * scale).astype(np.int64)
    conserves = network.is_probability
    if conserves:
        _keep_sums(capacities.reshape(-1, network.n_positions), int(scale))
        _keep_sums(readout[None], int(scale))
    return IntegerNetwork(capacities, readout, scale, conserves)


def scale_of(network: AttentionNetwork, bits: int = DEFAULT_BITS) -> float:
    """Return the number of units in a flow of 1, see `quantise`."""
    largest = max(float(network.capacities.max()), float(network.readout.sum()))
    exponent = bits - math.ceil(math.log2(largest))
    if exponent >= sys.float_info.max_exp:
        raise InputError(
            "capacities",
            got=f"capacities and a readout of at most {largest:g}",
            expected=f"at least {2.0 ** (bits + 1 - sys.float_info.max_exp):.0e} for the largest",
            remedy="Multiply the capacities and the readout by one number; all flows scale with it.",
        )
    return 2.0**exponent


def rounding(network: AttentionNetwork, bits: int = DEFAULT_BITS) -> float:
    """Return a bound on the change of a maximum flow by integer capacities.

    Each edge of a cut changes by at most half a unit, the largest entry of a row that keeps its sum by the sum of all
    other changes, and rows that sum to 1 only within a tolerance by that difference.
    """
    units = (network.capacities.size + network.readout.size) / scale_of(network, bits)
    if not network.is_probability:
        return units
    sums = np.append(network.capacities.sum(axis=2), network.readout.sum())
    return units + float(np.abs(sums - 1.0).sum())


def check_rounding(network: AttentionNetwork, bits: int, name: str = "", *, stacklevel: int) -> None:
    """Check that rounding to integers leaves positive capacities.

    Args:
        network: the network.
        bits: as for `quantise`.
        name: name of the network in messages, empty if there is only one.
        stacklevel: of the warning; 2 for the caller of the calling function.

    Warns:
        UserWarning: all positive capacities into a position, or out of it, are rounded to 0.

    Raises:
        InputError: all positive capacities of a layer or of the readout are rounded to 0, or see `scale_of`.
    """
    half_unit = 0.5 / scale_of(network, bits)

    def vanish(largest: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (largest > 0) & (largest <= half_unit)

    into, out_of = network.capacities.max(axis=2), network.capacities.max(axis=1)  # (L, T)
    if vanish(into.max(axis=1)).any() or vanish(network.readout.max(keepdims=True)).any():
        raise InputError(
            "capacities",
            got=f"a layer or readout with all capacities below {half_unit:g}, which is rounded to 0",
            expected=f"larger capacities beside the largest of the network, {max(into.max(), network.readout.sum()):g}",
            remedy="Rescale the layers, for example each row to sum 1.",
        )
    cut_off = np.zeros((network.n_layers + 1, network.n_positions), dtype=bool)
    cut_off[1:] = vanish(into)
    cut_off[:-1] |= vanish(out_of)
    cut_off[-1] |= vanish(network.readout)
    if cut_off.any():
        warnings.warn(
            f"{name}{': ' if name else ''}the flow through {counted(int(cut_off.sum()), 'position')} is exactly 0: "
            f"positive capacities are below {half_unit:.1e}, half a unit of the integer capacities, rounded to 0",
            UserWarning,
            stacklevel=stacklevel + 1,
        )


def _keep_sums(rows: Ints, total: int) -> None:
    largest = rows.argmax(axis=1)
    rows[np.arange(len(rows)), largest] += total - rows.sum(axis=1)
