"""Arrays as JSON: base64 strings of little-endian numbers.

Edges are float16, and sparse where few of them carry the flow; the attention of single heads has 8 bits.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Packed = dict[str, Any]

EDGE_COVERAGE = 0.995
"""Sparse edges carry at least this share of the absolute flow of their layer, unless there are too many."""
MAX_EDGES = 80_000
"""Sparse edges of one record, 8 bytes each after encoding, so that a record stays below 1 MB."""
MAX_HEAD_BYTES = 46_000
"""Bytes for the attention of all heads of one sentence, before encoding, which adds a third."""
MIN_HEAD_COVERAGE = 0.8
"""Heads are stored if this share of the attention of each of them fits."""


def pack(array: Any, dtype: str) -> Packed:
    """Return an array as JSON: ``dtype`` ("f4", "f2", "u2", "u1"), ``shape``, and base64 ``data``."""
    numbers = np.ascontiguousarray(array, dtype=f"<{dtype}")
    data = base64.b64encode(numbers.tobytes()).decode("ascii")
    return {"dtype": dtype, "shape": list(numbers.shape), "data": data}


def unpack(packed: Mapping[str, Any]) -> NDArray[Any]:
    """Return the array of `pack`."""
    numbers = np.frombuffer(base64.b64decode(packed["data"]), dtype=f"<{packed['dtype']}")
    return numbers.reshape(packed["shape"])


def pack_edges(edges: Floats, max_edges: int = MAX_EDGES) -> Packed:
    """Return edges (L, n, n) as JSON: all of them, or the largest ones if they are few or too many.

    ``coverage`` is the share of the absolute flow of each layer that the stored edges carry.
    """
    n_layers, n = edges.shape[:2]
    limit = max(1, max_edges // max(1, n_layers))
    flat = edges.reshape(n_layers, -1)
    strength = np.abs(flat)
    order = np.argsort(-strength, axis=1, kind="stable")
    carried = np.cumsum(np.take_along_axis(strength, order, axis=1), axis=1)
    whole = carried[:, -1:]
    counts = np.minimum((carried < EDGE_COVERAGE * whole).sum(axis=1) + 1, limit)
    if 3 * counts.sum() >= flat.size and flat.shape[1] <= limit * 3:  # a sparse edge takes as much as three dense ones
        return {"dense": pack(edges, "f2"), "coverage": [1.0] * n_layers}
    kept = [order[layer, :count] for layer, count in enumerate(counts)]
    joined = np.concatenate(kept)
    values = np.concatenate([flat[layer, chosen] for layer, chosen in enumerate(kept)])
    shares = [
        float(carried[layer, count - 1] / whole[layer, 0]) if whole[layer, 0] > 0 else 1.0
        for layer, count in enumerate(counts)
    ]
    return {
        "n": [int(count) for count in counts],
        "query": pack(joined // n, "u2"),
        "key": pack(joined % n, "u2"),
        "value": pack(values, "f2"),
        "coverage": shares,
    }


def unpack_edges(packed: Mapping[str, Any], n: int) -> Floats:
    """Return the edges (L, n, n) of `pack_edges`; edges that were not stored are 0."""
    if "dense" in packed:
        return unpack(packed["dense"]).astype(np.float64)
    edges = np.zeros((len(packed["n"]), n, n))
    layer = np.repeat(np.arange(len(packed["n"])), packed["n"])
    edges[layer, unpack(packed["query"]), unpack(packed["key"])] = unpack(packed["value"])
    return edges


def heads_fit(n_layers: int, n_heads: int, n: int) -> bool:
    """Whether the attention of all heads of n words may fit, so that it is worth computing."""
    return n_layers * n_heads * n**2 / 8 < MAX_HEAD_BYTES


def too_many_heads(n_layers: int, n_heads: int, n: int) -> str:
    """Return why the heads are left out."""
    return f"The attention of {n_layers} x {n_heads} heads between {n} words is too large for the record."


def pack_heads(heads: Floats) -> Packed:
    """Return the attention of heads (L, H, n, n) as JSON, in steps of 1/255; or why it is left out.

    ``mask`` has one bit for every entry, 1 if it is stored: all that do not round to 0, or the largest that fit.
    ``coverage`` is the smallest share of the attention of a head that is stored.
    """
    n_layers, n_heads, n = heads.shape[:3]
    rounded = np.rint(255 * heads).astype(np.uint8)
    room = MAX_HEAD_BYTES - (rounded.size + 7) // 8
    counts = np.bincount(rounded.ravel(), minlength=256)
    stored = np.cumsum(counts[::-1])[::-1]  # number of entries of at least each value
    smallest = next((value for value in range(1, 256) if stored[value] <= room), 256)
    kept = rounded >= smallest
    whole = heads.sum(axis=(2, 3))
    coverage = (rounded * kept / 255).sum(axis=(2, 3)) / np.where(whole > 0, whole, 1.0)
    if room < 0 or coverage.min() < MIN_HEAD_COVERAGE:
        return {"without_heads": too_many_heads(n_layers, n_heads, n)}
    packed = {"shape": [n_layers, n_heads, n], "coverage": round(min(1.0, float(coverage.min())), 4)}
    return {"heads": packed | {"mask": pack(np.packbits(kept), "u1"), "value": pack(rounded[kept], "u1")}}


def unpack_heads(packed: Mapping[str, Any]) -> Floats:
    """Return the attention (L, H, n, n) of `pack_heads`; entries that were not stored are 0."""
    n_layers, n_heads, n = packed["shape"]
    heads = np.zeros((n_layers, n_heads, n, n))
    kept = np.unpackbits(unpack(packed["mask"]), count=heads.size).astype(bool).reshape(heads.shape)
    heads[kept] = unpack(packed["value"]) / 255
    return heads
