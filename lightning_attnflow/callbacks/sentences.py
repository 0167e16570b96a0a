"""The sentences of one validation: probes and the first validation sentences, measured while it runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from lightning_attnflow._words import counted
from lightning_attnflow.attention.limits import check_length, position_limit
from lightning_attnflow.attention.transformer import check_no_decoder, find_transformer
from lightning_attnflow.callbacks.batches import (
    InputReader,
    batch_labels,
    encode_probe,
    first_sentences,
    model_inputs,
    padded,
    part_of,
    real_tokens,
    sentence_keys,
    take,
)
from lightning_attnflow.callbacks.budget import OverheadBudget
from lightning_attnflow.callbacks.measure import FlowSettings, Measured, ModelFacts, measure
from lightning_attnflow.callbacks.model_check import check_model
from lightning_attnflow.callbacks.monitored_sentence import MonitoredSentence
from lightning_attnflow.errors import InputError

if TYPE_CHECKING:
    import lightning.pytorch as pl
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_SHARDING_STRATEGIES = {"FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy"}


class ValidationSentences:
    """Takes sentences from the first batches of a validation and measures each with the weights of its batch.

    Args:
        tokenizer: the model's tokenizer, or None.
        probes: texts measured by the first process in every validation.
        max_sentences: number of validation sentences of all dataloaders and processes.
        model: attribute path of the Hugging Face model, or None.
        inputs: reads the model's keyword arguments from a batch, or None.
        settings: which flows.
        budget: limits the number of validation sentences.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None,
        probes: Sequence[str],
        max_sentences: int,
        model: str | None,
        inputs: InputReader | None,
        settings: FlowSettings,
        budget: OverheadBudget,
    ) -> None:
        self._tokenizer, self._max_sentences, self._model, self._inputs = tokenizer, max_sentences, model, inputs
        self._settings, self._budget = settings, budget
        self._encodings = [
            encode_probe(tokenizer, text, f"probes[{index}]") for index, text in enumerate(probes) if tokenizer
        ]
        self._texts = {tuple(one["input_ids"]): text for one, text in zip(self._encodings, probes, strict=True)}
        self.start()

    def start(self) -> None:
        """Start a run, perhaps with another model."""
        self._facts = ModelFacts()
        self.clear()

    def clear(self) -> None:
        """Start a validation, or release its sentences."""
        self._pending: list[dict[str, Any]] = []  # inputs of the model
        self._n_taken: dict[int, int] = {}  # by dataloader
        self._shown: list[MonitoredSentence] = []
        self._others: list[MonitoredSentence] = []
        self._labels: dict[str, int] = {}  # by the key of the sentence
        self._notes: dict[str, str] = {}
        self._n_left_out = 0

    def transformer(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> PreTrainedModel:
        """Return the Hugging Face model of a module, checked for what the monitor needs."""
        kinds = {kind.__name__ for kind in type(trainer.strategy).__mro__}
        if kinds & _SHARDING_STRATEGIES:
            raise InputError(
                "AttentionFlowMonitor",
                got=f"{type(trainer.strategy).__name__}, which shards the model",
                expected="the whole model in every process",
                remedy="Use strategy='ddp', or validate a checkpoint on one device with the monitor.",
            )
        transformer = find_transformer(pl_module, self._model)
        check_no_decoder(pl_module, transformer, "Pass its encoder, model={path!r}.")
        limit = position_limit(transformer)
        for index, probe in enumerate(self._encodings):
            check_length(f"probes[{index}]", len(probe["input_ids"]), limit)
        return transformer

    def check(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Raise if no flow of the model can be computed."""
        with _not_compiled():
            transformer = self.transformer(trainer, pl_module)
            has_tokenizer = self._tokenizer is not None
            check_model(transformer, self._settings.flow, has_tokenizer=has_tokenizer, module=pl_module)

    def collect(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, loader: int, n_loaders: int
    ) -> None:
        """Copy the sentences that are still needed from a batch."""
        of_process = part_of(self._max_sentences, trainer.world_size, trainer.global_rank)
        missing = part_of(of_process, n_loaders, loader) - self._n_taken.get(loader, 0)
        if missing > 0:
            inputs = model_inputs(batch, self.transformer(trainer, pl_module), self._inputs)
            copied = first_sentences(inputs, missing)
            labels = batch_labels(batch, len(inputs["input_ids"]))
            self._labels |= dict(zip(sentence_keys(copied), labels or (), strict=False))
            self._pending.append(copied)
            self._n_taken[loader] = self._n_taken.get(loader, 0) + len(copied["input_ids"])

    def measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the probes, unless that is done, and the copied sentences."""
        needs_probes = bool(self._encodings) and trainer.is_global_zero and not self._shown
        if not self._pending and not needs_probes:
            return
        with _not_compiled():
            self._measure(self.transformer(trainer, pl_module), pl_module, needs_probes)

    def _measure(self, transformer: PreTrainedModel, module: pl.LightningModule, needs_probes: bool) -> None:
        pending, self._pending = self._pending, []
        shown: list[dict[str, Any]] = []
        if needs_probes and self._tokenizer is not None:
            shown = [padded(self._encodings, self._tokenizer.pad_token_id or 0, transformer)]
        elif not self._encodings and not self._shown:
            shown, pending = take(pending, 1)
        if shown:
            self._add(self._timed(transformer, module, shown, is_shown=True), self._shown)
        while pending and (n := self._budget.n_affordable(_lengths(pending))):
            part, pending = take(pending, n)
            self._add(self._timed(transformer, module, part, is_shown=False), self._others)
        self._n_left_out += len(_lengths(pending))

    def _timed(
        self, transformer: PreTrainedModel, module: pl.LightningModule, batches: list[dict[str, Any]], *, is_shown: bool
    ) -> Measured:
        """Measure sentences, and let the budget learn their cost."""
        started = time.perf_counter()
        options: dict[str, Any] = {"edges": is_shown, "facts": self._facts, "module": module, "classes": self._labels}
        measured = measure(transformer, batches, self._tokenizer, self._settings, self._texts, **options)
        self._budget.observe(time.perf_counter() - started, _lengths(batches), is_validation=not is_shown)
        return measured

    def result(self) -> Measured:
        """Return what this process measured: the shown sentences first."""
        notes = dict(self._notes)
        if self._n_left_out:
            notes["max_overhead"] = (
                f"{self._n_left_out} of {counted(self._max_sentences, 'validation sentence')} are left out, to keep "
                f"the monitor within max_overhead={self._budget.share} of the duration of the fit."
            )
        return Measured([*self._shown, *self._others], notes)

    def _add(self, measured: Measured, sentences: list[MonitoredSentence]) -> None:
        sentences += measured.sentences
        self._notes = {**measured.notes, **self._notes}


def _lengths(batches: Sequence[dict[str, Any]]) -> list[int]:
    """Number of tokens of every sentence, without padding."""
    return [int(length) for inputs in batches for length in real_tokens(inputs).sum(dim=1)]


def _not_compiled() -> AbstractContextManager[Any]:
    """Run models without torch.compile: new input shapes would change the code compiled for the training."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance
