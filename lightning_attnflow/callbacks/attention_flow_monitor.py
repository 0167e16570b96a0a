"""``AttentionFlowMonitor``: logs the attention flow of sentences at the end of every validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from transformers import PreTrainedTokenizerBase

from lightning_attnflow._checks import check_choice, check_integer
from lightning_attnflow._state import preserve_rng
from lightning_attnflow.attention.capture import find_transformer
from lightning_attnflow.attention.tokens import check_length, position_limit
from lightning_attnflow.callbacks.batches import encode_probe, first_sentences, model_inputs, padded, part_of
from lightning_attnflow.callbacks.measure import NO_DRIFT, FlowSettings, Measured, Method, layer_scalars, measure
from lightning_attnflow.errors import AttnFlowError, InputError
from lightning_attnflow.plots.loggers import log_media, media_loggers
from lightning_attnflow.plots.sentence_flow import SentenceFlow

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")

_SHARDING_STRATEGIES = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


class AttentionFlowMonitor(pl.Callback):
    """Log the attention flow of validation sentences and of probe sentences after every validation.

    Metrics of every layer below the readout, averaged over the sentences, named ``attnflow/entropy/layer_00`` and so
    on: ``entropy`` (1 uniform, 0 all flow on one word), ``special_share`` (flow on tokens such as [CLS]), ``ambiguity``
    (summed width of the ranges over all maximum flows), ``saturation`` (share of tokens decided by a trivial cut),
    ``rollout_agreement`` (Spearman's rank correlation with rollout) and ``drift`` (total variation distance to the last
    logged validation, over the sentences in both). ``attnflow/seconds`` is the time spent by the monitor.

    For each probe (or for the first sentence, if there are no probes) a heat map and a table of the words with the
    largest flow are logged; for each layer a histogram of the flow in multiples of the uniform share. Loggers without
    media support get PNG and Markdown files in their log directory.

    Training is bit-identical with and without the monitor. It runs in ``trainer.fit`` and ``trainer.validate``, but not
    during sanity checking. Sentences are taken evenly from all validation dataloaders and processes. Strategies that
    shard the model are not supported.

    Args:
        tokenizer: the model's tokenizer, or its name or path. Without it, tokens are named by their ids.
        probes: sentences to monitor in addition to validation sentences; they require a tokenizer.
        every_n_epochs: run at the end of every n-th epoch with a validation.
        max_sentences: number of validation sentences, taken from the first batches; 0 monitors the probes only.
        method: "shapley", "pairwise", "single" or "rollout", see ``attention_flow``.
        readout: what the prediction reads: "first", "last", "mean", "all" or a position. "auto" is the last token of a
            causal model, what a sequence classification head reads (usually the first token), otherwise the mean; the
            choice is logged.
        heads: "mean", "max" or "min" over the heads, or the index of a head.
        residual: share of the residual stream in every layer, in [0, 1).
        words: group the tokens of each word. Requires a fast tokenizer; sentences whose words cannot be determined are
            shown token by token.
        model: attribute path of the Hugging Face model in the LightningModule; default: the only one.
        inputs: function from a batch to the keyword arguments of that model; default: the known keys of a mapping.
        seed: of the sampled permutations, the same in every epoch.
        on_error: "warn" warns and disables the monitor; "raise" raises.

    Attributes:
        latest: flows of the probes (or of the first sentence) at the last logged validation.

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
        method: Method = "shapley",
        readout: str | int = "auto",
        heads: str | int = "mean",
        residual: float = 0.5,
        words: bool = True,
        model: str | None = None,
        inputs: Callable[[Any], Mapping[str, Any]] | None = None,
        seed: int = 0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__()
        self.settings = FlowSettings(method, readout, heads, residual, words, seed)  # type: ignore[arg-type]
        check_choice("on_error", on_error, ("warn", "raise"))
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
        self.latest: tuple[SentenceFlow, ...] = ()
        self._encodings = [
            encode_probe(tokenizer, text, f"probes[{index}]") for index, text in enumerate(probes) if tokenizer
        ]
        self._previous: dict[str, np.ndarray[Any, np.dtype[np.float64]]] = {}
        self._batches: list[list[dict[str, Any]]] = []  # by dataloader
        self._failure: Exception | None = None
        self._disabled = False
        self._logged: set[str] = set()
        self._seconds = 0.0

    # Hooks

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Check the model before training starts."""
        self._attempt(trainer, lambda: self._transformer(trainer, pl_module))

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
        measured = self._attempt(trainer, lambda: self._measured(trainer, pl_module)) if self._failure is None else None
        failure = _describe(self._failure) if self._failure else None
        of_all_processes = _gathered(trainer, (failure, measured))
        failures = [text for text, _ in of_all_processes if text is not None]
        self._batches = []
        if failures:
            self._disable(failures[0])
            return
        flows = [flow for _, part in of_all_processes if part is not None for flow in part.flows]
        scalars = layer_scalars(flows, self._previous, has_tokenizer=self.tokenizer is not None)
        notes = measured.notes() if measured is not None else {}
        if self._previous and not any(name.startswith("drift/") for name in scalars):
            notes["drift"] = NO_DRIFT
        self._log_once(notes)
        self._previous = {flow.key: flow.values for flow in flows}
        sync = trainer.world_size > 1  # all processes hold the same numbers, so averaging does not change them
        pl_module.log_dict({f"attnflow/{name}": value for name, value in scalars.items()}, sync_dist=sync)
        if trainer.is_global_zero and measured is not None:
            self.latest = tuple(measured.flows[-len(self.probes) :] if self.probes else measured.flows[:1])
            self._attempt(trainer, lambda: self._log_media(trainer, measured, flows))
        self._seconds += time.perf_counter() - started
        pl_module.log("attnflow/seconds", self._seconds, reduce_fx="max", sync_dist=sync)

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
        """Return the flows of the last logged validation, the reference of drift after a restart."""
        return {"previous": {key: torch.from_numpy(values.copy()) for key, values in self._previous.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the flows of the last logged validation."""
        self._previous = {key: values.numpy() for key, values in state_dict["previous"].items()}

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

    def _measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Measured | None:
        """Return the flows of this process; the probes are computed by the first process only."""
        transformer = self._transformer(trainer, pl_module)
        batches = [inputs for of_loader in self._batches for inputs in of_loader]
        if self._encodings and trainer.is_global_zero and self.tokenizer is not None:
            batches.append(padded(self._encodings, self.tokenizer.pad_token_id or 0, transformer))
        if not batches:
            return None
        texts = {tuple(probe["input_ids"]): text for probe, text in zip(self._encodings, self.probes, strict=True)}
        return measure(transformer, batches, self.tokenizer, self.settings, texts)

    def _log_media(self, trainer: pl.Trainer, measured: Measured, flows: list[SentenceFlow]) -> None:
        loggers = media_loggers(trainer.loggers, trainer.default_root_dir)
        if not loggers:
            return
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # the step that log_dict uses
        name, note = "probe" if self.probes else "sentence", f"readout {measured.readout!r}: {measured.reason}"
        sentences = {f"{name}_{index:02d}": flow for index, flow in enumerate(self.latest)}
        if not log_media(loggers, sentences, flows, note, step):
            self._log_once({"figures": "no heat maps without matplotlib: pip install 'lightning-attnflow[plots]'."})

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

    def _disable(self, reason: str) -> None:
        self._disabled = True
        if self.on_error == "raise":  # the failure was in another process
            raise AttnFlowError("AttentionFlowMonitor", got=reason, expected="no failure in another process")
        rank_zero_warn(f"AttentionFlowMonitor is disabled, training continues. {reason}")


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _gathered(trainer: pl.Trainer, result: T) -> list[T]:
    """Return the results of all processes, by rank. All processes must call it."""
    if trainer.world_size == 1:
        return [result]
    results: list[T] = [result] * trainer.world_size
    torch.distributed.all_gather_object(results, result)
    return results
