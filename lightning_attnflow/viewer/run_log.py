"""The records of one run, and the documents that the page asks for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_attnflow._checks import check_path
from lightning_attnflow._files import write_bytes
from lightning_attnflow._optional import require
from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer.numbers import LAYERS, SCALARS
from lightning_attnflow.viewer.record import PLUGIN_NAME, Record, from_bytes, to_bytes

FILE_NAME = "attention_flow.jsonl"


class RunLog:
    """The records of one run by step, and by sentence and step; a later record replaces an earlier one.

    Args:
        records: see `lightning_attnflow.viewer.record`.

    Example:
        >>> from lightning_attnflow.viewer.record import step_record
        >>> RunLog([step_record(step=5, scalars={"drift": 0.25})]).index()["steps"][0]["scalars"]
        {'drift': 0.25}
    """

    def __init__(self, records: Iterable[Record] = ()) -> None:
        self.steps: dict[int, Record] = {}
        self.sentences: dict[str, dict[int, Record]] = {}
        for record in records:
            self.add(record)

    @classmethod
    def read(cls, path: str | Path) -> RunLog:
        """Read a file of records, or the records of a log directory, from such a file or from event files.

        Raises:
            InputError: there are no records, or they have another format or version.
            MissingDependencyError: the directory holds event files only, and TensorBoard is not installed.
        """
        path = check_path("path", path)
        if path.is_dir() and not (path / FILE_NAME).exists():
            log = cls(_event_records(path))
            if not log.sentences:
                raise InputError(str(path), got="no records", expected="the log directory of an AttentionFlowMonitor")
            return log
        path = path / FILE_NAME if path.is_dir() else path
        if not path.exists():
            raise InputError(str(path), got="no such file", expected=f"a file {FILE_NAME} or a log directory")
        lines = path.read_bytes().split(b"\n")
        # the last line has no end while it is being written
        return cls(from_bytes(line, f"{path}, line {number}") for number, line in enumerate(lines[:-1], 1) if line)

    def add(self, record: Record) -> None:
        """Add one record of `sentence_record`, `step_record` or `from_bytes`."""
        if record["type"] == "step":
            self.steps[record["step"]] = record
        else:
            self.sentences.setdefault(record["name"], {})[record["step"]] = record

    def limit_edges(self, n_bytes: int) -> None:
        """Drop edges, the most part of the memory, of the oldest steps but the first, until they fit."""
        steps = sorted({step for of_step in self.sentences.values() for step in of_step})
        sizes = {step: sum(_edge_size(of.get(step)) for of in self.sentences.values()) for step in steps}
        for step in steps[1:-1]:
            if sum(sizes.values()) <= n_bytes:
                break
            sizes[step] = 0
            for of_step in self.sentences.values():
                for flow in of_step.get(step, {}).get("flows", {}).values():
                    flow.pop("edges", None)
                    if flow.pop("heads", None):
                        flow["without_heads"] = "The heads of this step were left out: the run has too many steps."

    def write(self, path: str | Path) -> Path:
        """Write all records to a file and return its path."""
        return write_bytes(path, b"".join(to_bytes(record) + b"\n" for record in self.records()))

    def records(self) -> list[Record]:
        """All records: those of the steps, then those of the sentences."""
        in_order = [self.steps[step] for step in sorted(self.steps)]
        return in_order + [of_step[step] for of_step in self.sentences.values() for step in sorted(of_step)]

    def latest_verdicts(self) -> list[Record]:
        """Verdicts of the last step, as JSON values."""
        verdicts: list[Record] = self.steps[max(self.steps)]["verdicts"] if self.steps else []
        return verdicts

    def index(self) -> Record:
        """Return the steps with their numbers and verdicts, the predictions of every sentence, and descriptions."""
        steps = sorted({*self.steps, *(step for of_step in self.sentences.values() for step in of_step)})
        return {
            "steps": [_without_header(self.steps.get(step, {"step": step})) for step in steps],
            "sentences": [self._summary(name) for name in sorted(self.sentences)],
            "descriptions": {"scalars": SCALARS, "layers": LAYERS},
        }

    def sentence(self, name: str) -> Record:
        """Return all steps of a sentence, with the values of the flows and without their edges.

        Raises:
            KeyError: no such sentence.
        """
        of_step = self.sentences[name]
        steps = [_without_edges(_without_header(of_step[step])) for step in sorted(of_step)]
        return {"name": name, "steps": steps}

    def edges(self, name: str, step: int) -> Record:
        """Return the edges of a sentence at one step by the kind of flow, and ``heads``, the attention of the heads.

        Raises:
            KeyError: no such sentence or step.
        """
        flows: Mapping[str, Any] = self.sentences[name][step]["flows"]
        edges = {kind: flow["edges"] for kind, flow in flows.items() if "edges" in flow}
        heads = [flow["heads"] for flow in flows.values() if "heads" in flow]
        return edges | ({"heads": heads[0]} if heads else {})

    def documents(self) -> Record:
        """Return everything that the page can ask for."""
        return {
            "index": self.index(),
            "sentences": {name: self.sentence(name) for name in self.sentences},
            "edges": {
                name: {str(step): self.edges(name, step) for step in of_step}
                for name, of_step in self.sentences.items()
            },
        }

    def _summary(self, name: str) -> Record:
        of_step = self.sentences[name]
        last = of_step[max(of_step)]
        return {
            "name": name,
            "text": last["text"] or " ".join(last["words"]),
            "label": last.get("label"),
            "steps": sorted(of_step),
            "predictions": [of_step[step].get("prediction") for step in sorted(of_step)],
            "numbers": [of_step[step]["numbers"] for step in sorted(of_step)],
        }


def _without_header(record: Record) -> Record:
    return {key: value for key, value in record.items() if key not in ("format", "version", "type")}


def _without_edges(record: Record) -> Record:
    flows = {
        kind: {key: value for key, value in flow.items() if key not in ("edges", "heads")}
        | {"has_edges": "edges" in flow}
        | ({"n_heads": flow["heads"]["shape"][1]} if "heads" in flow else {})
        for kind, flow in record["flows"].items()
    }
    return record | {"flows": flows}


def _edge_size(record: Record | None) -> int:
    """Bytes of the packed edges and heads of a record."""
    flows = {} if record is None else record["flows"]
    packed = [flow.get(name, {}) for flow in flows.values() for name in ("edges", "heads")]
    arrays = [array for part in packed for array in part.values() if isinstance(array, dict)]
    return sum(len(array["data"]) for array in arrays)


def _event_records(folder: Path) -> Iterator[Record]:
    """Records in the event files of TensorBoard of one directory."""
    paths = sorted(folder.glob("*tfevents*"))
    if not paths:
        return
    loader = require(
        "tensorboard.backend.event_processing.event_file_loader", extra="tensorboard", purpose="event files"
    ).EventFileLoader
    for path in paths:
        for event in loader(str(path)).Load():
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == PLUGIN_NAME and value.tensor.string_val:
                    yield from_bytes(value.tensor.string_val[0], f"{path}, {value.tag}")


def read_runs(directory: str | Path) -> dict[str, RunLog]:
    """Return the runs in a directory and its subdirectories by their relative path.

    Args:
        directory: log directory of one or several runs with `AttentionFlowMonitor`.

    Raises:
        InputError: the directory holds no records.

    Example:
        >>> import tempfile
        >>> from lightning_attnflow.viewer import step_record
        >>> log = RunLog(step_record(step=step) for step in (0, 50, 100))
        >>> with tempfile.TemporaryDirectory() as folder:  # such as the log directory of a trainer
        ...     (Path(folder) / "version_0").mkdir()
        ...     path = log.write(f"{folder}/version_0/attention_flow.jsonl")
        ...     {name: sorted(run.steps) for name, run in read_runs(folder).items()}
        {'version_0': [0, 50, 100]}
    """
    directory = check_path("directory", directory)
    folders = {path.parent for pattern in (FILE_NAME, "*tfevents*") for path in directory.rglob(pattern)}
    runs = {}
    for folder in sorted(folders):
        if (folder / FILE_NAME).exists():
            runs[_run_name(folder, directory)] = RunLog.read(folder)
        elif (log := RunLog(_event_records(folder))).sentences:
            runs[_run_name(folder, directory)] = log
    if not runs:
        raise InputError(str(directory), got="no records", expected="a log directory of AttentionFlowMonitor")
    return runs


def _run_name(folder: Path, directory: Path) -> str:
    return directory.resolve().name if folder == directory else str(folder.relative_to(directory))
