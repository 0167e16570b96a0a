"""Records as TensorBoard summaries, and back: one string tensor per record, with the name of the plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightning_attnflow._optional import require
from lightning_attnflow.viewer.record import PLUGIN_NAME, VERSION, Record, to_bytes

TAG_PREFIX = "attnflow_records"
_PURPOSE: dict[str, str] = {"extra": "tensorboard", "purpose": "summaries of TensorBoard"}


def record_tag(record: Record) -> str:
    """Return the tag of a record. Every step has a tag of its own, because TensorBoard samples the steps of a tag."""
    name = "run" if record["type"] == "step" else record["name"]
    return f"{TAG_PREFIX}/{name}/step_{record['step']:08d}"


def record_summary(record: Record) -> Any:
    """Return the summary protocol buffer of a record, for ``add_summary`` of an event-file writer.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """
    summary = require("tensorboard.compat.proto.summary_pb2", **_PURPOSE)
    tensor = require("tensorboard.compat.proto.tensor_pb2", **_PURPOSE)
    types = require("tensorboard.compat.proto.types_pb2", **_PURPOSE)
    metadata = summary.SummaryMetadata(
        plugin_data=summary.SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=str(VERSION).encode()),
        data_class=summary.DATA_CLASS_TENSOR,
    )
    value = tensor.TensorProto(dtype=types.DT_STRING, string_val=[to_bytes(record)])
    return summary.Summary(value=[summary.Summary.Value(tag=record_tag(record), metadata=metadata, tensor=value)])


def described_scalars(scalars: Mapping[str, tuple[float, str]]) -> Any:
    """Return one summary of scalars with descriptions, which TensorBoard shows beside their charts.

    Args:
        scalars: value and description by tag.
    """
    summary = require("tensorboard.compat.proto.summary_pb2", **_PURPOSE)
    tensor = require("tensorboard.compat.proto.tensor_pb2", **_PURPOSE)
    types = require("tensorboard.compat.proto.types_pb2", **_PURPOSE)
    values = [  # tensors, because TensorBoard drops the description of a simple value
        summary.Summary.Value(
            tag=tag,
            tensor=tensor.TensorProto(dtype=types.DT_FLOAT, float_val=[value]),
            metadata=summary.SummaryMetadata(
                summary_description=description,
                plugin_data=summary.SummaryMetadata.PluginData(plugin_name="scalars"),
                data_class=summary.DATA_CLASS_SCALAR,
            ),
        )
        for tag, (value, description) in scalars.items()
    ]
    return summary.Summary(value=values)


def layer_layout(names: Sequence[str], prefix: str) -> dict[str, dict[str, list[Any]]]:
    """Return the layout of TensorBoard's custom scalars with one chart of all layers for each metric."""
    return {
        "Attention flow by layer": {
            name.replace("_", " "): ["Multiline", [rf"{prefix}/{name}/layer_\d+"]] for name in names
        }
    }
