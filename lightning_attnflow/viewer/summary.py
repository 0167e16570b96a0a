"""Records as TensorBoard summaries, and back: one string tensor per record, with the name of the plugin."""

from __future__ import annotations

from typing import Any

from lightning_attnflow._optional import require
from lightning_attnflow.viewer.record import PLUGIN_NAME, VERSION, Record, to_bytes

TAG_PREFIX = "attnflow_records"


def record_tag(record: Record) -> str:
    """Return the tag of a record. Every step has a tag of its own, because TensorBoard samples the steps of a tag."""
    name = "run" if record["type"] == "step" else record["name"]
    return f"{TAG_PREFIX}/{name}/step_{record['step']:08d}"


def record_summary(record: Record) -> Any:
    """Return the summary protocol buffer of a record, for ``add_summary`` of an event-file writer.

    Raises:
        MissingDependencyError: TensorBoard is not installed.
    """
    protos = "tensorboard.compat.proto"
    purpose: dict[str, str] = {"extra": "tensorboard", "purpose": "the TensorBoard plugin"}
    summary = require(f"{protos}.summary_pb2", **purpose)
    tensor = require(f"{protos}.tensor_pb2", **purpose)
    types = require(f"{protos}.types_pb2", **purpose)
    metadata = summary.SummaryMetadata(
        plugin_data=summary.SummaryMetadata.PluginData(plugin_name=PLUGIN_NAME, content=str(VERSION).encode()),
        data_class=summary.DATA_CLASS_TENSOR,
    )
    value = tensor.TensorProto(dtype=types.DT_STRING, string_val=[to_bytes(record)])
    return summary.Summary(value=[summary.Summary.Value(tag=record_tag(record), metadata=metadata, tensor=value)])
