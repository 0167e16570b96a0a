"""TrainingDynamicsMonitor: values against the logits of the training, identity of examples, resuming, logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import models
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from test_training_unchanged import fingerprint
from tiny_training import Classifier, OwnHead, dataset, dynamics_monitor, trainer
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

from lightning_attnflow import TrainingDynamicsMonitor


class Observed(Classifier):
    """Keeps the input ids, labels and logits of every training step."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[list[tuple[tuple[int, ...], int, torch.Tensor]]] = []

    def on_train_epoch_start(self) -> None:
        self.seen.append([])

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
        output = self.net(**batch)
        ids = [tuple(row[mask.bool()].tolist()) for row, mask in zip(batch["input_ids"], batch["attention_mask"])]  # noqa: B905
        self.seen[-1] += zip(ids, batch["labels"].tolist(), output.logits.detach(), strict=True)
        return output.loss


def test_the_statistics_are_those_of_the_logits_of_the_training(tmp_path: Path) -> None:
    module, watching = Observed(), dynamics_monitor()
    trainer(tmp_path, callbacks=[watching], max_epochs=3).fit(module)
    result = watching.result
    assert result.n_epochs == 3
    assert len(result) == 8
    tokenizer = models.tokenizer()
    for epoch, rows in enumerate(module.seen):
        for ids, label, logits in rows:
            text = tokenizer.decode(list(ids), skip_special_tokens=True)
            (index,) = (i for i in range(8) if result.texts[i] == text and result.labels[i] == label)
            expected = torch.nn.functional.cross_entropy(logits[None], torch.tensor([label]))
            assert result.loss[epoch, index] == pytest.approx(float(expected), abs=1e-6)
            assert result.margin[epoch, index] == pytest.approx(float(logits[label] - logits[1 - label]), abs=1e-6)
            assert result.confidence[epoch, index] == pytest.approx(float(logits.softmax(0)[label]), abs=1e-6)
            one_hot = torch.eye(2)[label]
            assert result.error_norm[epoch, index] == pytest.approx(
                float((logits.softmax(0) - one_hot).norm()), abs=1e-5
            )
            assert result.prediction[epoch, index] == int(logits.argmax())
    np.testing.assert_allclose(result.aum, result.margin.mean(axis=0), rtol=1e-5)


def test_the_logits_of_a_head_of_the_module_are_those_of_its_forward(tmp_path: Path) -> None:
    def logits(batch: Any, step: Any) -> torch.Tensor:  # noqa: ARG001
        return step["logits"]

    class Returned(OwnHead):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> Any:  # noqa: ARG002
            logits = self(batch["input_ids"], batch["attention_mask"])
            return {"loss": torch.nn.functional.cross_entropy(logits, batch["labels"]), "logits": logits.detach()}

    results = []
    for kind, outputs in ((Returned, logits), (OwnHead, None)):
        pl.seed_everything(3, verbose=False)
        watching = dynamics_monitor(outputs=outputs)
        trainer(tmp_path, callbacks=[watching], max_epochs=2).fit(kind())
        results.append(watching.result)
    expected, found = results
    assert found.texts == expected.texts
    np.testing.assert_array_equal(found.margin, expected.margin)
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 3}, {"precision": "bf16-mixed"}], ids=str)
def test_training_is_bit_identical(tmp_path: Path, settings: dict[str, Any]) -> None:
    found = []
    for callbacks in ([], [dynamics_monitor()]):
        pl.seed_everything(3, verbose=False)
        module = Classifier()
        run = trainer(
            tmp_path, callbacks=callbacks, logger=TensorBoardLogger(tmp_path, name=str(len(callbacks))), **settings
        )
        run.fit(module)
        found.append(fingerprint(module, run))
        assert not callbacks or len(callbacks[0].result) == 8
    assert found[0] == found[1]


def test_duplicates_are_averaged_and_conflicting_labels_are_reported(tmp_path: Path) -> None:
    data = dataset(4)
    other = {**data[1], "labels": 1 - data[1]["labels"]}
    watching = dynamics_monitor()
    loader = DataLoader([*data, data[0], other], batch_size=2, shuffle=True)
    trainer(tmp_path, callbacks=[watching]).fit(Classifier(), loader)
    result = watching.result
    assert len(result) == 5
    assert sorted(result.occurrences.tolist()) == [1, 1, 1, 1, 2]
    assert result.conflicting.sum() == 2
    assert len({result.texts[i] for i in np.flatnonzero(result.conflicting)}) == 1
    assert "1 example with several occurrences averaged" in result.label_errors().summary()
    assert "2 examples whose input also occurs with another label" in result.label_errors().summary()


@pytest.mark.filterwarnings(
    "ignore:.*Checkpoint directory.*", "ignore:.*resuming from a checkpoint that ended before.*"
)
@pytest.mark.parametrize("steps", [None, 2], ids=["at the end of an epoch", "within an epoch"])
def test_a_resumed_fit_has_the_dynamics_of_an_uninterrupted_one(tmp_path: Path, steps: int | None) -> None:
    def loader() -> Any:
        return DataLoader(dataset(8), batch_size=2)

    def fit(watching: TrainingDynamicsMonitor, folder: Path, path: Path | None = None, **settings: Any) -> None:
        pl.seed_everything(1, verbose=False)
        saving = ModelCheckpoint(folder, every_n_train_steps=steps, save_last=False, save_top_k=-1)
        module = Classifier()
        run = trainer(tmp_path, callbacks=[saving, watching], enable_checkpointing=True, **settings)
        run.fit(module, loader(), ckpt_path=path)

    whole, first, resumed = dynamics_monitor(), dynamics_monitor(), dynamics_monitor()
    fit(whole, tmp_path / "whole", max_epochs=3)
    fit(first, tmp_path / "first", **({"max_epochs": 1} if steps is None else {"max_steps": 6}))
    (path,) = (tmp_path / "first").glob("*step=4*" if steps is None else "*step=6*")
    fit(resumed, tmp_path / "first", path, max_epochs=3)
    assert resumed.result.n_epochs == whole.result.n_epochs == 3
    assert resumed.result.keys == whole.result.keys
    assert resumed.result.texts == whole.result.texts
    np.testing.assert_array_equal(resumed.result.loss[0], whole.result.loss[0])
    # A loader without state starts again within the epoch: Lightning trains its first two batches twice.
    missing = np.isnan(resumed.result.loss)
    assert missing.sum() == (0 if steps is None else 4)
    assert not missing[[0, 2]].any()
    assert not missing[1, :4].any()


def test_a_dataset_may_change_its_size_between_epochs(tmp_path: Path) -> None:
    sizes = iter([4, 6])
    module, watching = Classifier(), dynamics_monitor()
    module.train_dataloader = lambda: DataLoader(dataset(next(sizes)), batch_size=2)  # type: ignore[method-assign]
    trainer(tmp_path, callbacks=[watching], reload_dataloaders_every_n_epochs=1).fit(module)
    assert watching.result.loss.shape == (2, 6)
    assert np.isnan(watching.result.loss[0]).sum() == 2
    assert not np.isnan(watching.result.aum).any()


def test_an_index_names_the_examples(tmp_path: Path) -> None:
    data = [{**row, "row": 100 + place} for place, row in enumerate(dataset(6))]

    class Indexed(Classifier):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            return super().training_step({k: v for k, v in batch.items() if k != "row"}, batch_idx)

    texts = {100 + place: f"text {place}" for place in range(6)}
    watching = dynamics_monitor(tokenizer=None, index="row", texts=texts)
    trainer(tmp_path, callbacks=[watching]).fit(Indexed(), DataLoader(data, batch_size=2, shuffle=True))
    assert sorted(watching.result.keys) == list(texts)
    assert all(watching.result.texts[i] == texts[key] for i, key in enumerate(watching.result.keys))


@pytest.mark.parametrize("passes_labels", [True, False])
def test_one_logit_is_a_regression_if_the_model_computes_its_loss(tmp_path: Path, passes_labels: bool) -> None:
    class OneLogit(Classifier):
        def __init__(self) -> None:
            super().__init__()
            names = {"num_labels": 1, "id2label": {0: "score"}, "label2id": {"score": 0}, "problem_type": None}
            self.net = type(self.net)(type(self.net.config)(**self.net.config.to_dict() | names))

        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
            targets, inputs = batch["labels"].float(), {key: batch[key] for key in ("input_ids", "attention_mask")}
            if passes_labels:
                return self.net(**inputs, labels=targets).loss
            logits = self.net(**inputs).logits[:, 0]
            return torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)

    watching = dynamics_monitor()
    trainer(tmp_path, callbacks=[watching], limit_val_batches=0).fit(OneLogit(), DataLoader(dataset(6), 2))
    result = watching.result
    assert np.isnan(result.margin).all() == passes_labels
    if not passes_labels:
        np.testing.assert_allclose(result.loss, np.logaddexp(0, -result.margin), atol=1e-6)
        assert set(result.label_errors().suggested) <= {0, 1}


def test_a_causal_language_model_has_the_mean_loss_of_its_tokens(tmp_path: Path) -> None:
    class Language(Classifier):
        def __init__(self) -> None:
            super().__init__()
            config = GPT2Config(vocab_size=len(models.tokenizer()), n_embd=8, n_layer=1, n_head=2, n_positions=32)
            self.net = GPT2LMHeadModel(config)

        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:  # noqa: ARG002
            labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
            loss = self.net(**{**batch, "labels": labels}).loss
            self.losses = [*getattr(self, "losses", []), float(loss.detach())]
            return loss

    module, watching = Language(), dynamics_monitor()
    loader = DataLoader(dataset(6), batch_size=1)
    trainer(tmp_path, callbacks=[watching], max_epochs=1, limit_val_batches=0).fit(module, loader)
    np.testing.assert_allclose(watching.result.loss[0], module.losses, rtol=1e-5)
    assert np.isnan(watching.result.margin).all()
    assert np.isnan(watching.result.suspicious_share)
    assert watching.result.label_errors().order[0] == np.argmax(module.losses)


def test_a_failing_monitor_does_not_end_the_training(tmp_path: Path) -> None:
    watching = dynamics_monitor(index="row", on_error="warn")
    module = Classifier()
    with (
        pytest.warns(UserWarning, match="batch 0 of epoch 0 is left out"),
        pytest.warns(UserWarning, match="TrainingDynamicsMonitor is disabled, training continues"),
    ):
        trainer(tmp_path, callbacks=[watching]).fit(module)
    assert not module.net._forward_hooks


def test_what_is_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watching = dynamics_monitor()
    logger = TensorBoardLogger(tmp_path, name="log")
    trainer(tmp_path, callbacks=[watching], logger=logger).fit(Classifier())
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    assert {"dynamics/suspicious_share", "dynamics/seconds"} <= set(events.Tags()["scalars"])
    assert [event.value for event in events.Scalars("dynamics/suspicious_share")][-1] == pytest.approx(
        watching.result.suspicious_share
    )
    assert events.Tags()["images"] == ["dynamics/data_map"]
    table = events.Tensors("dynamics/suspicious_sentences/text_summary")[-1].tensor_proto.string_val[0].decode()
    worst = watching.result.label_errors().to_rows(1)[0]
    assert f"| {worst['score']:.3f} |".replace("-", "-") in table
    assert worst["text"].split()[0] in table
