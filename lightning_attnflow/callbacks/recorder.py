"""The record of a run for the page of `lightning_attnflow.viewer`, written through the loggers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.trainer.states import TrainerFn

from lightning_attnflow._markdown import markdown_text
from lightning_attnflow.callbacks.monitored_sentence import MonitoredSentence
from lightning_attnflow.callbacks.summary import (
    RELATIVE_TO_LAST,
    Reference,
    layer_scalars,
    mean_of_layers,
    run_scalars,
    sentence_drift,
)
from lightning_attnflow.plots.loggers import media_loggers
from lightning_attnflow.plots.media_loggers import TensorBoardMedia, log_directory, logger_kinds
from lightning_attnflow.viewer import (
    FlowPart,
    Prediction,
    RunLog,
    Verdict,
    find_verdicts,
    page_html,
    sentence_record,
    step_record,
)
from lightning_attnflow.viewer.numbers import SCALARS
from lightning_attnflow.viewer.packing import MAX_EDGES
from lightning_attnflow.viewer.record import Record, to_bytes
from lightning_attnflow.viewer.results import conductance_part
from lightning_attnflow.viewer.run_log import FILE_NAME
from lightning_attnflow.viewer.summary import described_scalars, layer_layout, record_summary

RUN_TITLE = "run"
_NO_HEADS = "The record holds the single heads of probes only."
_MOST_SENTENCES = 64  # of a shuffled validation set, which has other sentences every time
_MOST_EDGE_BYTES = 256 * 2**20
_VALIDATION_EDGES = 4000  # of a sentence that is not a probe, about 35 kB: there may be many of them


class RunRecorder:
    """Collects the records of one run, and compares each validation with the last one and with the start.

    Args:
        n_probes: number of probes, the first of the recorded sentences.
        monitor: name of the monitor, empty if there is one only.

    Attributes:
        log: the records.
        start: flows before training, a reference of drift.
        last: flows of the last logged validation.
    """

    def __init__(self, n_probes: int, monitor: str = "") -> None:
        self.log = RunLog()
        self.start, self.last = Reference(), Reference()
        self._n_probes, self._monitor = n_probes, monitor
        self._described: set[str] = set()
        self._names: dict[str, str] = {}

    def state(self) -> dict[str, Any]:
        """Return the references of drift, for a checkpoint."""
        return {"start": self.start.state(), "last": self.last.state()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Restore the references of drift."""
        self.start = Reference.from_state(state.get("start", {}))
        self.last = Reference.from_state(state.get("last", {}))

    def add(
        self,
        step: int,
        epoch: int,
        sentences: Sequence[MonitoredSentence],
        scalars: Mapping[str, float],
        progress: float | None = None,
    ) -> tuple[list[Record], list[Verdict]]:
        """Add one validation and return its records and the verdicts.

        Args:
            step: global step.
            epoch: of the training.
            sentences: the probes, then validation sentences.
            scalars: metrics of the run by name.
            progress: share of the training that is done, if it is known.
        """
        records = []
        for one in sentences:
            if (name := self._name(one)) is not None:
                records.append(_sentence(step, name, one, self.last, self.start))
                self.log.add(records[-1])
        layers = mean_of_layers(sentences)
        options: dict[str, Any] = {
            "step": step,
            "epoch": epoch,
            "scalars": scalars,
            "layers": layers,
            "progress": progress,
        }
        self.log.add(step_record(**options))
        verdicts = find_verdicts(self.log, step)
        of_step = step_record(**options, verdicts=[verdict.to_json() for verdict in verdicts])
        self.log.add(of_step)
        self.log.limit_edges(_MOST_EDGE_BYTES)
        return [of_step, *records], verdicts

    def scalars(
        self, sentences: Sequence[MonitoredSentence], watched: set[str], *, layers: bool, has_tokenizer: bool
    ) -> dict[str, float]:
        """Return the metrics of a validation.

        Args:
            sentences: of the validation.
            watched: metrics that callbacks monitor. A drift among them is 1 if there is nothing to compare with.
            layers: whether to add the metrics of every layer.
            has_tokenizer: without a tokenizer special tokens are unknown.
        """
        values = run_scalars(sentences, self.last, self.start)
        if layers:
            values |= layer_scalars(sentences, self.last, has_tokenizer=has_tokenizer)
        if not self.last:
            values |= dict.fromkeys(watched.intersection(RELATIVE_TO_LAST) - values.keys(), 1.0)
        return values

    def write(
        self,
        trainer: Any,
        prefix: str,
        step: int,
        sentences: Sequence[MonitoredSentence],
        values: Mapping[str, float],
    ) -> list[Verdict]:
        """Add one validation, write it through the loggers of a trainer, and return the verdicts.

        Of a monitor with a name the sentences are written only: a step has one record of metrics.
        """
        of_run = {name: value for name, value in values.items() if "/" not in name}
        fitting = trainer.state.fn == TrainerFn.FITTING
        steps = trainer.estimated_stepping_batches if fitting else math.inf
        progress = trainer.global_step / steps if 0 < steps < math.inf else None
        records, verdicts = self.add(step, trainer.current_epoch, sentences, of_run, progress)
        records = records[1:] if self._monitor else records
        write_records(records, trainer.loggers, trainer.default_root_dir)
        new = {name: value for name, value in of_run.items() if name not in self._described}
        write_descriptions(new, step, trainer.loggers, prefix)
        of_layers = values.keys() - of_run.keys()
        if of_layers and not of_layers & self._described:
            write_layout(list(of_layers), trainer.loggers, prefix)
        self._described |= values.keys()
        write_verdicts(verdicts, step, trainer.loggers, prefix)
        return verdicts

    def log_page(self, trainer: Any, prefix: str) -> None:
        """Log the page of all validations; TensorBoard has the plugin instead."""
        if not self.log.sentences:
            return
        page, step = (
            page_html({RUN_TITLE: self.log}, title=RUN_TITLE),
            trainer.fit_loop.epoch_loop._batches_that_stepped,
        )
        for logger in media_loggers(trainer.loggers, trainer.default_root_dir):
            if not isinstance(logger, TensorBoardMedia):
                logger.log_page(f"{prefix}/page", page, step)

    def _name(self, one: MonitoredSentence) -> str | None:
        """The name of a sentence, the same in every validation; None if there are too many sentences."""
        if one.key not in self._names:
            number = len(self._names)
            if number >= _MOST_SENTENCES:
                return None
            is_probe = number < self._n_probes
            name = f"probe_{number:02d}" if is_probe else f"sentence_{number - self._n_probes:02d}"
            self._names[one.key] = f"{self._monitor}_{name}" if self._monitor else name
        return self._names[one.key]


def write_records(records: Sequence[Record], loggers: Sequence[Any], default_root_dir: str | Path) -> None:
    """Write records as summaries of TensorBoard, and for other loggers as lines of a file in their log directory."""
    for logger in loggers:
        if writer := _tensorboard_writer(logger):
            for record in records:
                writer.add_summary(record_summary(record), record["step"])
        elif "DummyLogger" not in logger_kinds(logger):
            path = log_directory(logger, default_root_dir) / FILE_NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.writelines(to_bytes(record) + b"\n" for record in records)


def write_descriptions(scalars: Mapping[str, float], step: int, loggers: Sequence[Any], prefix: str) -> None:
    """Write scalars with their descriptions, which TensorBoard reads from the first summary of a tag."""
    described = {f"{prefix}/{name}": (value, SCALARS[name]) for name, value in scalars.items() if name in SCALARS}
    for logger in loggers:
        if writer := _tensorboard_writer(logger):
            writer.add_summary(described_scalars(described), step)


def write_layout(names: Sequence[str], loggers: Sequence[Any], prefix: str) -> None:
    """Group the scalars of the layers, ``name/layer_00`` and so on, in the custom scalars tab of TensorBoard."""
    layout = layer_layout(sorted({name.partition("/")[0] for name in names if "/layer_" in name}), prefix)
    for logger in loggers:
        if _tensorboard_writer(logger):
            logger.experiment.add_custom_scalars(layout)


def write_verdicts(verdicts: Sequence[Verdict], step: int, loggers: Sequence[Any], prefix: str) -> None:
    """Write verdicts to the text tab of TensorBoard."""
    text = "\n\n".join(f"**{markdown_text(verdict.text)}** {markdown_text(verdict.rule)}" for verdict in verdicts)
    for logger in loggers:
        if text and _tensorboard_writer(logger):
            logger.experiment.add_text(f"{prefix}/verdicts", text, step)


def _sentence(step: int, name: str, one: MonitoredSentence, last: Reference, start: Reference) -> Record:
    flows: dict[str, FlowPart] = {}
    is_brief = one.attention is not None and isinstance(one.heads, str) and not one.heads  # not a probe
    if one.conductance is not None:
        flows["conductance"] = conductance_part(one.conductance, one.prediction or None)
    if one.attention is not None:
        flow = one.attention
        whole = flow.values.sum(axis=1, keepdims=True)
        ranges = {"lower": flow.lower / whole, "upper": flow.upper / whole}
        flows["attention_flow"] = FlowPart(flow.values / whole, **ranges, saturation=flow.saturation)
        flows["rollout"] = FlowPart(flow.rollout / flow.rollout.sum(axis=1, keepdims=True))
        if flow.attention is not None:
            received = np.concatenate([flow.attention.mean(axis=1), flows["rollout"].values[-1:]])
            heads, reason = (None, one.heads) if isinstance(one.heads, str) else (one.heads, "")
            reason = _NO_HEADS if is_brief else reason
            flows["attention"] = FlowPart(received, edges=flow.attention, heads=heads, without_heads=reason)
    drifts = {"drift": sentence_drift(one, last), "drift_from_start": sentence_drift(one, start)}
    known = one.target is not None and math.isfinite(one.probability)
    return sentence_record(
        step=step,
        name=name,
        words=one.labels,
        is_special=np.asarray(one.special, dtype=bool).tolist(),
        text=one.text,
        flows=flows,
        prediction=Prediction(one.prediction, one.probability, one.classes) if known else None,
        label=one.label or None,
        numbers={key: value for key, value in drifts.items() if math.isfinite(value)},
        max_edges=_VALIDATION_EDGES if is_brief else MAX_EDGES,
    )


def _tensorboard_writer(logger: Any) -> Any:
    """The event-file writer of a TensorBoard logger; None for other loggers, and without the tensorboard package."""
    if "TensorBoardLogger" not in logger_kinds(logger) or find_spec("tensorboard") is None:
        return None  # tensorboardX has other summaries
    return logger.experiment._get_file_writer()
