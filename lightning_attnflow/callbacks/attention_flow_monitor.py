"""``AttentionFlowMonitor``: logs the attention flow of sentences at the end of every validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from transformers import PreTrainedTokenizerBase

from lightning_attnflow._checks import check_choice, check_integer
from lightning_attnflow._state import preserve_rng
from lightning_attnflow.attention.capture import find_transformer
from lightning_attnflow.attention.tokens import check_length, position_limit
from lightning_attnflow.callbacks.batches import encode_probe, first_sentences, model_inputs, padded, part_of, take
from lightning_attnflow.callbacks.budget import OverheadBudget
from lightning_attnflow.callbacks.measure import Flow, FlowSettings, Measured, Method, MonitoredSentence, measure
from lightning_attnflow.callbacks.recorder import (
    RunRecorder,
    write_descriptions,
    write_layout,
    write_records,
    write_verdicts,
)
from lightning_attnflow.callbacks.summary import Reference, layer_scalars, run_scalars
from lightning_attnflow.errors import AttnFlowError, InputError
from lightning_attnflow.plots.loggers import log_histograms, log_sentence, media_loggers
from lightning_attnflow.plots.media_loggers import TensorBoardMedia

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")

NO_DRIFT = (
    "drift is not logged: no sentence was in the last validation. Do not shuffle the validation set, or pass probes=."
)
_SHARDING_STRATEGIES = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


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

    Training is bit-identical with and without the monitor. It runs in ``trainer.fit`` and ``trainer.validate``. Before
    the first training step the flows of the probes are computed, as the reference of ``attnflow/drift_from_start``.
    Sentences are taken evenly from all validation dataloaders and processes. Strategies that shard the model are not
    supported.

    Args:
        tokenizer: the model's tokenizer, or its name or path. Without it, tokens are named by their ids and there is no
            conductance flow.
        probes: sentences to monitor in addition to validation sentences; they require a tokenizer.
        every_n_epochs: run at the end of every n-th epoch with a validation.
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

    Attributes:
        latest: probes (or the first sentence) at the last logged validation: ``text``, ``labels``, ``prediction``,
            ``probability``, and the flows ``attention`` and ``conductance``, which are None if they are not available.

    Raises:
        InputError: an invalid argument.

    Source: Ethayarajh & Jurafsky, "Attention Flows are Shapley Value Explanations" (ACL 2021).

    Example:
        >>> monitor = AttentionFlowMonitor(max_sentences=4, readout="last", every_n_epochs=2)
        >>> monitor.latest
        ()
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | str | None = None,
        *,
        probes: Sequence[str] = (),
        every_n_epochs: int = 1,
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
    ) -> None:
        super().__init__()
        self.settings = FlowSettings(flow, method, readout, heads, residual, words, seed)  # type: ignore[arg-type]
        check_choice("on_error", on_error, ("warn", "raise"))
        check_choice("scalars", scalars, ("run", "layers"))
        self.scalars = scalars
        self.budget = OverheadBudget(max_overhead)
        self.every_n_epochs = check_integer("every_n_epochs", every_n_epochs)
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
        self._recorder = RunRecorder(len(self.probes))
        self._described: set[str] = set()
        self._encodings = [
            encode_probe(tokenizer, text, f"probes[{index}]") for index, text in enumerate(probes) if tokenizer
        ]
        self._start, self._last = Reference(), Reference()
        self._batches: list[list[dict[str, Any]]] = []  # by dataloader
        self._failure: Exception | None = None
        self._disabled = False
        self._logged: set[str] = set()
        self._seconds = 0.0

    # Hooks

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the model before training starts."""
        self.budget.start()
        self._attempt(trainer, lambda: self._transformer(trainer, pl_module))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the flows of the probes before training, unless the run is resumed."""
        if self._disabled or self._start.targets or self._start.attention or trainer.global_step:
            return
        started = time.perf_counter()
        gathered = self._gather(trainer, lambda: self._measured(trainer, pl_module, n_sentences=0))
        if gathered is not None:
            sentences = [one for part in gathered for one in part.sentences]
            self._start = self._last = Reference.of(sentences)
            if sentences and trainer.is_global_zero:
                self._attempt(trainer, lambda: self._record(trainer, sentences, run_scalars(sentences, *self._both())))
        self._batches = []
        self.budget.spend(time.perf_counter() - started)

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Discard the sentences of the last validation."""
        self._batches, self._seconds = [], 0.0

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,
    ) -> None:
        """Copy sentences from the batch, before the module can change it."""
        if not self._is_due(trainer) or self._failure is not None:
            return
        started = time.perf_counter()
        self._attempt(trainer, lambda: self._collect(trainer, pl_module, batch, dataloader_idx))
        self._seconds += time.perf_counter() - started

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute the flows and log them."""
        if not self._is_due(trainer):
            return
        started = time.perf_counter()
        gathered = self._gather(trainer, lambda: self._measured(trainer, pl_module, n_sentences=self.max_sentences))
        self._batches = []
        if gathered is None:
            return
        sentences = [one for part in gathered for one in part.sentences]
        if not sentences:
            return
        values = run_scalars(sentences, self._last, self._start)
        if self.scalars == "layers":
            values |= layer_scalars(sentences, self._last, has_tokenizer=self.tokenizer is not None)
        self._log_once({topic: note for part in reversed(gathered) for topic, note in part.notes.items()})
        if self._last.targets and not self._last.knows(sentences):
            self._log_once({"drift": NO_DRIFT})
        if trainer.is_global_zero:
            self._attempt(trainer, lambda: self._record(trainer, sentences, values))
        self._last = Reference.of(sentences)
        sync = trainer.world_size > 1  # all processes hold the same numbers, so averaging does not change them
        pl_module.log_dict({f"attnflow/{name}": value for name, value in values.items()}, sync_dist=sync)
        if trainer.is_global_zero:
            own = gathered[0].sentences
            self.latest = tuple(own[: len(self.probes) or 1])
            self._attempt(trainer, lambda: self._log_media(trainer, sentences))
        seconds = self._seconds + time.perf_counter() - started
        self.budget.spend(seconds)
        pl_module.log("attnflow/seconds", seconds, reduce_fx="max", sync_dist=sync)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Log the page of the run, and release the time limit, which applies to the fit only."""
        self.budget.stop()
        if trainer.is_global_zero and self._recorder.log.sentences and not self._disabled:
            self._attempt(trainer, lambda: self._log_page(trainer))

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Release the sentences; ``teardown`` is not called after an exception."""
        self._batches = []

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Release the sentences."""
        self._batches = []

    # State

    @property
    def state_key(self) -> str:
        """Key of this monitor in checkpoints, unique for its settings."""
        settings = {name: value for name, value in vars(self.settings).items() if name != "seed"}
        return self._generate_state_key(**settings, model=self.model)

    def state_dict(self) -> dict[str, Any]:
        """Return the flows before training and at the last logged validation, the references of drift."""
        return {"start": self._start.state(), "last": self._last.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the references of drift."""
        self._start, self._last = (Reference.from_state(state_dict.get(name, {})) for name in ("start", "last"))

    # Steps

    def _is_due(self, trainer: pl.Trainer) -> bool:
        if self._disabled or trainer.sanity_checking:
            return False
        return trainer.state.fn != TrainerFn.FITTING or (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _transformer(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> PreTrainedModel:
        strategy = type(trainer.strategy).__name__
        if strategy in _SHARDING_STRATEGIES:
            raise InputError(
                "AttentionFlowMonitor",
                got=f"{strategy}, which shards the model",
                expected="the whole model in every process",
                remedy="Use strategy='ddp', or validate a checkpoint on one device with the monitor.",
            )
        transformer = find_transformer(pl_module, self.model)
        limit = position_limit(transformer)
        for index, probe in enumerate(self._encodings):
            check_length(f"probes[{index}]", len(probe["input_ids"]), limit)
        return transformer

    def _collect(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, dataloader_idx: int) -> None:
        of_process = part_of(self.max_sentences, trainer.world_size, trainer.global_rank)
        of_loader = part_of(of_process, len(trainer.num_val_batches), dataloader_idx)
        self._batches += [[] for _ in range(dataloader_idx + 1 - len(self._batches))]
        missing = of_loader - sum(len(inputs["input_ids"]) for inputs in self._batches[dataloader_idx])
        if missing > 0:
            inputs = model_inputs(batch, self._transformer(trainer, pl_module), self.inputs)
            self._batches[dataloader_idx].append(first_sentences(inputs, missing))

    def _measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *, n_sentences: int) -> Measured:
        """Return what this process measures: the probes in the first process, then validation sentences."""
        transformer = self._transformer(trainer, pl_module)
        pending = [inputs for of_loader in self._batches for inputs in of_loader]
        shown: list[dict[str, Any]] = []
        if self._encodings:
            if trainer.is_global_zero and self.tokenizer is not None:
                shown = [padded(self._encodings, self.tokenizer.pad_token_id or 0, transformer)]
        else:
            shown, pending = take(pending, 1)
        texts = {tuple(probe["input_ids"]): text for probe, text in zip(self._encodings, self.probes, strict=True)}
        result = measure(transformer, shown, self.tokenizer, self.settings, texts) if shown else Measured([], {})
        n_pending = min(n_sentences, sum(len(inputs["input_ids"]) for inputs in pending))
        while n_pending and (n := self.budget.n_affordable(n_pending)):
            part, pending = take(pending, n)
            started = time.perf_counter()
            more = measure(transformer, part, self.tokenizer, self.settings, texts, edges=False)
            self.budget.observe(time.perf_counter() - started, n)
            self.budget.spend(time.perf_counter() - started)
            result = Measured([*result.sentences, *more.sentences], {**more.notes, **result.notes})
            n_pending -= n
        if n_pending:
            result.notes["max_overhead"] = (
                f"{n_pending} of {n_sentences} validation sentences are left out, to keep the monitor within "
                f"max_overhead={self.budget.share} of the duration of the fit."
            )
        return result

    def _both(self) -> tuple[Reference, Reference]:
        return self._last, self._start

    def _log_page(self, trainer: pl.Trainer) -> None:
        """Log the page of all validations; TensorBoard has the plugin instead."""
        page = self._recorder.page("run")
        for logger in media_loggers(trainer.loggers, trainer.default_root_dir):
            if not isinstance(logger, TensorBoardMedia):
                logger.log_page("attnflow/page", page, trainer.fit_loop.epoch_loop._batches_that_stepped)

    def _record(self, trainer: pl.Trainer, sentences: list[MonitoredSentence], values: Mapping[str, float]) -> None:
        """Write what the page shows through the loggers, and the verdicts to the console and the text tab."""
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # the step that log_dict uses
        of_run = {name: value for name, value in values.items() if "/" not in name}
        steps = trainer.estimated_stepping_batches if trainer.state.fn == TrainerFn.FITTING else float("inf")
        progress = trainer.global_step / steps if 0 < steps < float("inf") else None
        records, verdicts = self._recorder.add(
            step, trainer.current_epoch, sentences, of_run, *self._both(), progress=progress
        )
        write_records(records, trainer.loggers, trainer.default_root_dir)
        new = {name: value for name, value in of_run.items() if name not in self._described}
        write_descriptions(new, step, trainer.loggers)
        of_layers = values.keys() - of_run.keys()
        if of_layers and not of_layers & self._described:
            write_layout(list(of_layers), trainer.loggers)
        self._described |= values.keys()
        write_verdicts(verdicts, step, trainer.loggers)
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

    def _log_media(self, trainer: pl.Trainer, sentences: list[MonitoredSentence]) -> None:
        loggers = media_loggers(trainer.loggers, trainer.default_root_dir)
        if not loggers:
            return
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # the step that log_dict uses
        name = "probe" if self.probes else "sentence"
        drawn = [
            log_sentence(loggers, f"{name}_{index:02d}", one.conductance or one.attention, one.title(step), step)
            for index, one in enumerate(self.latest)
        ]
        if not all(drawn):
            self._log_once({"figures": "no heat maps without matplotlib: pip install 'lightning-attnflow[plots]'."})
        if self.scalars == "layers":
            log_histograms(loggers, [one.attention for one in sentences if one.attention is not None], step)

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
                self._disable(_describe(error))
            return None

    def _gather(self, trainer: pl.Trainer, step: Callable[[], Measured]) -> list[Measured] | None:
        """Run a step in every process and return all results by rank; None if it failed in one of them."""
        result = self._attempt(trainer, step) if self._failure is None else None
        if self._disabled:
            return None
        own = (_describe(self._failure) if self._failure else None, result)
        everywhere = [own] * trainer.world_size
        if trainer.world_size > 1:
            torch.distributed.all_gather_object(everywhere, own)
        failures = [text for text, _ in everywhere if text is not None]
        if failures:
            self._disable(failures[0])
            return None
        return [part for _, part in everywhere if part is not None]

    def _disable(self, reason: str) -> None:
        self._disabled = True
        if self.on_error == "raise":  # the failure was in another process
            raise AttnFlowError("AttentionFlowMonitor", got=reason, expected="no failure in another process")
        rank_zero_warn(f"AttentionFlowMonitor is disabled, training continues. {reason}")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
