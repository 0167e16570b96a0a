"""When the model stopped taking from a token: the reading of flow across layers (paper, section 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError


def last_layer_with_flow(values: NDArray[np.float64], *, tolerance: float) -> NDArray[np.intp]:
    """Return, for every token, the last layer in which it has flow; -1 if it has none anywhere.

    If a token has flow in layer k - 1 and none from layer k on, all that the model took from it was taken before
    layer k. Attention is never exactly 0, so "none" means at most a stated tolerance.

    Args:
        values: float (L + 1, T), the flow (or rollout) of all layers of positions, 0 the input.
        tolerance: share of the total flow (1 for a probability readout) up to which flow counts as none, >= 0.

    Returns:
        intp (T,), layers in 0..L, or -1.

    Raises:
        InputError: values that are not (layers, T), or a negative tolerance.

    Source: Ethayarajh & Jurafsky (2021), section 6.

    Example:
        >>> flow = np.array([[0.4, 0.4, 0.2], [0.7, 0.29, 0.01], [1.0, 0.0, 0.0]])
        >>> last_layer_with_flow(flow, tolerance=0.02).tolist()
        [2, 1, 0]
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise InputError(
            "values",
            got=f"shape {values.shape}",
            expected="finite, (L + 1, T)",
            remedy="Pass the values of all layers.",
        )
    if not tolerance >= 0:
        raise InputError("tolerance", got=tolerance, expected="a share >= 0", remedy="0.02 is a start.")
    has_flow = values > tolerance * values.sum(axis=1, keepdims=True)
    last = len(values) - 1 - has_flow[::-1].argmax(axis=0)
    return np.where(has_flow.any(axis=0), last, -1).astype(np.intp)
