"""``AttentionFlowMonitor``: logs the attention flow of sentences at the end of every validation."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning.pytorch as pl
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from transformers import PreTrainedTokenizerBase

from lightning_attnflow._checks import check_choice, check_integer
from lightning_attnflow._state import preserve_rng
from lightning_attnflow.callbacks.arguments import check_name, check_probes, integer_of, load_tokenizer
from lightning_attnflow.callbacks.budget import OverheadBudget
from lightning_attnflow.callbacks.evaluation import EvaluationCallback
from lightning_attnflow.callbacks.measure import Flow, FlowSettings, Measured, Method
from lightning_attnflow.callbacks.monitored_sentence import MonitoredSentence
from lightning_attnflow.callbacks.recorder import RUN_TITLE, RunRecorder
from lightning_attnflow.callbacks.schedule import ValidationSchedule, Watchers, start_messages
from lightning_attnflow.callbacks.sentence_media import log_flow_histograms, log_sentences
from lightning_attnflow.callbacks.sentences import ValidationSentences
from lightning_attnflow.callbacks.summary import Reference
from lightning_attnflow.errors import InputError
from lightning_attnflow.viewer import write_page

T = TypeVar("T")

NO_DRIFT = (
    "drift is not logged: no sentence was in the last validation. Do not shuffle the validation set, or pass probes=."
)


class AttentionFlowMonitor(EvaluationCallback):
    """Log how the prediction flows through the layers, for validation and probe sentences, after every validation.

    Two flows of each sentence are computed: the *conductance flow* of the predicted class (signed, conserved, see
    ``conductance_flow``), which needs a tokenizer and the logits of a Hugging Face model, or of the forward of a module
    with a head of its own; and the *attention flow* (Shapley values of the flow through the attention network, see
    ``attention_flow``), which needs the attention weights only.

    At most twelve scalars are logged, ``attnflow/probability``, ``attnflow/drift`` and so on, averaged over the
    sentences; ``lightning_attnflow.callbacks.SCALARS`` says what each of them means. For each probe (for the first
    sentence, if there are no probes) a heat map and a table of the words are logged. Loggers without media support get
    PNG and Markdown files in their log directory.

    Training is bit-identical with and without the monitor. It runs in ``trainer.fit``, ``trainer.validate`` and, with
    metrics named ``attnflow_test/...``, in ``trainer.test``; not in ``trainer.predict``. The weights are those of the
    validation batches, also with callbacks that average weights. Before the first training step the flows of the probes
    are computed, as the reference of ``attnflow/drift_from_start``. A drift that EarlyStopping or ModelCheckpoint
    monitors is 1 at the first validation, if there is nothing to compare with. Pass ``auto_insert_metric_name=False``
    to a ModelCheckpoint with such a metric in its file names, because the slash in the name would make a folder.
    Sentences are taken evenly from all validation dataloaders and processes. Strategies that shard the model are not
    supported.

    Args:
        tokenizer: the model's tokenizer, or its name or path. Without it, tokens are named by their ids and there is no
            conductance flow.
        probes: sentences to monitor in addition to validation sentences; they require a tokenizer.
        name: part of the names of metrics, media and files, ``attnflow_<name>/...``, for several monitors in a trainer.
        every_n_validations: log the first validation and every n-th after it; every one, while a callback such as
            EarlyStopping monitors one of the metrics.
        max_sentences: number of validation sentences, taken from the first batches; 0 monitors the probes only.
        flow: "both", "conductance" or "attention". With "both", a model without logits has its attention flow only.
        method: of the attention flow: "shapley", "pairwise", "single" or "rollout", see ``attention_flow``.
        readout: of the attention flow: "first", "last", "mean", "all" or a position. "auto" is the last token of a
            causal model, what a sequence classification head reads (usually the first token), otherwise the mean; the
            choice is logged.
        heads: of the attention flow: "mean", "max" or "min" over the heads, or the index of a head.
        residual: of the attention flow: share of the residual stream in every layer, in [0, 1).
        words: group the tokens of each word. Requires a fast tokenizer; sentences whose words cannot be determined are
            shown token by token.
        scalars: "run" logs at most twelve scalars; "layers" adds those of every layer and histograms.
        max_overhead: share of the duration of the fit that the monitor may take. When the validation sentences would
            exceed it, fewer are used, and this is logged once. Probes are always shown; if they take more than this
            share, it is logged at the end of the fit. None: no limit.
        model: attribute path of the Hugging Face model in the LightningModule; default: the only one.
        inputs: function from a batch to the keyword arguments of that model; default: the known keys of a mapping.
        seed: of the sampled permutations, the same in every epoch.
        on_error: "warn" warns and disables the monitor; "raise" raises.
        every_n_epochs: old name of ``every_n_validations``.

    Attributes:
        latest: probes (or the first sentence) at the last logged validation: ``text``, ``labels``, ``prediction``,
            ``probability``, and the flows ``attention`` and ``conductance``, which are None if they are not available.
            Empty in the main process of ddp_spawn and ddp_notebook, whose processes end with the fit.

    Raises:
        InputError: an invalid argument.

    Source: Ethayarajh & Jurafsky, "Attention Flows are Shapley Value Explanations" (ACL 2021).

    Example:
        >>> monitor = AttentionFlowMonitor(max_sentences=4, readout="last", every_n_validations=2)
        >>> monitor.latest
        ()
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | str | None = None,
        *,
        probes: Sequence[str] = (),
        name: str = "",
        every_n_validations: int = 1,
        max_sentences: int = 8,
        flow: Flow = "both",
        method: Method = "shapley",
        readout: str | int = "auto",
        heads: str | int = "mean",
        residual: float = 0.5,
        words: bool = True,
        scalars: Literal["run", "layers"] = "run",
        max_overhead: float | None = 0.02,
        model: str | None = None,
        inputs: Callable[[Any], Mapping[str, Any]] | None = None,
        seed: int = 0,
        on_error: Literal["warn", "raise"] = "warn",
        every_n_epochs: int | None = None,
    ) -> None:
        super().__init__(on_error)
        readout, heads = integer_of(readout), integer_of(heads)
        self.settings = FlowSettings(flow, method, readout, heads, residual, words, seed)  # type: ignore[arg-type]
        check_choice("scalars", scalars, ("run", "layers"))
        self.scalars = scalars
        self.budget = OverheadBudget(max_overhead)
        self.name = check_name(name)
        if every_n_epochs is not None:
            warnings.warn("every_n_epochs was renamed every_n_validations", FutureWarning, stacklevel=2)
            every_n_validations = every_n_epochs
        self.schedule = ValidationSchedule(every_n_validations)
        self.max_sentences = check_integer("max_sentences", max_sentences, minimum=0)
        self.probes = check_probes(probes, self.max_sentences)
        self.tokenizer = load_tokenizer(tokenizer, required=bool(self.probes))
        self.model, self.inputs = model, inputs
        self.latest: tuple[MonitoredSentence, ...] = ()
        self._sentences = ValidationSentences(
            self.tokenizer, self.probes, self.max_sentences, model, inputs, self.settings, self.budget
        )
        self._module: weakref.ref[pl.LightningModule] | None = None  # whose flows are the references of drift
        self._recorder = RunRecorder(len(self.probes), self.name)
        self._logged: set[str] = set()
        self._spent_before = 0.0  # this validation

    # Hooks

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Check the names of the monitors; start anew with another module, and after a failure."""
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        others = [one for one in callbacks if isinstance(one, AttentionFlowMonitor) and one is not self]
        if any(one.name == self.name for one in others):
            raise InputError(
                f"name of {1 + len(others)} AttentionFlowMonitors",
                got=f"{self.name!r} twice",
                expected="different names, because the names of metrics and files start with them",
                remedy='Pass name="second" to one of them.',
            )
        self._failure, self._disabled = None, trainer.barebones
        self._sentences.start()
        if trainer.barebones and stage == "fit":
            rank_zero_info("AttentionFlowMonitor: off, because Trainer(barebones=True) logs nothing.")
        if self._module is None or self._module() is not pl_module:
            self._module = weakref.ref(pl_module)
            self._recorder, self.latest = RunRecorder(len(self.probes), self.name), ()
            self.schedule.n_validations = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the model before training starts."""
        self.budget.start()
        if not self._disabled:
            self.attempt(trainer, lambda: self._sentences.transformer(trainer, pl_module))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the flows of the probes before training, unless the run is resumed."""
        if self._disabled:
            return
        self.attempt(trainer, lambda: self._say_when(trainer))
        if self._disabled or self._recorder.start or trainer.global_step:
            return
        self._sentences.clear()
        with self.budget.timed():
            if not self.probes:
                self.attempt(trainer, lambda: self._sentences.check(trainer, pl_module))
            gathered = self._measured(trainer, pl_module) if self.probes else None
            if gathered is not None:
                sentences = [one for part in gathered for one in part.sentences]
                self._recorder.start = self._recorder.last = Reference.of(sentences)
                if trainer.is_global_zero:
                    self.attempt(trainer, lambda: self._record(trainer, sentences, self._scalars(trainer, sentences)))
        self.budget.spent_before_training = self.budget.spent

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Discard the sentences of the last validation, and count this one."""
        self._sentences.clear()
        self._spent_before = self.budget.spent
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self.schedule.advance()

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,
    ) -> None:
        """Copy sentences from the batch, before the module can change it."""
        if self._is_due(trainer) and self._failure is None:
            loaders = trainer.num_test_batches if trainer.testing else trainer.num_val_batches
            with self.budget.timed():
                self.attempt(
                    trainer,
                    lambda: self._sentences.collect(trainer, pl_module, batch, dataloader_idx, len(loaders)),
                )

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,  # noqa: ARG002
    ) -> None:
        """Measure the sentences now, with the weights of this validation: averaged weights may be replaced after it."""
        if self._is_due(trainer) and self._failure is None:
            with self.budget.timed():
                self.attempt(trainer, lambda: self._sentences.measure(trainer, pl_module))

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log what was measured."""
        if self._disabled and trainer.state.fn == TrainerFn.FITTING:
            Watchers(trainer, f"{self.prefix}/").hold()
        if self._is_due(trainer):
            self._log(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Keep callbacks that watch the metrics of a disabled monitor from ending the training."""
        if self._disabled:
            Watchers(trainer, f"{self.prefix}/").hold()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure and log the probes, if there is no validation."""
        if self._disabled or not self.probes or trainer.enable_validation:
            return
        self._sentences.clear()
        self._spent_before = self.budget.spent
        self.schedule.advance()
        if self._is_due(trainer):
            self._log(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Log the page of the run, and release the time limit, which applies to the fit only."""
        if trainer.is_global_zero and not self._disabled:
            with self.budget.timed():
                self.attempt(trainer, lambda: self._recorder.log_page(trainer, self.prefix))
            if excess := self.budget.excess():
                self._log_once({"excess": excess})
        self.budget.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Release the sentences; ``teardown`` is not called after an exception."""
        self._sentences.clear()
        self.budget.stop()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Release the sentences."""
        self._sentences.clear()

    # State

    @property
    def prefix(self) -> str:
        """First part of the names of metrics and media: ``attnflow``, or ``attnflow_<name>``."""
        return f"attnflow_{self.name}" if self.name else "attnflow"

    @property
    def state_key(self) -> str:
        """Key of this monitor in checkpoints, unique for its name and settings."""
        settings = {name: value for name, value in vars(self.settings).items() if name != "seed"}
        return self._generate_state_key(name=self.name, **settings, model=self.model, probes=self.probes)

    def state_dict(self) -> dict[str, Any]:
        """Return the references of drift, before training and at the last logged validation, and the schedule."""
        return {**self._recorder.state(), "n_validations": self.schedule.n_validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the references of drift and the schedule."""
        self._recorder.load(state_dict)
        self.schedule.n_validations = state_dict.get("n_validations", 0)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the reference to the module, which cannot be pickled."""
        return vars(self) | {"_module": None}

    # Steps

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if self._disabled or trainer.sanity_checking:
            return False
        return trainer.state.fn != TrainerFn.FITTING or self.schedule.is_due

    def _say_when(self, trainer: pl.Trainer) -> None:
        """Say at the start of a fit if nothing will be logged, or at other times than expected."""
        watchers = Watchers(trainer, f"{self.prefix}/")
        self.schedule.is_watched = bool(watchers.metrics)
        notes, warning = start_messages(trainer, watchers, self.schedule, has_probes=bool(self.probes))
        self._log_once(notes)
        if warning:
            rank_zero_warn(f"AttentionFlowMonitor {warning}")

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather and log the sentences of all processes."""
        prefix = self._stage_prefix(trainer)
        sync = trainer.world_size > 1  # all processes hold the same numbers, so averaging does not change them
        with self.budget.timed(logging=True):
            gathered = self._measured(trainer, pl_module)
            self._sentences.clear()
            sentences = [one for part in gathered or () for one in part.sentences]
            if gathered is None or not sentences:
                return
            values = self.attempt(trainer, lambda: self._scalars(trainer, sentences))
            if values is None:
                return
            self._log_once({topic: note for part in reversed(gathered) for topic, note in part.notes.items()})
            if self._recorder.last.targets and not self._recorder.last.knows(sentences):
                self._log_once({"drift": NO_DRIFT})
            if not trainer.testing:
                if trainer.is_global_zero:
                    self.attempt(trainer, lambda: self._record(trainer, sentences, values))
                self._recorder.last = Reference.of(sentences)
            pl_module.log_dict({f"{prefix}/{name}": value for name, value in values.items()}, sync_dist=sync)
            if trainer.is_global_zero:
                self.latest = tuple(gathered[0].sentences[: len(self.probes) or 1])
                self.attempt(trainer, lambda: self._show(trainer, prefix, sentences))
        seconds = self.budget.spent - self._spent_before
        pl_module.log(f"{prefix}/seconds", seconds, reduce_fx="max", sync_dist=sync)

    def _scalars(self, trainer: pl.Trainer, sentences: list[MonitoredSentence]) -> dict[str, float]:
        prefix = f"{self._stage_prefix(trainer)}/"
        watched = {name.removeprefix(prefix) for name in Watchers(trainer, prefix).metrics}
        has_tokenizer, layers = self.tokenizer is not None, self.scalars == "layers"
        return self._recorder.scalars(sentences, watched, layers=layers, has_tokenizer=has_tokenizer)

    def _stage_prefix(self, trainer: pl.Trainer) -> str:
        return f"{self.prefix}_test" if trainer.testing else self.prefix

    def _record(self, trainer: pl.Trainer, sentences: list[MonitoredSentence], values: Mapping[str, float]) -> None:
        """Write what the page shows through the loggers, and the verdicts to the console."""
        step = _step(trainer)
        verdicts = self._recorder.write(trainer, self.prefix, step, sentences, values)
        self._log_once({f"verdict: {verdict.text}": f"step {step}: {verdict.text}" for verdict in verdicts})

    def to_html(self, path: str | Path) -> Path:
        """Write an interactive page of all logged validations, without network requests, and return its path.

        Args:
            path: file to write, in UTF-8.

        Raises:
            InputError: no validation was logged yet.
        """
        if not self._recorder.log.sentences:
            raise InputError("AttentionFlowMonitor", got="no logged validation", expected="at least one")
        return write_page(path, {RUN_TITLE: self._recorder.log}, title=RUN_TITLE)

    def _show(self, trainer: pl.Trainer, prefix: str, sentences: list[MonitoredSentence]) -> None:
        """Log a figure and a table of each probe, or of the first sentence, and histograms of the layers."""
        step = _step(trainer)
        kind = "probe" if self.probes else "sentence"
        self._log_once(log_sentences(trainer, f"{prefix}/{kind}", self.latest, step))
        if self.scalars == "layers":
            log_flow_histograms(trainer, f"{prefix}/attention_flow", sentences, step)

    # Messages and errors

    def _log_once(self, messages: Mapping[str, str]) -> None:
        for topic, message in messages.items():
            if topic not in self._logged:
                rank_zero_info(f"AttentionFlowMonitor: {message}")
        self._logged |= messages.keys()

    def attempt(self, trainer: pl.Trainer, step: Callable[[], T]) -> T | None:
        """Run a step and restore the global RNGs; return None if it failed."""
        with preserve_rng():
            return super().attempt(trainer, step)

    def on_disabled(self, trainer: pl.Trainer) -> str:
        """Name the callbacks that monitor its metrics."""
        names = ", ".join(Watchers(trainer, f"{self.prefix}/").names)
        return f" Until the end of this run the metric stays as it is, without effect, for {names}." if names else ""

    def _measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> list[Measured] | None:
        """Return the sentences of all processes by rank; None if one of them failed."""
        if self._failure is None:
            self.attempt(trainer, lambda: self._sentences.measure(trainer, pl_module))
        return self.gather(trainer, self._sentences.result())


def _step(trainer: pl.Trainer) -> int:
    """Return the step that ``log_dict`` uses."""
    step: int = trainer.fit_loop.epoch_loop._batches_that_stepped
    return step
