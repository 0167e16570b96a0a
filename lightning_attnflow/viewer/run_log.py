"""The records of one run, and the documents that the page asks for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer.record import Record, from_bytes, to_bytes

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
        """Read a file of records, or the file in a log directory.

        Raises:
            InputError: there is no such file, or it has another format or version.
        """
        path = Path(path)
        path = path / FILE_NAME if path.is_dir() else path
        if not path.exists():
            raise InputError(str(path), got="no such file", expected=f"a file {FILE_NAME} of AttentionFlowMonitor")
        lines = path.read_bytes().split(b"\n")
        # the last line has no end while it is being written
        return cls(from_bytes(line, f"{path}, line {number}") for number, line in enumerate(lines[:-1], 1) if line)

    def add(self, record: Record) -> None:
        """Add one record."""
        if record["type"] == "step":
            self.steps[record["step"]] = record
        else:
            self.sentences.setdefault(record["name"], {})[record["step"]] = record

    def write(self, path: str | Path) -> Path:
        """Write all records to a file and return its path."""
        path = Path(path)
        path.write_bytes(b"".join(to_bytes(record) + b"\n" for record in self.records()))
        return path

    def records(self) -> list[Record]:
        """All records: those of the steps, then those of the sentences."""
        in_order = [self.steps[step] for step in sorted(self.steps)]
        return in_order + [of_step[step] for of_step in self.sentences.values() for step in sorted(of_step)]

    def index(self) -> Record:
        """Return the steps with their numbers and verdicts, and for every sentence its predictions by step."""
        steps = sorted({*self.steps, *(step for of_step in self.sentences.values() for step in of_step)})
        return {
            "steps": [_without_header(self.steps.get(step, {"step": step})) for step in steps],
            "sentences": [self._summary(name) for name in sorted(self.sentences)],
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
        """Return the edges of a sentence at one step by the kind of flow.

        Raises:
            KeyError: no such sentence or step.
        """
        flows: Mapping[str, Any] = self.sentences[name][step]["flows"]
        return {kind: flow["edges"] for kind, flow in flows.items() if "edges" in flow}

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
        kind: {key: value for key, value in flow.items() if key != "edges"} | {"has_edges": "edges" in flow}
        for kind, flow in record["flows"].items()
    }
    return record | {"flows": flows}
