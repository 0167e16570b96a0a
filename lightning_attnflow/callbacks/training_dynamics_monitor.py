"""``TrainingDynamicsMonitor``: records how each training example is learned, and logs suspicious labels."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_attnflow._checks import check_integer, check_items
from lightning_attnflow._state import preserve_rng
from lightning_attnflow._words import counted
from lightning_attnflow.attention.own_head import ModelWithHead
from lightning_attnflow.attention.transformer import find_transformer, is_kind
from lightning_attnflow.attribution.target import LogitReader, class_names
from lightning_attnflow.callbacks.dynamics_media import example_texts, log_dynamics
from lightning_attnflow.callbacks.guarded import GuardedCallback
from lightning_attnflow.callbacks.left_out import LeftOutBatches
from lightning_attnflow.callbacks.training_batches import (
    TrainingBatches,
    first_tensor,
    forward_logits,
    returned_logits,
    tokens_and_mask,
)
from lightning_attnflow.errors import CaptureError, InputError
from lightning_attnflow.valuation.dynamics_recorder import DynamicsRecorder, Key
from lightning_attnflow.valuation.example_statistics import STATISTICS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from lightning_attnflow.valuation.training_dynamics import TrainingDynamics

_LOSS, _LABEL = STATISTICS.index("loss"), STATISTICS.index("label")
_FIRST_BATCHES = 10  # the monitor is disabled if none of them can be recorded


class TrainingDynamicsMonitor(GuardedCallback):
    """Record the loss, margin and prediction of every training example in every epoch, without another forward.

    The statistics are computed from the logits of the training step. Training is bit-identical with and without the
    monitor. Wrong labels have a low mean margin over the epochs (the area under the margin).

    At the end of every epoch it logs the scalars ``dynamics/suspicious_share`` (examples with a negative mean margin so
    far), ``dynamics/forgotten_share`` (examples that changed from correct to wrong at least once),
    ``dynamics/left_out_batches`` and ``dynamics/seconds``, a table of the most suspicious sentences, and the Data Map
    (mean confidence and its variability, from the second epoch on). At any time :attr:`result` has all scores, tables
    and pages.

    An example is recognised by a hash of its input and its label, for any order, batch size and padding. Equal inputs
    with equal labels count as one example, and their statistics are averaged. Inputs that change from epoch to epoch,
    such as augmented images, need ``index``. With several processes the statistics are gathered at the end of the
    epoch.

    A batch without labels or logits, or whose training step returns without a forward pass, is left out: a warning
    states each reason once, and the batches are counted. Statistics are those of the epochs in which an example was
    recorded. If none of the first ten batches can be recorded, or none of the first epoch, the monitor is disabled.

    Logits are those of the first forward of a training step. The monitor resumes from a checkpoint; the part of an
    epoch before a checkpoint within it is kept for the first process only.

    Args:
        tokenizer: the tokenizer, to show the texts of examples in tables.
        index: identifier of the examples: the key of a batch, or a function of the batch. It is an integer tensor or a
            sequence of integers or strings.
        labels: the key of a batch, or a function of the batch. Default: the ``labels`` passed to the model, or those
            of the batch (``batch["labels"]``, ``batch["label"]`` or ``batch[1]``).
        outputs: function of the batch and of what ``training_step`` returned that returns the logits. Default: the
            logits of the Hugging Face model in the module or, if it has none, those that the forward of the module
            around it returns.
        model: attribute path of the Hugging Face model in the module; default: the only one.
        task: classification, multi_label, regression, token_classification, causal_lm; "auto" decides by the model's
            configuration and the first batch. One logit for each example with labels 0 and 1 is a classification.
        texts: texts of the examples by index, for tables; only with integers as ``index``.
        classes: names of the classes; default: those of the model's configuration.
        n_suspicious: rows of the logged table.
        on_error: what to do about an error, or if no batch can be recorded: "warn" warns and disables the monitor;
            "raise" raises.

    Raises:
        InputError: an invalid argument.

    Source: Pleiss et al. (2020), Identifying mislabeled data using the area under the margin ranking; Swayamdipta et
    al. (2020), Dataset cartography.

    Example:
        >>> monitor = TrainingDynamicsMonitor(index="row", texts=["a fine film", "a dull film"])
        >>> monitor.n_suspicious
        20
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        index: str | Callable[[Any], Any] | None = None,
        labels: str | Callable[[Any], Tensor] | None = None,
        outputs: Callable[[Any, Any], Tensor] | None = None,
        model: str | None = None,
        task: str = "auto",
        texts: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
        n_suspicious: int = 20,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        super().__init__(on_error)
        if texts is not None and index is None:
            raise InputError("texts", got="texts without index", expected="index=, which tells which text is which")
        self._batches = TrainingBatches(index, labels, task)  # of the current epoch
        self.tokenizer, self.outputs, self.model = tokenizer, outputs, model
        is_table = texts is None or isinstance(texts, Mapping)  # from index to text
        self.texts = texts if is_table else check_items("texts", texts, "a sequence of texts")
        self.n_suspicious = check_integer("n_suspicious", n_suspicious)
        self.classes = () if classes is None else tuple(check_items("classes", classes, "a sequence of names"))
        self._recorder = DynamicsRecorder()
        self._open_epoch, self._restored = 0, False
        self._batch: tuple[Any, Tensor | None] | None = None  # while a training step runs: the batch and its labels
        self._error: Exception | None = None  # why the batch cannot be recorded
        self._first_error: Exception | None = None  # of the first batch, while none was recorded
        self._left_out = LeftOutBatches(type(self).__name__)
        self._hook: Any = None
        self._seconds = 0.0

    @property
    def result(self) -> TrainingDynamics:
        """Dynamics of the completed epochs.

        Raises:
            InputError: no epoch was completed.
        """
        if not self._recorder.epochs:
            raise InputError("result", got="no completed epoch", expected="at least one")
        return self._recorder.result(self._texts(), self.classes)

    # Hooks

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find the model whose logits are recorded."""
        self.attempt(trainer, lambda: self._attach(pl_module))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:  # noqa: ARG002
        """Discard epochs that are trained again, and complete an epoch that ended after its checkpoint was written."""
        self._recorder.forget_from(trainer.current_epoch)
        if self._restored and self._open_epoch < trainer.current_epoch:
            found = self.attempt(trainer, self._batches.arrays)
            self._batches.clear()
            n_left_out = self._left_out.end_epoch([self._left_out.reasons])
            self._recorder.left_out.setdefault(self._open_epoch, n_left_out)
            if found is not None:
                self.attempt(trainer, lambda: self._add_epoch(self._open_epoch, [found]))
        if not self._restored or not trainer.is_global_zero:
            self._batches.clear()
            self._left_out.end_epoch([])
        self._restored = False

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,  # noqa: ARG002
        batch: Any,
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Remember the batch and its labels, before the module can change it."""
        self._batch = self._error = None
        if self._is_active():
            self._open_epoch = trainer.current_epoch
            try:
                self._batch = batch, self._batches.labels_of(batch)
            except Exception as error:
                self._error = error

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Read the logits from the outputs of the training step, if ``outputs`` was passed; count left-out batches."""
        if self._batch is not None and self._is_active():
            try:
                self._record_outputs(pl_module, outputs, batch, self._batch[1])
            except Exception as error:
                self._error = error
        reason, self._batch, self._error = self._error, None, None
        if reason is None or not self._is_active():
            return
        self._left_out.add(reason, f"batch {batch_idx} of epoch {trainer.current_epoch}")
        self._first_error = (self._first_error or reason) if self._has_nothing() else None
        if self._first_error is not None and self._left_out.count == _FIRST_BATCHES and trainer.world_size == 1:
            self.fail(trainer, self._first_error)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gather the statistics of the epoch and log."""
        if self._disabled:
            return
        started = time.perf_counter()
        self._batch = None  # of a step that the module skipped
        found = self.attempt(trainer, self._batches.arrays) if self._failure is None else None
        self._batches.clear()
        gathered = self.gather(trainer, (found, self._left_out.reasons))
        if gathered is None:
            return
        parts = [part for part, _ in gathered if part is not None]
        reasons = [reasons for _, reasons in gathered]
        n_left_out = self._recorder.left_out[trainer.current_epoch] = self._left_out.end_epoch(reasons)
        if n_left_out and not parts and self._has_nothing():
            self._fail_without_batches(trainer, [text for part in reasons for _, text in part.values()])
            return
        sync = trainer.world_size > 1  # all processes hold the same numbers, so averaging does not change them
        pl_module.log("dynamics/left_out_batches", float(n_left_out), sync_dist=sync)
        if parts:
            self.attempt(trainer, lambda: self._add_epoch(trainer.current_epoch, parts))
            if not self._is_active():
                return
            dynamics = self._recorder.result()
            shares = {"suspicious_share": dynamics.suspicious_share, "forgotten_share": dynamics.forgotten_share}
            scalars = {f"dynamics/{name}": share for name, share in shares.items() if not np.isnan(share)}
            pl_module.log_dict(scalars, sync_dist=sync)
            if trainer.is_global_zero:
                with preserve_rng():
                    self.attempt(trainer, lambda: self._log_media(trainer))
        self._seconds += time.perf_counter() - started
        pl_module.log("dynamics/seconds", self._seconds, reduce_fx="max", sync_dist=sync)
        self._seconds = 0.0

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Remove the hook; ``teardown`` is not called after an exception."""
        self._detach()

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:  # noqa: ARG002
        """Remove the hook."""
        self._detach()

    # State

    def state_dict(self) -> dict[str, Any]:
        """Return the statistics of all epochs and of the current one."""
        return {
            "recorder": self._recorder.state_dict(),
            "batches": self._batches.state_dict(),
            "epoch": self._open_epoch,
            "left_out": dict(self._left_out.reasons),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the statistics."""
        self._recorder.load_state_dict(state_dict["recorder"])
        self._open_epoch, self._restored = state_dict["epoch"], True
        self._batches.load_state_dict(state_dict["batches"])
        self._left_out.reasons = dict(state_dict.get("left_out", {}))

    # Steps

    def _is_active(self) -> bool:
        return not self._disabled and self._failure is None

    def _has_nothing(self) -> bool:
        """Whether no batch of the fit was recorded."""
        return not self._batches and not self._recorder.epochs

    def _attach(self, pl_module: pl.LightningModule) -> None:
        self._detach()
        if self.outputs is not None:
            return
        try:
            transformer = find_transformer(pl_module, self.model)
        except CaptureError as error:
            raise InputError(
                f"logits of {type(pl_module).__name__}",
                got="no Hugging Face model",
                expected="a model with logits, or outputs=",
                remedy='Return the logits from training_step and pass outputs=lambda batch, step: step["logits"].',
            ) from error
        reader = LogitReader(pl_module, transformer)
        names = [name for _, name in sorted(class_names(reader.model).items())]
        # the name of a single logit is that of a score, not of class 0
        if not self.classes and len(names) > 1 and not all(name.startswith("LABEL_") for name in names):
            self.classes = tuple(names)
        self._batches.is_causal = is_kind(transformer, "CausalLM", "LMHead", "LMHeadModel")
        source = reader.model.module if isinstance(reader.model, ModelWithHead) else transformer
        self._hook = source.register_forward_hook(self._on_forward, with_kwargs=True)

    def _detach(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = self._batch = self._error = None

    def _on_forward(self, model: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Record the logits of the first forward of a training step."""
        if self._batch is None or not self._is_active():
            return
        batch, labels = self._batch
        self._batch = None
        started = time.perf_counter()
        try:
            logits = forward_logits(model, output)
            self._batches.problem_type = getattr(getattr(model, "config", None), "problem_type", None)
            given = kwargs.get("labels")
            labels = labels if given is None or self._batches.labels is not None else given
            self._add(batch, logits, labels, *tokens_and_mask(args, kwargs, batch))
        except Exception as error:
            self._error = error
        self._seconds += time.perf_counter() - started

    def _record_outputs(self, pl_module: pl.LightningModule, step: Any, batch: Any, labels: Tensor | None) -> None:
        """Record the logits that ``outputs`` returns, after a step in which the hook recorded none."""
        logits = returned_logits(self.outputs, batch, step, name=type(pl_module).__name__)
        tokens = batch.get("input_ids") if isinstance(batch, Mapping) else first_tensor(batch)
        mask = batch.get("attention_mask") if isinstance(batch, Mapping) else None
        self._add(batch, logits, labels, tokens, mask)

    def _fail_without_batches(self, trainer: pl.Trainer, reasons: list[str]) -> None:
        """Disable the monitor after an epoch of which no process recorded a batch."""
        if trainer.world_size == 1 and self._first_error is not None:
            self.fail(trainer, self._first_error)
        else:
            self._disable(trainer, reasons[0])

    def _add(self, batch: Any, logits: Tensor, labels: Tensor | None, tokens: Any, mask: Any) -> None:
        is_first = not self._recorder.epochs
        keep_tokens = is_first and self.tokenizer is not None and self.texts is None
        self._batches.add(batch, logits, labels, tokens, mask, keep_tokens=keep_tokens)

    def _add_epoch(self, epoch: int, parts: list[tuple[list[Key], Any, list[Any] | None]]) -> None:
        keys = [key for part in parts for key in part[0]]
        has_tokens = all(part[2] is not None for part in parts)
        tokens = [row for part in parts for row in part[2] or ()] if has_tokens else None
        statistics = np.concatenate([part[1] for part in parts])
        unknown = int((np.isnan(statistics[:, _LOSS]) & ~np.isnan(statistics[:, _LABEL])).sum())
        if unknown:
            rank_zero_warn(
                f"TrainingDynamicsMonitor: the logits of {counted(unknown, 'example')} are NaN in epoch {epoch}, "
                "which is not counted for them."
            )
        unlabelled = int(np.isnan(statistics[:, _LABEL]).sum()) if self._batches.task == "classification" else 0
        if unlabelled and not self._recorder.epochs:
            rank_zero_warn(
                f"TrainingDynamicsMonitor: the labels of {counted(unlabelled, 'example')} are no class of the model, "
                "such as -1 or -100; they have no statistics."
            )
        n_before = len(self._recorder)
        n_again = self._recorder.add_epoch(epoch, keys, statistics, tokens)
        if n_before and not n_again:
            rank_zero_warn(
                "TrainingDynamicsMonitor: no example of this epoch was seen before; scores cover one epoch only. "
                "If inputs are augmented, pass index=, the key of the examples' numbers in the batch."
            )

    def _log_media(self, trainer: pl.Trainer) -> None:
        order = np.argsort(self._recorder.result().scores, kind="stable")[: self.n_suspicious]
        texts = example_texts(self._recorder, self.tokenizer, self.texts, chosen=order.tolist())
        log_dynamics(trainer, self._recorder.result(texts, self.classes), self.n_suspicious)

    def _texts(self) -> list[str]:
        return example_texts(self._recorder, self.tokenizer, self.texts)

    def on_disabled(self, trainer: pl.Trainer) -> str:  # noqa: ARG002
        """Remove the hook."""
        self._detach()
        return " No batch could be recorded." if self._has_nothing() else ""
