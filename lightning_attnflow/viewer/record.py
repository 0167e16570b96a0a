"""The data that the page shows, as JSON: one record per step and one per sentence and step.

The same records are written as TensorBoard summaries, as lines of a file beside other logs, and into HTML pages.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lightning_attnflow._checks import (
    check_bool,
    check_instance,
    check_integer,
    check_items,
    check_string,
    is_integer,
)
from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer.packing import MAX_EDGES, Floats, pack, pack_edges, pack_heads
from lightning_attnflow.viewer.record_check import check_record

Record = dict[str, Any]

FORMAT, VERSION = "attnflow", 2
OLDEST_VERSION = 1
"""Records of this version have no attention of single heads; everything else is the same."""
PLUGIN_NAME = "attention_flow"


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
        edge_error: largest difference of a value and its outgoing edges, as a share of the total variation, or None.
        saturation: float (rows,), share of the words whose value is decided by a trivial cut, or None.
        total: the sum of each row, or None.
        target: name of the explained class, or None.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow.viewer.packing import unpack
        >>> part = FlowPart(np.array([[0.5, -0.1], [0.4, 0.0]]), signed=True, unit="log probability", total=0.4)
        >>> record = part.to_json()
        >>> unpack(record["values"]).astype(float).round(4).tolist(), record["layers"], record["total"]
        ([[0.5, -0.1], [0.4, 0.0]], [0, 1], 0.4)
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
    edge_error: float | None = None
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
                record[name] = [_number(name, value) for value in getattr(self, name)]
        if self.edge_error is not None:
            record["edge_error"] = _number("edge_error", self.edge_error)
        if self.total is not None:
            record["total"] = _number("total", self.total)
        if self.target is not None:
            record["target"] = self.target
        return record


@dataclass(frozen=True)
class Prediction:
    """What the model predicts.

    Args:
        name: of the predicted class or token.
        probability: of the prediction, NaN if it has none.
        classes: probability of every class by name, if there are few, or None.

    Example:
        >>> prediction = Prediction("positive", 0.9, {"negative": 0.1, "positive": 0.9})
        >>> words = {"words": ["fine", "film"], "is_special": [False, False]}
        >>> sentence_record(step=0, name="probe_00", **words, flows={}, prediction=prediction)["prediction"]
        {'class': 'positive', 'probability': 0.9, 'classes': {'negative': 0.1, 'positive': 0.9}}
    """

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
    max_edges: int = MAX_EDGES,
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
        max_edges: number of sparse edges of all flows; see `lightning_attnflow.viewer.packing`.

    Raises:
        InputError: a flow without one column per word, or another invalid argument.

    Example:
        >>> import numpy as np
        >>> from lightning_attnflow.viewer import RunLog
        >>> words, is_special = ["[CLS]", "fine", "film"], [True, False, False]
        >>> flows = {"conductance": FlowPart(np.array([[0.0, 0.5, -0.1], [0.4, 0.0, 0.0]]), signed=True, total=0.4)}
        >>> log = RunLog()
        >>> for step in (0, 100):
        ...     log.add(sentence_record(step=step, name="probe_00", words=words, is_special=is_special, flows=flows))
        >>> [(record["step"], record["words"]) for record in log.sentence("probe_00")["steps"]]
        [(0, ['[CLS]', 'fine', 'film']), (100, ['[CLS]', 'fine', 'film'])]
    """
    words = [check_string("words", word) for word in check_items("words", words, "n words")]
    check_instance("flows", flows, Mapping)
    for kind, flow in flows.items():
        check_instance(f"flows[{kind!r}]", flow, FlowPart)
        if flow.values.ndim != 2 or flow.values.shape[1] != len(words):
            raise InputError(f"flows[{kind!r}]", got=f"shape {flow.values.shape}", expected=f"(rows, {len(words)})")
    check_integer("max_edges", max_edges)
    with_edges = max(1, sum(flow.edges is not None for flow in flows.values()))
    record = _header("sentence", step) | {
        "name": check_string("name", name),
        "text": check_string("text", text),
        "words": words,
        "special": [int(check_bool("is_special", flag)) for flag in check_items("is_special", is_special, "n flags")],
        "flows": {kind: flow.to_json(max_edges // with_edges) for kind, flow in flows.items()},
    }
    if prediction is not None:
        check_instance("prediction", prediction, Prediction)
        record["prediction"] = {
            "class": prediction.name,
            "probability": _number("probability", prediction.probability),
            "classes": _numbers("classes", prediction.classes or {}),
        }
    if label is not None:
        record["label"] = check_string("label", label)
    record["numbers"] = _numbers("numbers", {} if numbers is None else numbers)
    check_record(record, f"record of the sentence {name!r}")
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

    Raises:
        InputError: an invalid argument.

    Example:
        >>> from lightning_attnflow.viewer import RunLog
        >>> record = step_record(step=50, scalars={"drift": 0.25}, layers={"attention_entropy": [0.9, 0.7]})
        >>> (step,) = RunLog([record]).index()["steps"]
        >>> step["step"], step["scalars"], step["layers"]
        (50, {'drift': 0.25}, {'attention_entropy': [0.9, 0.7]})
    """
    layers = {} if layers is None else layers
    check_instance("layers", layers, Mapping)
    record = _header("step", step) | {
        "epoch": epoch,
        "scalars": _numbers("scalars", {} if scalars is None else scalars),
        "layers": {
            key: [_number("layers", value) for value in check_items(f"layers[{key!r}]", row, "a number for each layer")]
            for key, row in layers.items()
        },
        "verdicts": check_items("verdicts", verdicts, "JSON values of verdicts"),
        "progress": progress,
    }
    check_record(record, f"record of step {step}")
    return record


def to_bytes(record: Record) -> bytes:
    """Return the record as one line of UTF-8 JSON."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def from_bytes(line: bytes | str, source: str = "record") -> Record:
    """Return the record of one line, see `to_bytes`.

    Raises:
        InputError: the line is no record, one of another version, or one with missing or invalid entries.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(source, got=f"no JSON ({error})", expected="a record of the attention-flow viewer") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise InputError(source, got="other JSON", expected="a record of the attention-flow viewer")
    version = record.get("version")
    if not is_integer(version) or not OLDEST_VERSION <= version <= VERSION:
        newer = is_integer(version) and version > VERSION
        raise InputError(
            source,
            got=f"a record of version {reprlib.repr(version)}",
            expected=f"version {OLDEST_VERSION} to {VERSION}",
            remedy="Update lightning-attnflow." if newer else "Log the run again with this version.",
        )
    check_record(record, source)
    return record


def _header(kind: str, step: int) -> Record:
    return {"format": FORMAT, "version": VERSION, "type": kind, "step": check_integer("step", step, minimum=0)}


def _numbers(name: str, values: Mapping[str, float]) -> dict[str, float | None]:
    """Numbers by name as JSON values."""
    check_instance(name, values, Mapping)
    return {key: _number(name, value) for key, value in values.items()}


def _number(name: str, value: Any) -> float | None:
    """A JSON number; None for NaN and infinities."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # of what is no number, a huge one, or a tensor
        raise InputError(name, got=reprlib.repr(value), expected="a number") from None
    return number if math.isfinite(number) else None
