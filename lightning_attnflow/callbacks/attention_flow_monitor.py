"""`AttentionFlowMonitor`: attention flow of a few sentences, layer by layer, at the end of every validation."""

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

from lightning_attnflow._checks import check_choice, check_integer, is_number
from lightning_attnflow._state import preserve_rng
from lightning_attnflow.attention.capture import find_transformer
from lightning_attnflow.attention.tokens import check_length, position_limit
from lightning_attnflow.callbacks.batches import InputReader, encode_probe, first_sentences, model_inputs, padded
from lightning_attnflow.callbacks.log_media import show
from lightning_attnflow.callbacks.measure import FlowSettings, Measured, Method, layer_scalars, measure
from lightning_attnflow.callbacks.processes import gathered, part_of
from lightning_attnflow.errors import AttnFlowError, InputError
from lightning_attnflow.plots.loggers import sinks_for
from lightning_attnflow.plots.records import SentenceFlow

if TYPE_CHECKING:
    from transformers import PreTrainedModel

T = TypeVar("T")

_METHODS = ("shapley", "pairwise", "single", "rollout")
_SHARDING_STRATEGIES = ("FSDPStrategy", "DeepSpeedStrategy", "ModelParallelStrategy")


class AttentionFlowMonitor(pl.Callback):
    """Log the attention flow of some validation sentences and of probe sentences after every validation.

    For every layer below the readout, averaged over the sentences: `attnflow/entropy` (1 uniform, 0 all on one word),
    `attnflow/special_share` (flow on tokens such as [CLS]), `attnflow/ambiguity` (how far the maximum flow is from
    unique), `attnflow/saturation` (share of tokens whose flow says nothing about them), `attnflow/rollout_agreement`
    (Spearman's rank correlation with rollout) and `attnflow/drift` (total variation since the last logged validation,
    over the sentences that occurred in both), each followed by `/layer_00` and so on; `attnflow/seconds` is what the
    monitor cost. For every probe (or for the first sentence, if there is none) a heat map, layers x words, and a table
    of the top words; for every layer a histogram of the flow in multiples of the uniform share. Loggers that take no
    figures get PNG and Markdown files in their log directory.

    Training is the same, bit for bit, with and without the monitor. Sanity checking is skipped; `trainer.validate` is
    not. With several validation dataloaders the sentences come from all of them in equal parts. With several processes
    each takes its part of the sentences, and the averages are over all. Strategies that shard the model are refused.

    Args:
        tokenizer: the tokenizer of the model, or a name or path to load it from. Without it words cannot be told and
            tokens are named by their ids.
        probes: sentences to follow through training, besides those of the validation set. They need a tokenizer.
        every_n_epochs: run at the end of every n-th epoch that validates.
        max_sentences: how many validation sentences to take, the first ones there are; 0 leaves the probes only.
        method: "shapley", "pairwise", "single" or "rollout", see `attention_flow`.
        readout: what the prediction reads: "first", "last", "mean", "all" or a position; "auto" is the last
            token of a causal model, what a sequence classification head reads (usually the first token), else the mean;
            the choice is logged.
        heads: "mean", "max" or "min" over the heads, or the index of one head.
        residual: share of the residual stream in every layer, in [0, 1).
        words: join the tokens of a word to one player. Needs a fast tokenizer; sentences that it cannot take apart
            are shown token by token, which is said once.
        model: attribute path of the Hugging Face model in the LightningModule; default: the only one there.
        inputs: function from a batch to the keyword arguments of that model; default: the known keys of a mapping.
        seed: of the sampled orders. The same in every epoch, so that sampling noise does not look like drift.
        on_error: "warn" warns once and switches the monitor off, training goes on; "raise" raises.

    Attributes:
        latest: the flows of the probes (or of the first sentence) at the last logged validation.

    Raises:
        InputError: an argument that cannot be used.

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
        inputs: InputReader | None = None,
        seed: int = 0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__()
        check_choice("method", method, _METHODS)
        check_choice("on_error", on_error, ("warn", "raise"))
        check_choice("readout", readout, ("auto", "first", "last", "mean", "all"), or_index="a position")
        check_choice("heads", heads, ("mean", "max", "min"), or_index="the index of a head")
        check_integer("every_n_epochs", every_n_epochs)
        check_integer("max_sentences", max_sentences, minimum=0)
        if not is_number(residual) or not 0 <= residual < 1:
            raise InputError("residual", got=repr(residual), expected="a share in [0, 1)")
        if isinstance(probes, str) or (not probes and not max_sentences):
            raise InputError(
                "probes",
                got=repr(probes) + ("" if probes else " and max_sentences=0"),
                expected="a list of sentences, or max_sentences > 0",
                remedy='Pass probes=["One sentence.", "Another one."].',
            )
        if probes and tokenizer is None:
            raise InputError(
                "tokenizer",
                got=f"None with {len(probes)} probes",
                expected="the tokenizer of the model",
                remedy="Pass tokenizer=, an object or the name or path of one, or leave the probes out.",
            )
        if isinstance(tokenizer, str):
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self.tokenizer = tokenizer
        self.probes = tuple(probes)
        self.every_n_epochs, self.max_sentences = every_n_epochs, max_sentences
        self.model, self.inputs, self.on_error = model, inputs, on_error
        self.settings = FlowSettings(method, readout, heads, residual, words, seed)  # type: ignore[arg-type]
        self.latest: tuple[SentenceFlow, ...] = ()
        self._encodings = [
            encode_probe(tokenizer, text, f"probes[{index}]") for index, text in enumerate(probes) if tokenizer
        ]
        self._previous: dict[str, np.ndarray[Any, np.dtype[np.float64]]] = {}
        self._taken: list[list[dict[str, Any]]] = []  # by dataloader
        self._failure: Exception | None = None
        self._off = False
        self._told: set[str] = set()
        self._seconds = 0.0

    # Schedule

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the model before any time is spent on training."""
        self._attempt(trainer, lambda: self._transformer(trainer, pl_module))

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Forget the sentences of the last validation."""
        self._taken, self._seconds = [], 0.0

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,
    ) -> None:
        """Take sentences until there are enough; before the module can change the batch."""
        if not self._due(trainer) or self._failure is not None:
            return
        started = time.perf_counter()
        self._attempt(trainer, lambda: self._take(trainer, pl_module, batch, dataloader_idx))
        self._seconds += time.perf_counter() - started

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Capture, compute and log."""
        if not self._due(trainer):
            return
        started = time.perf_counter()
        measured = self._attempt(trainer, lambda: self._measured(trainer, pl_module)) if self._failure is None else None
        everyone = gathered(trainer, (_named(self._failure) if self._failure else None, measured))
        failures = [text for text, _ in everyone if text is not None]
        self._taken = []
        if failures:
            self._switch_off(failures[0])
            return
        flows = [flow for _, part in everyone if part is not None for flow in part.flows]
        scalars = layer_scalars(flows, self._previous, tokenizer_known=self.tokenizer is not None)
        self._tell_about(measured, flows, scalars)
        self._previous = {flow.key: flow.values for flow in flows}
        shared = trainer.world_size > 1  # all processes hold the same numbers; averaging them changes nothing
        pl_module.log_dict({f"attnflow/{name}": value for name, value in scalars.items()}, sync_dist=shared)
        if trainer.is_global_zero and measured is not None:
            self.latest = tuple(measured.flows[-len(self.probes) :] if self.probes else measured.flows[:1])
            self._attempt(trainer, lambda: self._show(trainer, measured, flows))
        self._seconds += time.perf_counter() - started
        pl_module.log("attnflow/seconds", self._seconds, reduce_fx="max", sync_dist=shared)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Let go of the sentences; `teardown` is not called after an exception."""
        self._taken = []

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Let go of the sentences."""
        self._taken = []

    # State

    @property
    def state_key(self) -> str:
        """What tells two monitors apart in a checkpoint."""
        settings = self.settings
        return self._generate_state_key(
            method=settings.method,
            readout=settings.readout,
            heads=settings.heads,
            residual=settings.residual,
            words=settings.words,
            model=self.model,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the flows of the last logged validation, from which drift goes on after a restart."""
        return {"previous": {key: torch.from_numpy(values.copy()) for key, values in self._previous.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the flows of the last logged validation."""
        self._previous = {key: values.numpy() for key, values in state_dict["previous"].items()}

    # Steps

    def _due(self, trainer: pl.Trainer) -> bool:
        if self._off or trainer.sanity_checking:
            return False
        return trainer.state.fn != TrainerFn.FITTING or (trainer.current_epoch + 1) % self.every_n_epochs == 0

    def _transformer(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> PreTrainedModel:
        strategy = type(trainer.strategy).__name__
        if strategy in _SHARDING_STRATEGIES:
            raise InputError(
                "AttentionFlowMonitor",
                got=f"the strategy {strategy}, which spreads one model over several processes",
                expected="the whole model in every process",
                remedy="Use strategy='ddp', or validate a checkpoint on one device with the monitor attached.",
            )
        transformer = find_transformer(pl_module, self.model)
        limit = position_limit(transformer)
        for index, probe in enumerate(self._encodings):
            check_length(f"probes[{index}]", len(probe["input_ids"]), limit)
        return transformer

    def _take(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, dataloader_idx: int) -> None:
        n_loaders = len(trainer.num_val_batches)
        share = part_of(part_of(self.max_sentences, trainer.world_size, trainer.global_rank), n_loaders, dataloader_idx)
        self._taken += [[] for _ in range(dataloader_idx + 1 - len(self._taken))]
        wanted = share - sum(len(inputs["input_ids"]) for inputs in self._taken[dataloader_idx])
        if wanted > 0:
            inputs = model_inputs(batch, self._transformer(trainer, pl_module), self.inputs)
            self._taken[dataloader_idx].append(first_sentences(inputs, wanted))

    def _measured(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Measured | None:
        """Return the flows of this process; the probes, which are the same everywhere, are left to the first one."""
        transformer = self._transformer(trainer, pl_module)
        batches = [inputs for taken in self._taken for inputs in taken]
        if self._encodings and trainer.is_global_zero and self.tokenizer is not None:
            batches.append(padded(self._encodings, self.tokenizer.pad_token_id or 0, transformer))
        if not batches:
            return None
        texts = {tuple(probe["input_ids"]): text for probe, text in zip(self._encodings, self.probes, strict=True)}
        return measure(transformer, batches, self.tokenizer, self.settings, texts)

    def _show(self, trainer: pl.Trainer, measured: Measured, flows: list[SentenceFlow]) -> None:
        sinks = sinks_for(trainer.loggers, trainer.default_root_dir)
        if not sinks:
            return
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # the step of everything log_dict logs
        name, note = "probe" if self.probes else "sentence", f"readout {measured.readout!r}: {measured.reason}"
        if not show(sinks, {f"{name}_{index:02d}": flow for index, flow in enumerate(self.latest)}, flows, note, step):
            self._tell("figures", "no heat maps without matplotlib: pip install 'lightning-attnflow[plots]'.")

    # Messages

    def _tell_about(self, measured: Measured | None, flows: list[SentenceFlow], scalars: Mapping[str, float]) -> None:
        if measured is not None:
            self._tell("readout", f"readout {measured.readout!r}: {measured.reason}.")
            if measured.n_without_words:
                self._tell(
                    "words",
                    f"{measured.n_without_words} of {len(measured.flows)} sentences are taken token by token, because "
                    "the tokenizer is not a fast one or does not give their tokens back from the decoded text.",
                )
        if self._previous and not any(name.startswith("drift/") for name in scalars):
            self._tell(
                "drift",
                f"no drift is logged: none of the {len(flows)} sentences occurred in the last validation. Do not "
                "shuffle the validation set, or pass probes=.",
            )

    def _tell(self, topic: str, message: str) -> None:
        """Say something once."""
        if topic not in self._told:
            self._told.add(topic)
            rank_zero_info(f"AttentionFlowMonitor: {message}")

    # Errors

    def _attempt(self, trainer: pl.Trainer, step: Callable[[], T]) -> T | None:
        """Run a step without touching the global RNGs; on failure raise, or switch off.

        Several processes switch off together, at the next gathering.
        """
        try:
            with preserve_rng():
                return step()
        except Exception as error:
            if self.on_error == "raise":
                raise
            self._failure = error
            if trainer.world_size == 1:
                self._switch_off(_named(error))
            return None

    def _switch_off(self, reason: str) -> None:
        self._off = True
        if self.on_error == "raise":  # it failed in another process
            raise AttnFlowError(
                "AttentionFlowMonitor", got=reason, expected="no failure", remedy="See the log of that process."
            )
        rank_zero_warn(f"AttentionFlowMonitor is switched off, training goes on. {reason}")


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
