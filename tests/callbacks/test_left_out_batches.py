"""TrainingDynamicsMonitor leaves out batches that it cannot record; all other statistics are those of brute force."""

from __future__ import annotations

import itertools
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from test_training_dynamics_outputs import Linear
from test_training_unchanged import fingerprint
from tiny_training import Classifier, dataset, dynamics_monitor, trainer
from torch.utils.data import DataLoader, TensorDataset

from lightning_attnflow import TrainingDynamicsMonitor
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation import TrainingDynamics
from lightning_attnflow.valuation.dynamics_recorder import DynamicsRecorder
from lightning_attnflow.valuation.example_statistics import example_statistics

N_EPOCHS, N_BATCHES = 6, 5
KINDS = ("recorded", "None", "no forward", "no labels")
PLAN = np.random.default_rng(5).integers(0, 4, size=(N_EPOCHS, N_BATCHES))  # kind of each batch
PLAN[:, 4], PLAN[3, 3] = 0, 1  # the last batch is always recorded; no epoch is complete
WARNINGS = {
    "None": "InputError: training step of Planned: got None; expected a forward pass of its Hugging Face model",
    "no forward": "InputError: training step of Planned: got a loss without a forward pass of its Hugging Face model",
    "no labels": "InputError: labels of a training batch: got none; expected a tensor. Pass labels=.",
}


class Batches:
    """The same batches in every epoch, with the row of each example; some have no labels, as planned."""

    def __init__(self) -> None:
        rows = [{**example, "row": torch.tensor(number)} for number, example in enumerate(dataset(8))]
        rows += [rows[1], rows[2]]  # duplicates, in the last batch
        self.batches = list(DataLoader(rows, batch_size=2))
        self.epoch = -1

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        self.epoch += 1
        for batch, kind in zip(self.batches, PLAN[self.epoch], strict=True):
            yield {key: value for key, value in batch.items() if key != "labels" or KINDS[kind] != "no labels"}


class Planned(Classifier):
    """Skips the forward pass of some batches, as planned, and keeps the logits of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[tuple[int, int], list[tuple[int, torch.Tensor]]] = {}  # (epoch, row) -> labels and logits

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor | None:
        kind = KINDS[PLAN[self.current_epoch, batch_idx]]
        noise = torch.rand(())
        if kind == "None":
            return None
        if kind == "no forward":
            return sum(parameter.square().sum() for parameter in self.parameters()) * noise
        output = self.net(**{key: value for key, value in batch.items() if key != "row"})
        if kind == "no labels":
            return output.logits.square().mean() * noise
        for row, label, logits in zip(batch["row"].tolist(), batch["labels"].tolist(), output.logits, strict=True):
            self.seen.setdefault((self.current_epoch, row), []).append((label, logits.detach()))
        return output.loss * noise


def fit(folder: Path, callbacks: list[pl.Callback], **settings: Any) -> tuple[Planned, pl.Trainer]:
    pl.seed_everything(3, verbose=False)
    module = Planned()
    run = trainer(folder, callbacks=callbacks, max_epochs=N_EPOCHS, limit_val_batches=0, **settings)
    run.fit(module, Batches())
    return module, run


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Planned, pl.Trainer, TrainingDynamics, list[str]]:
    """A fit, its dynamics and the warnings."""
    watching = dynamics_monitor(index="row", tokenizer=None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module, run = fit(tmp_path_factory.mktemp("planned"), [watching])
    return module, run, watching.result, [str(w.message) for w in caught if "left out" in str(w.message)]


def test_the_statistics_of_the_recorded_epochs_are_those_of_brute_force(planned: Any) -> None:
    module, _, result, _ = planned
    assert sorted(result.keys) == list(range(8))
    for column, row in enumerate(result.keys):
        margins, losses, confidences, correct = [], [], [], []
        for epoch in range(N_EPOCHS):
            found = module.seen.get((epoch, row))
            assert np.isnan(result.loss[epoch, column]) == np.isnan(result.margin[epoch, column]) == (found is None)
            assert (result.prediction[epoch, column] == -1) == (found is None)
            if found is not None:
                values = [
                    example_statistics(logits[None], torch.tensor([label]), "classification")[0, :4].numpy()
                    for label, logits in found
                ]
                expected = np.mean(values, axis=0)
                recorded = [getattr(result, name) for name in ("loss", "margin", "confidence", "error_norm")]
                np.testing.assert_allclose([part[epoch, column] for part in recorded], expected, atol=1e-6)
                losses.append(expected[0])
                margins.append(expected[1])
                confidences.append(expected[2])
                correct.append(expected[1] > 0)
        assert 1 <= len(losses) <= N_EPOCHS
        assert result.aum[column] == pytest.approx(np.mean(margins), abs=1e-6)
        assert result.mean_loss[column] == pytest.approx(np.mean(losses), abs=1e-6)
        assert result.last_loss[column] == pytest.approx(losses[-1], abs=1e-6)
        assert result.mean_confidence[column] == pytest.approx(np.mean(confidences), abs=1e-6)
        assert result.variability[column] == pytest.approx(np.std(confidences), abs=1e-6)
        forgotten = sum(before and not after for before, after in itertools.pairwise(correct))
        assert result.forgetting_events[column] == forgotten
    assert np.isnan(result.loss).any()


def test_left_out_batches_are_counted_and_warned_of_once_for_each_reason(planned: Any, tmp_path: Path) -> None:
    _, run, result, messages = planned
    n_left_out = int((PLAN > 0).sum())
    assert result.left_out_batches == n_left_out
    assert f"{n_left_out} training batches left out" in result.label_errors().summary()
    assert run.callback_metrics["dynamics/left_out_batches"] == (PLAN[-1] > 0).sum()
    assert len(messages) == len(WARNINGS)
    for kind, pattern in WARNINGS.items():
        (message,) = [message for message in messages if re.search(pattern, message)]
        first = np.argwhere(KINDS.index(kind) == PLAN)[0]
        assert f"batch {first[1]} of epoch {first[0]} is left out" in message
    assert TrainingDynamics.load(result.save(tmp_path / "run.npz")).left_out_batches == n_left_out


def test_duplicates_of_left_out_batches_are_still_duplicates(planned: Any) -> None:
    _, _, result, _ = planned
    assert (PLAN > 0).any(axis=1).all()
    occurrences = dict(zip(result.keys, result.occurrences.tolist(), strict=True))
    assert occurrences == {row: 2 if row in (1, 2) else 1 for row in range(8)}


@pytest.mark.filterwarnings("ignore:.*left out.*")
@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}], ids=str)
def test_training_is_bit_identical(tmp_path: Path, settings: dict[str, Any]) -> None:
    watching = dynamics_monitor(index="row", tokenizer=None)
    with_monitor, plain = fit(tmp_path, [watching], **settings), fit(tmp_path, [], **settings)
    assert fingerprint(*with_monitor) == fingerprint(*plain)
    assert watching.result.left_out_batches == (PLAN > 0).sum()


@pytest.mark.filterwarnings("ignore:.*left out.*", "ignore:.*Checkpoint directory.*", "ignore:.*resuming from.*")
def test_a_resumed_fit_counts_the_left_out_batches_of_all_epochs(tmp_path: Path) -> None:
    whole = dynamics_monitor(index="row", tokenizer=None)
    fit(tmp_path, [whole, ModelCheckpoint(tmp_path, save_top_k=-1)], enable_checkpointing=True)
    (path,) = tmp_path.glob("epoch=2-*.ckpt")
    resumed, module, batches = dynamics_monitor(index="row", tokenizer=None), Planned(), Batches()
    batches.epoch = 2
    saving = ModelCheckpoint(tmp_path, save_top_k=-1)
    run = trainer(
        tmp_path, callbacks=[resumed, saving], max_epochs=N_EPOCHS, limit_val_batches=0, enable_checkpointing=True
    )
    run.fit(module, batches, ckpt_path=path)
    assert resumed.result.left_out_batches == whole.result.left_out_batches
    np.testing.assert_array_equal(np.isnan(resumed.result.loss), np.isnan(whole.result.loss))
    np.testing.assert_array_equal(resumed.result.occurrences, whole.result.occurrences)


class Unlabelled(Classifier):
    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        return self.net(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.sum()


def without_labels(n: int) -> Any:
    rows = [{key: value for key, value in row.items() if key != "labels"} for row in dataset(6)]
    return DataLoader(rows * (n // 6), batch_size=2)


@pytest.mark.parametrize(("n", "last"), [(6, 2), (60, 9)], ids=["after the epoch", "after ten batches"])
def test_a_fit_without_labels_disables_the_monitor_early(tmp_path: Path, n: int, last: int) -> None:
    class Observing(pl.Callback):
        disabled: list[bool] = []  # noqa: RUF012

        def on_train_batch_end(self, *_: Any) -> None:
            self.disabled.append(watching._disabled)

    watching, observing, module = dynamics_monitor(on_error="warn"), Observing(), Unlabelled()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer(tmp_path, callbacks=[watching, observing], max_epochs=1).fit(module, without_labels(n))
    messages = [str(w.message) for w in caught if "TrainingDynamicsMonitor" in str(w.message)]
    assert len(messages) == 2
    assert "batch 0 of epoch 0 is left out. InputError: labels of a training batch: got none" in messages[0]
    assert messages[1].endswith("expected a tensor. Pass labels=. No batch could be recorded.")
    assert "is disabled, training continues" in messages[1]
    assert observing.disabled.index(True) == last if n > 20 else not any(observing.disabled)
    assert watching._disabled
    assert not module.net._forward_hooks
    with pytest.raises(InputError, match="no completed epoch"):
        _ = watching.result


@pytest.mark.filterwarnings("ignore:.*left out.*")
def test_a_fit_without_labels_raises_if_asked_to(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels of a training batch: got none; .* Pass labels="):
        trainer(tmp_path, callbacks=[dynamics_monitor()]).fit(Unlabelled(), without_labels(6))


def test_occurrences_are_those_of_complete_epochs() -> None:
    recorder = DynamicsRecorder()
    statistics = torch.tensor([[1.0, 2.0, 0.5, 0.1, 0, 0]]).double().numpy()
    epochs = [["a", "a", "b", "b", "b"], ["a", "a", "a", "b"], ["a", "c", "c"], ["c"]]
    for epoch, keys in enumerate(epochs):  # as if the sampler repeated a in epoch 1
        recorder.left_out[epoch] = int(epoch > 1)
        recorder.add_epoch(epoch, [(key,) for key in keys], np.repeat(statistics, len(keys), axis=0))
    result = recorder.result()
    assert dict(zip(result.keys, result.occurrences.tolist(), strict=True)) == {"a": 2, "b": 1, "c": 2}
    assert result.left_out_batches == 2
    recorder.forget_from(1)
    assert dict(zip(recorder.result().keys, recorder.result().occurrences.tolist(), strict=True))["b"] == 3
    assert recorder.result().left_out_batches == 0


def test_errors_of_the_users_functions_leave_their_batch_out(tmp_path: Path) -> None:
    def labels(batch: Any) -> torch.Tensor:
        if batch[2][0] == 2:
            raise KeyError("gold")
        return batch[1]

    def outputs(batch: Any, step: Any) -> Any:
        return None if batch[2][0] == 4 else step["logits"]

    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(8, 4, generator=generator), torch.arange(8) % 3, torch.arange(8))
    watching = TrainingDynamicsMonitor(labels=labels, index=lambda batch: batch[2], outputs=outputs)
    with pytest.warns(UserWarning, match="left out") as caught:
        trainer(tmp_path, callbacks=[watching]).fit(Linear(), DataLoader(data, 2))
    messages = [str(w.message) for w in caught if "left out" in str(w.message)]
    assert ["KeyError: 'gold'" in messages[0], "result of outputs=: got NoneType" in messages[1]] == [True, True]
    assert len(messages) == 2
    assert watching.result.keys == (0, 1, 6, 7)
    assert watching.result.left_out_batches == 4


def test_labels_that_are_no_class_have_no_statistics(tmp_path: Path) -> None:
    class Ignoring(Linear):
        def training_step(self, batch: Any) -> Any:
            logits = self.layer(batch[0])
            return {"loss": torch.nn.functional.cross_entropy(logits, batch[1], ignore_index=255), "logits": logits}

    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 255, 2, 1, 255, 1])
    data = TensorDataset(torch.randn(6, 4, generator=generator), labels, torch.arange(6))
    watching = dynamics_monitor(
        tokenizer=None, index=lambda batch: batch[2], outputs=lambda _, step: step["logits"].detach()
    )
    with pytest.warns(UserWarning, match="the labels of 2 examples are no class of the model"):
        trainer(tmp_path, callbacks=[watching]).fit(Ignoring(), DataLoader(data, 3))
    result = watching.result
    np.testing.assert_array_equal(np.isnan(result.margin), [[False, True, False, False, True, False]] * 2)
    np.testing.assert_array_equal(result.labels, [0, -1, 2, 1, -1, 1])
    negative = labels.masked_fill(labels == 255, -1)
    logits = torch.randn(6, 3, generator=generator)
    np.testing.assert_array_equal(
        example_statistics(logits, negative, "classification"), example_statistics(logits, labels, "classification")
    )


def test_known_values_of_duplicates_are_averaged(tmp_path: Path) -> None:
    features = torch.tensor([[1.0] * 4, [torch.nan] * 4, [2.0] * 4])
    data = TensorDataset(features, torch.zeros(3, dtype=torch.long), torch.tensor([7, 7, 8]))
    watching = dynamics_monitor(tokenizer=None, index=lambda batch: batch[2], outputs=lambda _, step: step["logits"])
    with pytest.warns(UserWarning, match="the logits of 1 example are NaN in epoch 0"):
        trainer(tmp_path, callbacks=[watching], max_epochs=1).fit(Linear(), DataLoader(data, 3))
    assert not np.isnan(watching.result.margin).any()
    assert watching.result.occurrences.tolist() == [2, 1]
