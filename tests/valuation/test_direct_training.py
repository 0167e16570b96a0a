"""TrainerUtility trains to the weights of a fresh Trainer, with and without Trainer.fit."""

from __future__ import annotations

import copy
import warnings

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_attnflow._state import seeded_rng
from lightning_attnflow.valuation import TrainerUtility


class Model(pl.LightningModule):
    """A network with dropout, batch normalisation and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = torch.nn.Linear(4, 4).requires_grad_(False)
        self.net = torch.nn.Sequential(
            torch.nn.Linear(4, 8),
            torch.nn.BatchNorm1d(8),
            torch.nn.ReLU(),
            torch.nn.Dropout(0.3),
            torch.nn.Linear(8, 2),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.net(self.frozen(features))

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> object:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class Logs(Model):
    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> dict[str, torch.Tensor]:
        loss = super().training_step(batch) * (1 + batch_idx + self.current_epoch + 0.1 * self.global_step)
        self.log("loss", loss, on_epoch=True, prog_bar=True)
        self.log_dict({"other": loss})
        return {"loss": loss}

    def validation_step(self, _batch: list[torch.Tensor]) -> None:
        raise AssertionError("no validation")


class NeedsClosure(Model):
    def configure_optimizers(self) -> object:
        return {"optimizer": torch.optim.LBFGS(self.net.parameters(), lr=0.1, max_iter=3)}


class Scheduled(Model):
    def configure_optimizers(self) -> object:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.5)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


class Hooked(Model):
    def on_before_optimizer_step(self, _optimizer: object) -> None:
        for parameter in self.net.parameters():
            parameter.grad.sign_()


class Manual(Model):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[torch.Tensor]) -> None:
        self.optimizers().zero_grad()
        self.manual_backward(super().training_step(batch))
        self.optimizers().step()


class AsksTrainer(Model):
    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return super().training_step(batch) * self.trainer.num_training_batches


class StopsEarly(Model):
    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        self.trainer.should_stop = self.global_step == 4
        return super().training_step(batch)


class SkipsSteps(Model):
    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor | None:
        return None if batch_idx == 1 else super().training_step(batch)


class Halves(pl.Callback):
    def on_train_epoch_end(self, _trainer: object, module: pl.LightningModule) -> None:
        with torch.no_grad():
            for parameter in module.net.parameters():
                parameter.mul_(0.5)


def data(n: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(n, 4, generator=generator)
    return TensorDataset(features, (features[:, 0] > 0).long())


def weights_of_a_fresh_trainer(make: type[Model], train: object, members: np.ndarray, options: dict) -> dict:
    with seeded_rng(np.random.SeedSequence(0)):
        module = make()
    with seeded_rng(np.random.SeedSequence([0, 0, *members.tolist()])), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = pl.Trainer(**{**quiet, **options})
        trainer.fit(module, DataLoader(Subset(train, members.tolist()), 8, shuffle=True))
    return module.state_dict()


DIRECT = [
    (Model, {"max_epochs": 3}),
    (Logs, {"max_epochs": 2}),
    (NeedsClosure, {"max_epochs": 2}),
    (Model, {"max_epochs": 3, "accumulate_grad_batches": 2, "gradient_clip_val": 0.1}),
    (Logs, {"max_epochs": 2, "gradient_clip_val": 0.05, "gradient_clip_algorithm": "value"}),
    (Logs, {"max_steps": 7, "accumulate_grad_batches": 3}),
    (Model, {"max_steps": 5, "max_epochs": 4}),
    (Model, {"max_epochs": 2, "precision": "bf16-mixed", "accelerator": "cpu"}),
    (Model, {"max_epochs": 2, "callbacks": [], "enable_progress_bar": False, "enable_model_summary": False}),
]
WITH_TRAINER = [
    (Scheduled, {"max_epochs": 3}),
    (Hooked, {"max_epochs": 2}),
    (Manual, {"max_epochs": 2}),
    (AsksTrainer, {"max_epochs": 2}),
    (StopsEarly, {"max_epochs": 3}),
    (SkipsSteps, {"max_epochs": 2}),
    (Model, {"max_epochs": 2, "callbacks": [Halves()]}),
    (Model, {"max_epochs": 2, "limit_train_batches": 2}),
    (Model, {"max_epochs": 2, "precision": "bf16-true"}),
]


@pytest.mark.parametrize(
    ("make", "options", "direct"), [(*case, True) for case in DIRECT] + [(*case, False) for case in WITH_TRAINER]
)
def test_the_weights_are_those_of_a_fresh_trainer(make: type[Model], options: dict, direct: bool) -> None:
    train, trained = data(30, 0), []

    def predict(module: pl.LightningModule, batch: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        trained.append(copy.deepcopy(module.state_dict()))
        return module(batch[0].to(module.net[0].weight.dtype)), batch[1]

    def metric(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -torch.nn.functional.cross_entropy(logits.float(), targets)

    game = TrainerUtility(make, train, data(20, 1), metric=metric, trainer=options, batch_size=8, predict=predict)
    coalitions = np.array([[True] * 30, [True] * 20 + [False] * 10, [True] * 3 + [False] * 27])
    for coalition in coalitions:
        game(coalition[None])
        expected = weights_of_a_fresh_trainer(make, train, np.flatnonzero(coalition), options)
        assert all(torch.equal(weight, expected[name]) for name, weight in trained[-1].items())
    assert game._is_direct is direct


def test_all_trainings_use_the_trainer_if_the_first_one_differs_without_it() -> None:
    class Differs(Model):
        number = 0

        def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
            Differs.number += 1
            return super().training_step(batch) * Differs.number

    game = TrainerUtility(Differs, data(30, 0), data(20, 1), metric=lambda p, _: p.sum(), trainer={"max_epochs": 1})
    assert game._is_direct == "unchecked"
    game(np.array([[True] * 30]))
    assert game._is_direct is False


def test_a_coalition_of_one_batch_decides_nothing() -> None:
    game = TrainerUtility(Model, data(30, 0), data(20, 1), metric=lambda p, _: p.sum(), batch_size=8)
    game(np.array([[True] * 8 + [False] * 22]))
    assert game._is_direct == "unchecked"
