"""``AttentionFlowMonitor``: logs the attention flow of sentences at the end of every validation."""

from __future__ import annotations

import re
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from transformers import PreTrainedTokenizerBase

from lightning_attnflow._checks import check_choice, check_integer
from lightning_attnflow._state import preserve_rng
from lightning_attnflow.callbacks.budget import OverheadBudget
from lightning_attnflow.callbacks.measure import Flow, FlowSettings, Measured, Method, MonitoredSentence
from lightning_attnflow.callbacks.recorder import RunRecorder
from lightning_attnflow.callbacks.schedule import ValidationSchedule, Watchers, has_validation
from lightning_attnflow.callbacks.sentences import ValidationSentences
from lightning_attnflow.callbacks.summary import Reference, layer_scalars, run_scalars
from lightning_attnflow.errors import AttnFlowError, InputError
from lightning_attnflow.plots.loggers import log_histograms, log_sentence, media_loggers

T = TypeVar("T")

NO_DRIFT = (
    "drift is not logged: no sentence was in the last validation. Do not shuffle the validation set, or pass probes=."
)
LATEST_ELSEWHERE = (
    "this process ends with the fit, so monitor.latest stays empty in the main process; the loggers and "
    "trainer.callback_metrics have the results."
)
RELATIVE_TO_LAST = ("drift", "attention_drift", "flips")


class AttentionFlowMonitor(pl.Callback):
    """Log how the prediction flows through the layers, for validation and probe sentences, after every validation.

    Two flows of each sentence are computed: the *conductance flow* of the predicted class (signed, conserved, see
    ``conductance_flow``), which needs a Hugging Face model with a classification or language modelling head and its
    tokenizer; and the *attention flow* (Shapley values of the flow through the attention network, see
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
            exceed it, fewer are used, and this is logged once. Probes are always shown. None: no limit.
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
        super().__init__()
        readout, heads = _integer(readout), _integer(heads)
        self.settings = FlowSettings(flow, method, readout, heads, residual, words, seed)  # type: ignore[arg-type]
        check_choice("on_error", on_error, ("warn", "raise"))
        check_choice("scalars", scalars, ("run", "layers"))
        self.scalars = scalars
        self.budget = OverheadBudget(max_overhead)
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]*", name, re.ASCII) or name == "test":
            raise InputError("name", got=repr(name), expected="letters, digits, '_', '.' and '-', other than 'test'")
        self.name = name
        if every_n_epochs is not None:
            warnings.warn("every_n_epochs was renamed every_n_validations", FutureWarning, stacklevel=2)
            every_n_validations = every_n_epochs
        self.schedule = ValidationSchedule(every_n_validations)
        self.max_sentences = check_integer("max_sentences", max_sentences, minimum=0)
        if isinstance(probes, str) or (not probes and not max_sentences):
            got = repr(probes) + ("" if probes else " and max_sentences=0")
            raise InputError("probes", got=got, expected="a list of sentences, or max_sentences > 0")
        if probes and tokenizer is None:
            raise InputError("tokenizer", got="None with probes", expected="the tokenizer of the model")
        if isinstance(tokenizer, str):
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.tokenizer, self.probes = tokenizer, tuple(probes)
        self.model, self.inputs, self.on_error = model, inputs, on_error
        self.latest: tuple[MonitoredSentence, ...] = ()
        self._sentences = ValidationSentences(
            tokenizer, self.probes, self.max_sentences, model, inputs, self.settings, self.budget
        )
        self._module: weakref.ref[pl.LightningModule] | None = None  # whose flows are the references of drift
        self._start, self._last = Reference(), Reference()
        self._recorder = RunRecorder(len(self.probes), self.name)
        self._failure: Exception | None = None
        self._disabled = False
        self._logged: set[str] = set()
        self._seconds = 0.0

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
        if trainer.barebones and stage == "fit":
            rank_zero_info("AttentionFlowMonitor: off, because Trainer(barebones=True) logs nothing.")
        if self._module is None or self._module() is not pl_module:
            self._module = weakref.ref(pl_module)
            self._start, self._last, self.latest = Reference(), Reference(), ()
            self._recorder = RunRecorder(len(self.probes), self.name)
            self.schedule.n_validations = 0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the model before training starts."""
        self.budget.start()
        if not self._disabled:
            self._attempt(trainer, lambda: self._sentences.transformer(trainer, pl_module))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the flows of the probes before training, unless the run is resumed."""
        if self._disabled:
            return
        self._attempt(trainer, lambda: self._say_when(trainer))
        if self._disabled or self._start.targets or self._start.attention or trainer.global_step:
            return
        started = time.perf_counter()
        self._sentences.clear()
        if self.probes and (gathered := self._gather(trainer, pl_module)) is not None:
            sentences = [one for part in gathered for one in part.sentences]
            self._start = self._last = Reference.of(sentences)
            if trainer.is_global_zero:
                self._attempt(trainer, lambda: self._record(trainer, sentences, run_scalars(sentences, *self._both())))
        self.budget.spend(time.perf_counter() - started)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Discard the sentences of the last validation, and count this one."""
        self._sentences.clear()
        self._seconds = 0.0
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
            with self._timed():
                self._attempt(
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
            with self._timed():
                self._attempt(trainer, lambda: self._sentences.measure(trainer, pl_module))

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
        self._seconds = 0.0
        self.schedule.advance()
        if self._is_due(trainer):
            self._log(trainer, pl_module)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Log the page of the run, and release the time limit, which applies to the fit only."""
        self.budget.stop()
        if trainer.is_global_zero and not self._disabled:
            self._attempt(trainer, lambda: self._recorder.log_page(trainer, self.prefix))

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Like a validation."""
        self.on_validation_epoch_start(trainer, pl_module)

    def on_test_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Like a validation."""
        self.on_validation_batch_start(trainer, pl_module, *batch)

    def on_test_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *batch: Any) -> None:
        """Like a validation."""
        self.on_validation_batch_end(trainer, pl_module, *batch)

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Like a validation; the metrics are named ``attnflow_test/...``."""
        self.on_validation_epoch_end(trainer, pl_module)

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
        return {
            "start": self._start.state(),
            "last": self._last.state(),
            "n_validations": self.schedule.n_validations,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the references of drift and the schedule."""
        self._start, self._last = (Reference.from_state(state_dict.get(name, {})) for name in ("start", "last"))
        self.schedule.n_validations = state_dict.get("n_validations", 0)

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the reference to the module, which cannot be pickled."""
        return vars(self) | {"_module": None}

    # Steps

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if self._disabled or trainer.sanity_checking:
            return False
        return trainer.state.fn != TrainerFn.FITTING or self.schedule.is_due

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - started

    def _say_when(self, trainer: pl.Trainer) -> None:
        """Say at the start of a fit if nothing will be logged, or at other times than expected."""
        watchers = Watchers(trainer, f"{self.prefix}/")
        self.schedule.is_watched = bool(watchers.metrics)
        if watchers.metrics and self.schedule.every_n > 1:
            self._log_once({"watched": f"every validation is logged, because of {', '.join(watchers.names)}."})
        if not trainer.enable_validation and self.probes:
            self._log_once({"training": "there is no validation; probes are logged at the end of training epochs."})
        elif not has_validation(trainer):
            rank_zero_warn(
                "AttentionFlowMonitor will log nothing: the fit has no validation. Add a validation loader and "
                "validation_step, check limit_val_batches and check_val_every_n_epoch, or pass probes=."
            )
        if any("MultiProcessing" in kind.__name__ for kind in type(trainer.strategy.launcher).__mro__):
            self._log_once({"latest": LATEST_ELSEWHERE})

    def _log(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather and log the sentences of all processes."""
        started = time.perf_counter()
        gathered = self._gather(trainer, pl_module)
        self._sentences.clear()
        sentences = [one for part in gathered or () for one in part.sentences]
        if gathered is None or not sentences:
            return
        prefix = f"{self.prefix}_test" if trainer.testing else self.prefix
        values = self._attempt(trainer, lambda: self._scalars(trainer, prefix, sentences))
        if values is None:
            return
        self._log_once({topic: note for part in reversed(gathered) for topic, note in part.notes.items()})
        if self._last.targets and not self._last.knows(sentences):
            self._log_once({"drift": NO_DRIFT})
        sync = trainer.world_size > 1  # all processes hold the same numbers, so averaging does not change them
        if not trainer.testing:
            if trainer.is_global_zero:
                self._attempt(trainer, lambda: self._record(trainer, sentences, values))
            self._last = Reference.of(sentences)
        pl_module.log_dict({f"{prefix}/{name}": value for name, value in values.items()}, sync_dist=sync)
        if trainer.is_global_zero:
            own = gathered[0].sentences
            self.latest = tuple(own[: len(self.probes) or 1])
            self._attempt(trainer, lambda: self._log_media(trainer, prefix, sentences))
        seconds = self._seconds + time.perf_counter() - started
        self.budget.spend(seconds)
        pl_module.log(f"{prefix}/seconds", seconds, reduce_fx="max", sync_dist=sync)

    def _scalars(self, trainer: pl.Trainer, prefix: str, sentences: list[MonitoredSentence]) -> dict[str, float]:
        """Return the metrics of the sentences, and those that callbacks watch at the first validation."""
        values = run_scalars(sentences, *self._both())
        if self.scalars == "layers":
            values |= layer_scalars(sentences, self._last, has_tokenizer=self.tokenizer is not None)
        if not (self._last.targets or self._last.attention):
            watched = {name.removeprefix(f"{prefix}/") for name in Watchers(trainer, f"{prefix}/").metrics}
            values |= dict.fromkeys(watched.intersection(RELATIVE_TO_LAST) - values.keys(), 1.0)
        return values

    def _both(self) -> tuple[Reference, Reference]:
        return self._last, self._start

    def _record(self, trainer: pl.Trainer, sentences: list[MonitoredSentence], values: Mapping[str, float]) -> None:
        """Write what the page shows through the loggers, and the verdicts to the console."""
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # the step that log_dict uses
        verdicts = self._recorder.write(trainer, self.prefix, step, sentences, values, *self._both())
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
        return self._recorder.write_page(path, "run")

    def _log_media(self, trainer: pl.Trainer, prefix: str, sentences: list[MonitoredSentence]) -> None:
        loggers = media_loggers(trainer.loggers, trainer.default_root_dir)
        if not loggers:
            return
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # the step that log_dict uses
        name = f"{prefix}/{'probe' if self.probes else 'sentence'}"
        drawn = [
            log_sentence(loggers, f"{name}_{index:02d}", one.conductance or one.attention, one.title(step), step)
            for index, one in enumerate(self.latest)
        ]
        if not all(drawn):
            self._log_once({"figures": "no heat maps without matplotlib: pip install 'lightning-attnflow[plots]'."})
        if self.scalars == "layers":
            flows = [one.attention for one in sentences if one.attention is not None]
            log_histograms(loggers, f"{prefix}/attention_flow", flows, step)

    # Messages and errors

    def _log_once(self, messages: Mapping[str, str]) -> None:
        for topic, message in messages.items():
            if topic not in self._logged:
                rank_zero_info(f"AttentionFlowMonitor: {message}")
        self._logged |= messages.keys()

    def _attempt(self, trainer: pl.Trainer, step: Callable[[], T]) -> T | None:
        """Run a step and restore the global RNGs. On failure raise or disable the monitor.

        Several processes disable it together, when they next exchange results.
        """
        try:
            with preserve_rng():
                return step()
        except Exception as error:
            if self.on_error == "raise":
                raise
            self._failure = error
            if trainer.world_size == 1:
                self._disable(trainer, _describe(error))
            return None

    def _gather(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> list[Measured] | None:
        """Return the sentences of all processes by rank; None if one of them failed."""
        if self._failure is None:
            self._attempt(trainer, lambda: self._sentences.measure(trainer, pl_module))
        if self._disabled:
            return None
        own = (_describe(self._failure), None) if self._failure else (None, self._sentences.result())
        everywhere: list[Any] = [own] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(everywhere, own)
        failures = [text for text, _ in everywhere if text is not None]
        if failures:
            self._disable(trainer, failures[0])
            return None
        return [part for _, part in everywhere]

    def _disable(self, trainer: pl.Trainer, reason: str) -> None:
        self._disabled = True
        if self.on_error == "raise":  # the failure was in another process
            raise AttnFlowError("AttentionFlowMonitor", got=reason, expected="no failure in another process")
        names = ", ".join(Watchers(trainer, f"{self.prefix}/").names)
        watchers = (
            f" Until the end of this run the metric stays as it is, without effect, for {names}." if names else ""
        )
        rank_zero_warn(f"AttentionFlowMonitor is disabled, training continues. {reason}{watchers}")


def _integer(value: str | int) -> str | int:
    """Return the integer of a string of digits, as positions and heads arrive from a command line."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
