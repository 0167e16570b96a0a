"""The layered attention network of one sentence: capacities of the edges, and a readout.

Nodes are (layer, position) for layers 0..L. The edge from position i of layer l-1 to position j of layer l has the
capacity ``capacities[l - 1, j, i]``, the attention of query j to key i. The edge from position j of layer L to the sink
has the capacity ``readout[j]``. After Abnar & Zuidema, "Quantifying Attention Flow in Transformers" (ACL 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow._checks import check_items, check_residual
from lightning_attnflow.attention.head_merging import Floats, Heads, kept_positions, merge_heads, to_numpy
from lightning_attnflow.errors import InputError

Readout = Literal["first", "last", "mean", "all"] | int | Sequence[float] | NDArray[Any]

_PROBABILITY_TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class AttentionNetwork:
    """Layered capacities and a readout.

    Create it with `from_attentions` from attention probabilities, or directly from any non-negative capacities:
    attention weighted by gradients, E_h relu(A * dA) (method ``gradient_flow`` of ``explain``), or the contributions of
    ALTI (Ferrando et al. 2022; ``recipes/benchmarks/alti.py`` computes them for BERT). Where rows do not sum to 1, the
    total flow is not 1 and rollout is no maximum flow; see ``is_probability``.

    Args:
        capacities: (L, T, T) non-negative, ``[layer, query, key]``.
        readout: (T,) non-negative, the capacities of the sink edges.
        positions: (T,) index of each position in the sequence before padding was cropped; default 0..T-1.

    Raises:
        InputError: negative, NaN or infinite capacities, wrong shapes or types, a readout that is all zero.

    Example:
        >>> import numpy as np
        >>> network = AttentionNetwork(np.array([[[0.7, 0.3], [0.4, 0.6]]]), np.array([1.0, 0.0]))
        >>> network.n_layers, network.n_positions, network.is_probability
        (1, 2, True)
    """

    capacities: Floats
    readout: Floats
    positions: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))

    def __post_init__(self) -> None:
        capacities = _checked(self.capacities, "capacities", "float64 (L, T, T) with L >= 1 and T >= 1")
        if capacities.ndim != 3 or capacities.shape[1] != capacities.shape[2] or 0 in capacities.shape:
            raise InputError(
                "capacities",
                got=f"shape {capacities.shape}",
                expected="(L, T, T) with L >= 1 and T >= 1",
                remedy="AttentionNetwork.from_attentions merges heads.",
            )
        readout = _checked(self.readout, "readout", f"float64 ({capacities.shape[1]},)")
        if readout.shape != capacities.shape[1:2] or not readout.any():
            got = f"shape {readout.shape} with sum {readout.sum():g}"
            raise InputError("readout", got=got, expected=f"shape ({capacities.shape[1]},) with a positive sum")
        positions = np.array(self.positions) if np.size(self.positions) else np.arange(len(readout))
        if positions.shape != readout.shape or positions.dtype.kind not in "iu" or positions.min() < 0:
            raise InputError(
                "positions",
                got=f"shape {positions.shape} and dtype {positions.dtype}, {positions.tolist()}",
                expected=f"{len(readout)} integers >= 0, such as np.flatnonzero(mask)",
            )
        for name, array in (("capacities", capacities), ("readout", readout), ("positions", positions)):
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    @property
    def n_layers(self) -> int:
        """L, the number of attention layers; the network has L + 1 layers of positions."""
        return int(self.capacities.shape[0])

    @property
    def n_positions(self) -> int:
        """T, the number of positions."""
        return int(self.capacities.shape[1])

    @property
    def is_stochastic(self) -> bool:
        """Whether every row sums to 1 within 1e-9, as attention probabilities do."""
        return bool(np.abs(self.capacities.sum(axis=2) - 1.0).max() <= _PROBABILITY_TOLERANCE)

    @property
    def is_probability(self) -> bool:
        """Whether rows and readout are probability vectors; then the total flow is 1 and rollout is a maximum flow."""
        return self.is_stochastic and abs(float(self.readout.sum()) - 1.0) <= _PROBABILITY_TOLERANCE

    @property
    def readout_position(self) -> int | None:
        """The one position that the sink reads, or None if it reads several."""
        read = np.flatnonzero(self.readout)
        return int(read[0]) if len(read) == 1 else None

    @classmethod
    def from_attentions(
        cls,
        attentions: Sequence[Any],
        *,
        mask: Any = None,
        heads: Heads = "mean",
        residual: float = 0.5,
        readout: Readout = "first",
    ) -> AttentionNetwork:
        """Merge heads, crop padding, add the residual stream and normalise the rows of one sentence.

        Args:
            attentions: L arrays or tensors (heads, T, T), ``[head, query, key]``, rows summing to 1.
            mask: (T,), true for real tokens; None keeps all. Padding is cropped from queries and keys.
            heads: "mean", "max", "min" over the heads, or the index of one head.
            residual: share r of the residual stream, A <- r I + (1 - r) A, in [0, 1).
            readout: "first" or "last" real token, "mean" over real tokens, "all" (capacity 1 at every top position, for
                the total flow through the network), a position of the uncropped sequence, or a weight vector (T,).

        Raises:
            InputError: an invalid shape, mask, head, residual or readout, or rows that do not sum to 1.

        Source: Abnar & Zuidema (2020), section 3; Ethayarajh & Jurafsky (2021), section 2.2.

        Example:
            >>> import numpy as np
            >>> attention = np.full((12, 3, 3), 1 / 3)
            >>> network = AttentionNetwork.from_attentions([attention] * 2, readout="last")
            >>> network.capacities[0].round(4).tolist()[0]
            [0.6667, 0.1667, 0.1667]
            >>> network.readout.tolist()
            [0.0, 0.0, 1.0]
        """
        check_residual(residual)
        layers = [to_numpy(attention) for attention in check_items("attentions", attentions, "a sequence of arrays")]
        if not layers:
            raise InputError(
                "attentions",
                got="an empty sequence",
                expected="one array (heads, T, T) per layer",
                remedy="capture_attention(model, inputs) returns them.",
            )
        length = layers[0].shape[-1] if layers[0].ndim == 3 else 0
        kept = kept_positions(mask, length)
        merged = np.empty((len(layers), len(kept), len(kept)))
        for index, layer in enumerate(layers):
            merged[index] = merge_heads(layer, index, length, kept, heads)
        return network_of(merged, kept, length, residual, readout)


def network_of(
    merged: Floats, kept: NDArray[np.intp], length: int, residual: float, readout: Readout
) -> AttentionNetwork:
    """Return the network of merged heads, whose memory it uses; see `AttentionNetwork.from_attentions`.

    Args:
        merged: float64 (L, n, n), from `merge_heads`; changed in place.
        kept: the n positions that are no padding.
        length: T, number of positions with padding.
        residual, readout: as for `AttentionNetwork.from_attentions`.
    """
    merged /= merged.sum(axis=2, keepdims=True)
    merged *= 1.0 - residual
    diagonal = np.arange(len(kept))
    merged[:, diagonal, diagonal] += residual
    merged /= merged.sum(axis=2, keepdims=True)
    merged.flags.writeable = False
    return AttentionNetwork(merged, _readout_weights(readout, kept, length), kept)


def _checked(values: Any, name: str, expected: str) -> Floats:
    found = to_numpy(values)
    if found.dtype.kind not in "biuf":
        raise InputError(name, got=f"{type(values).__name__} of dtype {found.dtype}", expected=expected)
    frozen = found.base is None and not found.flags.writeable  # as `network_of` passes it
    array = found.astype(np.float64, copy=not frozen)
    if not np.isfinite(array).all() or (array < 0).any():
        worst = array[~np.isfinite(array) | (array < 0)][0]
        raise InputError(name, got=f"an entry {worst}", expected=f"{expected}, finite and non-negative")
    with np.errstate(over="ignore"):
        total = array.sum()
    if not np.isfinite(total):
        raise InputError(
            name,
            got=f"entries up to {array.max():g}",
            expected=f"{expected}, with a sum below {np.finfo(np.float64).max:.1e}",
            remedy="Divide the capacities and the readout by one number; all flows scale with it.",
        )
    return array


def _readout_weights(readout: Readout, kept: NDArray[np.intp], length: int) -> Floats:
    n = len(kept)
    weights = np.zeros(n)
    if isinstance(readout, str):
        named = {"first": slice(0, 1), "last": slice(n - 1, n), "mean": slice(None), "all": slice(None)}
        if readout not in named:
            expected = "'first', 'last', 'mean', 'all', a position or a weight vector"
            raise InputError("readout", got=repr(readout), expected=expected)
        weights[named[readout]] = 1.0 / n if readout == "mean" else 1.0
        return weights
    if isinstance(readout, (int, np.integer)):
        where = np.flatnonzero(kept == readout)
        if len(where) == 0:
            raise InputError(
                "readout",
                got=f"position {readout}",
                expected=f"a real token in {kept[0]}..{kept[-1]}",
                remedy="Positions are counted from 0 and include padding.",
            )
        weights[where] = 1.0
        return weights
    vector = _checked(to_numpy(readout), "readout", f"a weight vector ({length},)")
    if vector.shape == (length,):
        outside = np.delete(vector, kept)
        if outside.any():
            raise InputError(
                "readout", got=f"weight {outside.sum():g} on padding", expected="weights on real tokens only"
            )
        return vector[kept]
    expected = f"shape ({length},), one weight per position of the uncropped sequence"
    raise InputError("readout", got=f"a vector of shape {vector.shape}", expected=expected)
