"""TrainingDynamicsMonitor: values against the logits of the training, identity of examples, resuming, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import models
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from test_training_unchanged import fingerprint
from tiny_training import Classifier, OwnHead, dataset, trainer
from torch.utils.data import DataLoader, TensorDataset
from transformers import GPT2Config, GPT2LMHeadModel

from lightning_attnflow import TrainingDynamicsMonitor
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.example_statistics import content_hash, example_statistics


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


def monitor(**changes: Any) -> TrainingDynamicsMonitor:
    return TrainingDynamicsMonitor(**{"tokenizer": models.tokenizer(), "on_error": "raise"} | changes)


def test_the_statistics_are_those_of_the_logits_of_the_training(tmp_path: Path) -> None:
    module, watching = Observed(), monitor()
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
        watching = monitor(outputs=outputs)
        trainer(tmp_path, callbacks=[watching], max_epochs=2).fit(kind())
        results.append(watching.result)
    expected, found = results
    assert found.texts == expected.texts
    np.testing.assert_array_equal(found.margin, expected.margin)
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 3}, {"precision": "bf16-mixed"}], ids=str)
def test_training_is_bit_identical(tmp_path: Path, settings: dict[str, Any]) -> None:
    found = []
    for callbacks in ([], [monitor()]):
        pl.seed_everything(3, verbose=False)
        module = Classifier()
        run = trainer(
            tmp_path, callbacks=callbacks, logger=TensorBoardLogger(tmp_path, name=str(len(callbacks))), **settings
        )
        run.fit(module)
        found.append(fingerprint(module, run))
        assert not callbacks or len(callbacks[0].result) == 8
    assert found[0] == found[1]


def test_the_hash_ignores_padding_and_tells_examples_apart() -> None:
    ids = torch.randint(0, 30_000, (20_000, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    left = torch.nn.functional.pad(ids, (3, 0), value=7), torch.nn.functional.pad(mask, (3, 0))
    right = torch.nn.functional.pad(ids, (0, 2), value=9), torch.nn.functional.pad(mask, (0, 2))
    assert torch.equal(content_hash(*left), content_hash(*right))
    assert torch.equal(content_hash(ids), content_hash(ids, mask))
    assert len(set(content_hash(ids).tolist())) == len(set(map(tuple, ids.tolist())))
    swapped = ids.flip(1)
    assert not (content_hash(swapped) == content_hash(ids))[(swapped != ids).any(dim=1)].any()


def test_duplicates_are_averaged_and_conflicting_labels_are_reported(tmp_path: Path) -> None:
    data = dataset(4)
    other = {**data[1], "labels": 1 - data[1]["labels"]}
    watching = monitor()
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

    whole, first, resumed = monitor(), monitor(), monitor()
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
    module, watching = Classifier(), monitor()
    module.train_dataloader = lambda: DataLoader(dataset(next(sizes)), batch_size=2)  # type: ignore[method-assign]
    trainer(tmp_path, callbacks=[watching], reload_dataloaders_every_n_epochs=1).fit(module)
    assert watching.result.loss.shape == (2, 6)
    assert np.isnan(watching.result.loss[0]).sum() == 2
    assert not np.isnan(watching.result.aum).any()


class Linear(pl.LightningModule):
    """A model that is not from transformers, on pairs (features, labels)."""

    def __init__(self, task: str = "classification") -> None:
        super().__init__()
        self.layer, self.task = torch.nn.Linear(4, 3), task

    def training_step(self, batch: Any) -> Any:
        logits = self.layer(batch[0])
        losses = {"multi_label": torch.nn.functional.binary_cross_entropy_with_logits}
        losses["regression"] = torch.nn.functional.mse_loss
        return {
            "loss": losses.get(self.task, torch.nn.functional.cross_entropy)(logits, batch[1]),
            "logits": logits.detach(),
        }

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("task", ["classification", "multi_label", "regression"])
def test_any_module_with_outputs(tmp_path: Path, task: str) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(10, 4, generator=generator)
    labels = {
        "classification": torch.arange(10) % 3,
        "multi_label": (torch.rand(10, 3, generator=generator) < 0.5).float(),
        "regression": torch.randn(10, 3, generator=generator),
    }[task]
    watching = monitor(tokenizer=None, outputs=lambda _batch, step: step["logits"])
    trainer(tmp_path, callbacks=[watching], max_epochs=2).fit(
        Linear(task), DataLoader(TensorDataset(features, labels), 4)
    )
    result = watching.result
    assert result.loss.shape == (2, 10)
    assert np.isnan(result.margin).all() == (task == "regression")
    scores = -result.mean_loss if task == "regression" else result.aum
    np.testing.assert_array_equal(result.label_errors().order, np.argsort(scores, kind="stable"))


def test_an_index_names_the_examples(tmp_path: Path) -> None:
    data = [{**row, "row": 100 + place} for place, row in enumerate(dataset(6))]

    class Indexed(Classifier):
        def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
            return super().training_step({k: v for k, v in batch.items() if k != "row"}, batch_idx)

    texts = {100 + place: f"text {place}" for place in range(6)}
    watching = monitor(tokenizer=None, index="row", texts=texts)
    trainer(tmp_path, callbacks=[watching]).fit(Indexed(), DataLoader(data, batch_size=2, shuffle=True))
    assert sorted(watching.result.keys) == list(texts)
    assert all(watching.result.texts[i] == texts[key] for i, key in enumerate(watching.result.keys))


@pytest.mark.parametrize("kind", ["list", "column", "mapping"])
def test_texts_are_found_by_position_or_key(tmp_path: Path, kind: str) -> None:
    texts = [f"text {place}" for place in range(6)]
    given = {"list": texts, "column": pd.Series(texts, index=range(5, -1, -1)), "mapping": dict(enumerate(texts))}[kind]
    watching = linear_monitor(texts=given)
    fit_linear(tmp_path, watching)
    assert dict(zip(watching.result.keys, watching.result.texts, strict=True)) == dict(enumerate(texts))


def test_texts_that_are_too_short_and_indices_of_other_types_are_errors(tmp_path: Path) -> None:
    watching = linear_monitor(texts=["only one"])
    with pytest.raises(InputError, match="texts: got 1 text; expected a text for index 1"):
        fit_linear(tmp_path, watching)
    for index, got in ((lambda batch: batch[2] / 2, "0.0"), (lambda batch: batch[2][:, None], r"tensor\(\[0\]\)")):
        with (
            pytest.warns(UserWarning, match="batch 0 of epoch 0 is left out"),
            pytest.raises(InputError, match=f"index: got {got}; expected integers or strings"),
        ):
            fit_linear(tmp_path, linear_monitor(index=index))
    with pytest.raises(InputError, match="texts: got DataFrame; expected a sequence of texts"):
        linear_monitor(texts=pd.DataFrame({"text": ["a"]}))


def linear_monitor(**changes: Any) -> TrainingDynamicsMonitor:
    settings = {"index": lambda batch: batch[2], "outputs": lambda _batch, step: step["logits"], "tokenizer": None}
    return monitor(**settings | changes)


def fit_linear(folder: Path, watching: TrainingDynamicsMonitor) -> None:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(6, 4, generator=generator), torch.arange(6) % 3, torch.arange(6))
    trainer(folder, callbacks=[watching], logger=TensorBoardLogger(folder)).fit(Linear(), DataLoader(data, 2))


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

    watching = monitor()
    trainer(tmp_path, callbacks=[watching], limit_val_batches=0).fit(OneLogit(), DataLoader(dataset(6), 2))
    result = watching.result
    assert np.isnan(result.margin).all() == passes_labels
    if not passes_labels:
        np.testing.assert_allclose(result.loss, np.logaddexp(0, -result.margin), atol=1e-6)
        assert set(result.label_errors().suggested) <= {0, 1}


def test_statistics_of_tokens_and_of_several_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 3, 5, generator=generator), torch.tensor([[1, -100, 4], [0, 2, 3]])
    loss, margin, confidence, *_ = example_statistics(logits, labels, "token_classification").T
    for row in range(2):
        kept = labels[row] != -100
        expected = torch.nn.functional.cross_entropy(logits[row][kept], labels[row][kept])
        assert float(loss[row]) == pytest.approx(float(expected), abs=1e-6)
        chosen, other = logits[row][kept], logits[row][kept].clone()
        own = chosen.gather(1, labels[row][kept][:, None])[:, 0]
        other.scatter_(1, labels[row][kept][:, None], -torch.inf)
        margins = own - other.amax(dim=1)
        assert float(margin[row]) == pytest.approx(float(margins.min()), abs=1e-6)
        worst = chosen.softmax(1).gather(1, labels[row][kept][:, None])[:, 0][margins.argmin()]
        assert float(confidence[row]) == pytest.approx(float(worst), abs=1e-6)
    causal = example_statistics(logits, labels, "causal_lm")
    expected = torch.nn.functional.cross_entropy(logits[1, :-1], labels[1, 1:])
    assert float(causal[1, 0]) == pytest.approx(float(expected), abs=1e-6)
    signs = torch.tensor([[1.0, 0.0, 1.0]])
    several = example_statistics(torch.tensor([[2.0, 1.0, 3.0]]), signs, "multi_label")
    assert float(several[0, 1]) == -1.0


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

    module, watching = Language(), monitor()
    loader = DataLoader(dataset(6), batch_size=1)
    trainer(tmp_path, callbacks=[watching], max_epochs=1, limit_val_batches=0).fit(module, loader)
    np.testing.assert_allclose(watching.result.loss[0], module.losses, rtol=1e-5)
    assert np.isnan(watching.result.margin).all()
    assert np.isnan(watching.result.suspicious_share)
    assert watching.result.label_errors().order[0] == np.argmax(module.losses)


def test_bad_input_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"logits of Linear: got no Hugging Face model; .* outputs="):
        trainer(tmp_path, callbacks=[monitor()]).fit(
            Linear(), DataLoader(TensorDataset(torch.randn(4, 4), torch.arange(4) % 3))
        )
    with (
        pytest.warns(UserWarning, match="batch 0 of epoch 0 is left out. InputError: index: got a batch with"),
        pytest.raises(InputError, match=r"index: got a batch with .* the key 'row'"),
    ):
        trainer(tmp_path, callbacks=[monitor(index="row")]).fit(Classifier())
    with pytest.raises(InputError, match="no completed epoch"):
        _ = monitor().result
    with pytest.raises(InputError, match="classes: got int; expected a sequence of names"):
        TrainingDynamicsMonitor(classes=3)
    with pytest.raises(InputError, match="texts without index"):
        TrainingDynamicsMonitor(texts=["a"])


def test_examples_with_the_same_index_are_averaged_and_reported(tmp_path: Path) -> None:
    features, numbers = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([7, 7, 8, 9])
    watching = monitor(tokenizer=None, index=lambda batch: batch[2], outputs=lambda _batch, step: step["logits"])
    loader = DataLoader(TensorDataset(features, torch.arange(4) % 3, numbers), 2)
    trainer(tmp_path, callbacks=[watching]).fit(Linear(), loader)
    assert sorted(zip(watching.result.keys, watching.result.occurrences.tolist(), strict=True)) == [
        (7, 2), (8, 1), (9, 1),
    ]  # fmt: skip
    assert "1 example with several occurrences averaged" in watching.result.label_errors().summary()


def test_nan_logits_are_reported(tmp_path: Path) -> None:
    features = torch.tensor([[1.0] * 4, [torch.nan] * 4, [2.0] * 4])
    watching = monitor(tokenizer=None, index=lambda batch: batch[2], outputs=lambda _batch, step: step["logits"])
    loader = DataLoader(TensorDataset(features, torch.arange(3), torch.arange(3)), 1)
    with pytest.warns(UserWarning, match="the logits of 2 examples are NaN in epoch 0"):  # the update spreads NaN
        trainer(tmp_path, callbacks=[watching], max_epochs=1).fit(Linear(), loader)
    assert np.isnan(watching.result.aum).tolist() == [False, True, True]
    assert watching.result.label_errors().order[0] == 0


def test_a_failing_monitor_does_not_end_the_training(tmp_path: Path) -> None:
    watching = monitor(index="row", on_error="warn")
    module = Classifier()
    with (
        pytest.warns(UserWarning, match="batch 0 of epoch 0 is left out"),
        pytest.warns(UserWarning, match="TrainingDynamicsMonitor is disabled, training continues"),
    ):
        trainer(tmp_path, callbacks=[watching]).fit(module)
    assert not module.net._forward_hooks


def test_inputs_that_change_every_epoch_are_reported(tmp_path: Path) -> None:
    class Augmented(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return torch.rand(4), torch.tensor(index % 3)

    watching = monitor(tokenizer=None, outputs=lambda _batch, step: step["logits"])
    with pytest.warns(UserWarning, match="no example of this epoch was seen before"):
        trainer(tmp_path, callbacks=[watching]).fit(Linear(), DataLoader(Augmented(), 2))


def test_what_is_logged(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    watching = monitor()
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
