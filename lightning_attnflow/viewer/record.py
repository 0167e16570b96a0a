"""The data that the page shows, as JSON: one record per step and one per sentence and step.

The same records are written as TensorBoard summaries, as lines of a file beside other logs, and into HTML pages.
Arrays are base64 strings of little-endian numbers; edges are float16, sparse where few of them carry the flow, and the
attention of single heads has 8 bits.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_attnflow.errors import InputError

Floats = NDArray[np.float64]
Record = dict[str, Any]

FORMAT, VERSION = "attnflow", 2
OLDEST_VERSION = 1
"""Records of this version have no attention of single heads; everything else is the same."""
PLUGIN_NAME = "attention_flow"
EDGE_COVERAGE = 0.995
"""Sparse edges carry at least this share of the absolute flow of their layer, unless there are too many."""
MAX_EDGES = 80_000
"""Sparse edges of one record, 8 bytes each after encoding, so that a record stays below 1 MB."""
MAX_HEAD_BYTES = 46_000
"""Bytes for the attention of all heads of one sentence, before encoding, which adds a third."""
MIN_HEAD_COVERAGE = 0.8
"""Heads are stored if this share of the attention of each of them fits."""


@dataclass(frozen=True, eq=False)
class FlowPart:
    """One flow of a sentence.

    Args:
        values: float (rows, n), from the words (row 0) to the readout.
        signed: whether negative values oppose the prediction; otherwise the values are shares of a flow of 1.
        unit: of the values, such as ``log probability``.
        layers: layer of each row; default 0, 1, and so on.
        lower, upper: float (rows, n), ends of the range or interval of the values, or None.
        range_name: what ``lower`` and ``upper`` are.
        edges: float (rows - 1, n, n) ``[layer, query, key]``, or None.
        heads: float (rows - 1, H, n, n), attention of every head in [0, 1], without the residual stream, or None.
        without_heads: why ``heads`` is None, for the reader of the page.
        error: float (rows,), error of the values as a share of the row's total variation, or None.
        saturation: float (rows,), share of the words whose value is decided by a trivial cut, or None.
        total: the sum of each row, or None.
        target: name of the explained class, or None.
    """

    values: Floats
    signed: bool = False
    unit: str = "share of the flow"
    layers: Sequence[int] | None = None
    lower: Floats | None = None
    upper: Floats | None = None
    range_name: str = "range over all maximum flows"
    edges: Floats | None = None
    heads: Floats | None = None
    without_heads: str = ""
    error: Floats | None = None
    saturation: Floats | None = None
    total: float | None = None
    target: str | None = None

    def to_json(self, max_edges: int = MAX_EDGES) -> Record:
        """Return the JSON values of this flow."""
        layers = range(len(self.values)) if self.layers is None else self.layers
        record: Record = {
            "signed": self.signed,
            "unit": self.unit,
            "layers": [int(layer) for layer in layers],
            "values": pack(self.values, "f4"),
        }
        if self.lower is not None and self.upper is not None:
            ends = {"lower": pack(self.lower, "f4"), "upper": pack(self.upper, "f4")}
            record |= {**ends, "range_name": self.range_name}
        if self.edges is not None:
            record["edges"] = pack_edges(self.edges, max_edges)
        if self.heads is not None:
            record |= pack_heads(self.heads)
        elif self.without_heads:
            record["without_heads"] = self.without_heads
        for name in ("error", "saturation"):
            if getattr(self, name) is not None:
                record[name] = [_number(value) for value in getattr(self, name)]
        if self.total is not None:
            record["total"] = _number(self.total)
        if self.target is not None:
            record["target"] = self.target
        return record


@dataclass(frozen=True)
class Prediction:
    """What the model predicts: the name of the class, its probability, and those of all classes if there are few."""

    name: str
    probability: float
    classes: Mapping[str, float] | None = None


def sentence_record(
    *,
    step: int,
    name: str,
    words: Sequence[str],
    is_special: Iterable[bool],
    flows: Mapping[str, FlowPart],
    text: str = "",
    prediction: Prediction | None = None,
    label: str | None = None,
    numbers: Mapping[str, float] | None = None,
) -> Record:
    """Return the record of one sentence at one step.

    Args:
        step: global step of the training.
        name: of the sentence, the same at every step, such as ``probe_00``.
        words: n words or tokens.
        is_special: n flags, True for special tokens.
        flows: ``conductance``, ``attention_flow``, ``rollout``, ``attention`` or other names.
        text: the sentence.
        prediction: of the model.
        label: name of the correct class, if it is known.
        numbers: of the sentence, such as its drift.

    Raises:
        InputError: a flow without one column per word.
    """
    for kind, flow in flows.items():
        if flow.values.ndim != 2 or flow.values.shape[1] != len(words):
            raise InputError(f"flows[{kind!r}]", got=f"shape {flow.values.shape}", expected=f"(rows, {len(words)})")
    with_edges = max(1, sum(flow.edges is not None for flow in flows.values()))
    record = _header("sentence", step) | {
        "name": name,
        "text": text,
        "words": list(words),
        "special": [int(flag) for flag in is_special],
        "flows": {kind: flow.to_json(MAX_EDGES // with_edges) for kind, flow in flows.items()},
    }
    if prediction is not None:
        record["prediction"] = {
            "class": prediction.name,
            "probability": _number(prediction.probability),
            "classes": {key: _number(value) for key, value in (prediction.classes or {}).items()},
        }
    if label is not None:
        record["label"] = label
    record["numbers"] = {key: _number(value) for key, value in (numbers or {}).items()}
    return record


def step_record(
    *,
    step: int,
    epoch: int | None = None,
    scalars: Mapping[str, float] | None = None,
    layers: Mapping[str, Sequence[float]] | None = None,
    verdicts: Sequence[Mapping[str, Any]] = (),
    progress: float | None = None,
) -> Record:
    """Return the record of a whole validation.

    Args:
        step: global step of the training; 0 before training.
        epoch: epoch of the training.
        scalars: summary numbers by name.
        layers: numbers of every layer by name.
        verdicts: JSON values of the verdicts, see `lightning_attnflow.viewer.verdict`.
        progress: share of the training that is done, in [0, 1], if it is known.
    """
    return _header("step", step) | {
        "epoch": epoch,
        "scalars": {key: _number(value) for key, value in (scalars or {}).items()},
        "layers": {key: [_number(value) for value in row] for key, row in (layers or {}).items()},
        "verdicts": [dict(verdict) for verdict in verdicts],
        "progress": progress,
    }


def to_bytes(record: Record) -> bytes:
    """Return the record as one line of UTF-8 JSON."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def from_bytes(line: bytes | str, source: str = "record") -> Record:
    """Return the record of one line, see `to_bytes`.

    Raises:
        InputError: the line is no record, or one of another version.
    """
    try:
        record = json.loads(line)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(source, got=f"no JSON ({error})", expected="a record of the attention-flow viewer") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(source, got="other JSON", expected="a record of the attention-flow viewer")
    version = record.get("version")
    if not isinstance(version, int) or not OLDEST_VERSION <= version <= VERSION:
        newer = isinstance(version, int) and version > VERSION
        raise InputError(
            source,
            got=f"a record of version {version}",
            expected=f"version {OLDEST_VERSION} to {VERSION}",
            remedy="Update lightning-attnflow." if newer else "Log the run again with this version.",
        )
    return record


def pack(array: Any, dtype: str) -> Record:
    """Return an array as JSON: ``dtype`` ("f4", "f2", "u2", "u1"), ``shape``, and base64 ``data``."""
    numbers = np.ascontiguousarray(array, dtype=f"<{dtype}")
    data = base64.b64encode(numbers.tobytes()).decode("ascii")
    return {"dtype": dtype, "shape": list(numbers.shape), "data": data}


def unpack(packed: Mapping[str, Any]) -> NDArray[Any]:
    """Return the array of `pack`."""
    numbers = np.frombuffer(base64.b64decode(packed["data"]), dtype=f"<{packed['dtype']}")
    return numbers.reshape(packed["shape"])


def pack_edges(edges: Floats, max_edges: int = MAX_EDGES) -> Record:
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


def pack_heads(heads: Floats) -> Record:
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


def _header(kind: str, step: int) -> Record:
    return {"format": FORMAT, "version": VERSION, "type": kind, "step": int(step)}


def _number(value: Any) -> float | None:
    """A JSON number; None for NaN and infinities."""
    number = float(value)
    return number if math.isfinite(number) else None
