"""Merging the heads of one attention layer: mean, maximum, minimum or one head, without padding."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_choice, check_integer
from lightning_attnflow._words import counted
from lightning_attnflow.errors import InputError

Floats = NDArray[np.float64]
Heads = Literal["mean", "max", "min"] | int

ROW_SUM_TOLERANCE = 1e-2
"""Tolerance of the row sums of captured attention: with 8 bits of bfloat16, sums over 512 entries are off by 4e-3."""

_QUERIES = 64  # whose heads are merged together, to save memory


def to_numpy(attention: Any) -> NDArray[Any]:
    """Return a tensor or a sequence as an array of at least float32."""
    if hasattr(attention, "detach"):
        attention = attention.detach().cpu()
        attention = attention.float() if attention.element_size() < 4 else attention
    try:
        return np.asarray(attention)
    except ValueError:  # rows of different lengths, which every caller refuses
        return np.empty(0, dtype=object)


def kept_positions(mask: Any, length: int) -> NDArray[np.intp]:
    """Return the positions of real tokens."""
    if mask is None:
        return np.arange(length)
    real = to_numpy(mask).astype(bool)
    if real.shape != (length,) or not real.any():
        raise InputError(
            "mask",
            got=f"shape {real.shape} with {counted(int(real.sum()), 'real token')}",
            expected=f"shape ({length},) with at least one real token",
            remedy="Pass the row of attention_mask that belongs to this sentence.",
        )
    return np.flatnonzero(real)


def merge_heads(layer: NDArray[Any], index: int, length: int, kept: NDArray[np.intp], heads: Heads) -> Floats:
    """Return the attention (n, n) between the kept positions, merged over the heads of one sentence.

    Args:
        layer: (heads, T, T), rows summing to 1.
        index: of the layer, for messages.
        length: T.
        kept: the n positions that are no padding.
        heads: as for `AttentionNetwork.from_attentions`.
    """
    if layer.ndim != 3 or layer.shape[1:] != (length, length) or 0 in layer.shape:
        raise InputError(
            f"attentions[{index}]",
            got=f"shape {layer.shape}",
            expected=f"(heads, T, T){f' with T = {length}' if length else ''}",
            remedy="Pass the attention of one sentence, attention[i] of a batch, for every layer.",
        )
    check_choice("heads", heads, ("mean", "max", "min"), or_index="the index of a head")
    if not isinstance(heads, str):
        check_integer("heads", heads, minimum=0, maximum=len(layer) - 1)
    merged = np.empty((len(kept), len(kept)))
    for start in range(0, len(kept), _QUERIES):
        queries = kept[start : start + _QUERIES]
        probabilities = layer[:, queries[:, None], kept].astype(np.float64)  # (heads, queries, n)
        _check_rows(probabilities, index, start)
        merged[start : start + _QUERIES] = (
            getattr(probabilities, heads)(axis=0) if isinstance(heads, str) else probabilities[heads]
        )
    empty = np.flatnonzero(merged.sum(axis=1) == 0.0)
    if len(empty):  # heads="min" can leave a query without keys
        merged[empty, empty] = 1.0
    return merged


def _check_rows(probabilities: Floats, index: int, first: int) -> None:
    if not np.isfinite(probabilities).all() or (probabilities < 0).any():
        raise InputError(f"attentions[{index}]", got="NaN, infinite or negative entries", expected="probabilities")
    sums = probabilities.sum(axis=2)
    worst = np.unravel_index(int(np.abs(sums - 1.0).argmax()), sums.shape)
    if abs(float(sums[worst]) - 1.0) > ROW_SUM_TOLERANCE:
        raise InputError(
            f"attentions[{index}]",
            got=f"a row summing to {sums[worst]:.4f} (head {worst[0]}, query {first + worst[1]})",
            expected="rows summing to 1 over the real tokens",
            remedy="Capture attention in eval mode, without dropout, and pass the attention_mask of the inputs. "
            "For capacities that are not probabilities, use AttentionNetwork(capacities, readout).",
        )
