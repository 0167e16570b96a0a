"""TrainingDynamicsMonitor with any module: `outputs=`, `index=`, `texts=` and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tiny_training import Classifier, dynamics_monitor, trainer
from torch.utils.data import DataLoader, TensorDataset

from lightning_attnflow import TrainingDynamicsMonitor
from lightning_attnflow.errors import InputError


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


def linear_monitor(**changes: Any) -> TrainingDynamicsMonitor:
    settings = {"index": lambda batch: batch[2], "outputs": lambda _batch, step: step["logits"], "tokenizer": None}
    return dynamics_monitor(**settings | changes)


def fit_linear(folder: Path, watching: TrainingDynamicsMonitor) -> None:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(6, 4, generator=generator), torch.arange(6) % 3, torch.arange(6))
    trainer(folder, callbacks=[watching], logger=TensorBoardLogger(folder)).fit(Linear(), DataLoader(data, 2))


@pytest.mark.parametrize("task", ["classification", "multi_label", "regression"])
def test_any_module_with_outputs(tmp_path: Path, task: str) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(10, 4, generator=generator)
    labels = {
        "classification": torch.arange(10) % 3,
        "multi_label": (torch.rand(10, 3, generator=generator) < 0.5).float(),
        "regression": torch.randn(10, 3, generator=generator),
    }[task]
    watching = dynamics_monitor(tokenizer=None, outputs=lambda _batch, step: step["logits"])
    trainer(tmp_path, callbacks=[watching], max_epochs=2).fit(
        Linear(task), DataLoader(TensorDataset(features, labels), 4)
    )
    result = watching.result
    assert result.loss.shape == (2, 10)
    assert np.isnan(result.margin).all() == (task == "regression")
    scores = -result.mean_loss if task == "regression" else result.aum
    np.testing.assert_array_equal(result.label_errors().order, np.argsort(scores, kind="stable"))


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


def test_examples_with_the_same_index_are_averaged_and_reported(tmp_path: Path) -> None:
    features, numbers = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([7, 7, 8, 9])
    watching = linear_monitor()
    loader = DataLoader(TensorDataset(features, torch.arange(4) % 3, numbers), 2)
    trainer(tmp_path, callbacks=[watching]).fit(Linear(), loader)
    assert sorted(zip(watching.result.keys, watching.result.occurrences.tolist(), strict=True)) == [
        (7, 2), (8, 1), (9, 1),
    ]  # fmt: skip
    assert "1 example with several occurrences averaged" in watching.result.label_errors().summary()


def test_nan_logits_are_reported(tmp_path: Path) -> None:
    features = torch.tensor([[1.0] * 4, [torch.nan] * 4, [2.0] * 4])
    watching = linear_monitor()
    loader = DataLoader(TensorDataset(features, torch.arange(3), torch.arange(3)), 1)
    with pytest.warns(UserWarning, match="the logits of 2 examples are NaN in epoch 0"):  # the update spreads NaN
        trainer(tmp_path, callbacks=[watching], max_epochs=1).fit(Linear(), loader)
    assert np.isnan(watching.result.aum).tolist() == [False, True, True]
    assert watching.result.label_errors().order[0] == 0


def test_inputs_that_change_every_epoch_are_reported(tmp_path: Path) -> None:
    class Augmented(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return torch.rand(4), torch.tensor(index % 3)

    watching = dynamics_monitor(tokenizer=None, outputs=lambda _batch, step: step["logits"])
    with pytest.warns(UserWarning, match="no example of this epoch was seen before"):
        trainer(tmp_path, callbacks=[watching]).fit(Linear(), DataLoader(Augmented(), 2))


def test_bad_input_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"logits of Linear: got no Hugging Face model; .* outputs="):
        trainer(tmp_path, callbacks=[dynamics_monitor()]).fit(
            Linear(), DataLoader(TensorDataset(torch.randn(4, 4), torch.arange(4) % 3))
        )
    with (
        pytest.warns(UserWarning, match="batch 0 of epoch 0 is left out. InputError: index: got a batch with"),
        pytest.raises(InputError, match=r"index: got a batch with .* the key 'row'"),
    ):
        trainer(tmp_path, callbacks=[dynamics_monitor(index="row")]).fit(Classifier())
    with pytest.raises(InputError, match="no completed epoch"):
        _ = dynamics_monitor().result
    with pytest.raises(InputError, match="classes: got int; expected a sequence of names"):
        TrainingDynamicsMonitor(classes=3)
    with pytest.raises(InputError, match="texts without index"):
        TrainingDynamicsMonitor(texts=["a"])
