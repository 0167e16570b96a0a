"""One Trainer.fit for each coalition: determinism, restored global state and errors."""

from __future__ import annotations

import copy
import random
import signal

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset
from torchmetrics import MeanSquaredError
from torchmetrics.classification import BinaryAccuracy

from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley, TrainerUtility


class Model(pl.LightningModule):
    """Logistic regression with dropout, so that training uses random numbers."""

    def __init__(self, lr: float = 0.5) -> None:
        super().__init__()
        self.save_hyperparameters({"lr": lr})
        self.linear, self.dropout = torch.nn.Linear(3, 1), torch.nn.Dropout(0.2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear(self.dropout(features)).squeeze(1)

    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(self(batch[0]), batch[1].float())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


def data(n: int, seed: int) -> TensorDataset:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    features = torch.randn(n, 3, generator=generator)
    features[:, 0] += 2 * labels
    return TensorDataset(features, labels)


def utility(**options: object) -> TrainerUtility:
    settings = {"metric": BinaryAccuracy(), "trainer": {"max_epochs": 2}, "batch_size": 4, **options}
    return TrainerUtility(
        settings.pop("make_module", Model), settings.pop("train", data(8, 0)), data(20, 1), **settings
    )


COALITIONS = np.array([[True] * 8, [True] * 4 + [False] * 4, [False, True] * 4, [False] * 8])


def test_a_payoff_depends_on_seed_and_coalition_only() -> None:
    negative_squares = {"metric": lambda p, t: -((p - t) ** 2).mean()}  # sensitive to small differences
    game = utility(**negative_squares)
    together = game(COALITIONS)
    apart = [utility(**negative_squares)(coalition[None])[0] for coalition in COALITIONS[::-1]][::-1]
    assert together.tolist() == apart
    assert len(set(together.tolist())) == 4
    assert (utility(seed=1, **negative_squares)(COALITIONS) != together).all()


def test_the_global_state_is_restored() -> None:
    game = utility()
    torch.manual_seed(1)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    handler = signal.getsignal(signal.SIGINT)
    game(COALITIONS)
    utility()
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])
    assert signal.getsignal(signal.SIGINT) is handler


def test_nothing_is_written_or_printed(tmp_path, monkeypatch, capfd) -> None:
    monkeypatch.chdir(tmp_path)
    utility()(COALITIONS[:2])
    assert list(tmp_path.iterdir()) == []
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_the_empty_coalition_scores_the_initial_weights() -> None:
    game = utility()
    features, labels = data(20, 1).tensors
    module = copy.deepcopy(game._initial).eval()
    assert game(COALITIONS[3:])[0] == pytest.approx(float(((module(features) > 0) == labels).float().mean()))


def test_a_metric_for_which_lower_is_better_is_negated() -> None:
    payoff = utility(metric=MeanSquaredError())(COALITIONS[:1])[0]
    assert payoff == pytest.approx(utility(metric=lambda p, t: -((p - t) ** 2).mean())(COALITIONS[:1])[0])
    assert payoff < 0


def test_the_variance_of_several_training_seeds_is_reported() -> None:
    def squares(p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return -((p - t) ** 2).mean()

    game = utility(metric=squares, training_seeds=3)
    scores = [game._train_and_score(np.arange(8), number) for number in range(3)]
    assert game(COALITIONS[:1])[0] == pytest.approx(np.mean(scores))
    assert game.pop_training_variance() == (pytest.approx(np.var(scores, ddof=1) / 3), 1)
    assert game.pop_training_variance() == (0.0, 0)
    result = DataShapley(game, stop=MaxPermutations(2), truncation=None).fit().result
    assert 0 < result.training_variance < 1
    assert result.training_stderr == pytest.approx(np.sqrt(2 * result.training_variance / 2))
    assert np.isnan(DataShapley(utility(), stop=MaxPermutations(2), truncation=None).fit().result.training_variance)


class FailsOnThree(Model):
    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        if (batch[0] == data(8, 0).tensors[0][3]).all(dim=1).any():
            raise RuntimeError("example 3")
        return super().training_step(batch)


class Diverges(Model):
    def training_step(self, batch: list[torch.Tensor]) -> torch.Tensor:
        return super().training_step(batch) * float("inf")


def test_errors_and_divergence_name_the_coalition() -> None:
    with pytest.raises(GameError, match="RuntimeError: example 3") as caught:
        utility(make_module=FailsOnThree)(COALITIONS[[2]])
    assert caught.value.coalition == (1, 3, 5, 7)
    with pytest.raises(GameError, match="NaN or infinity in linear") as caught:
        utility(make_module=Diverges)(COALITIONS[[1]])
    assert caught.value.coalition == (0, 1, 2, 3)
    with pytest.raises(GameError, match="metric") as caught:
        utility(metric=lambda *_: float("nan"))(COALITIONS[[1]])
    assert caught.value.coalition == (0, 1, 2, 3)
    game = utility(make_module=FailsOnThree)
    with pytest.raises(GameError, match="example 3") as caught:
        DataShapley(game, stop=MaxPermutations(2)).fit()
    assert 3 in caught.value.coalition


class Interrupted(Model):
    def training_step(self, *_: object) -> torch.Tensor:
        raise KeyboardInterrupt


def test_keyboard_interrupts_are_raised() -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        utility(make_module=Interrupted)(COALITIONS[:1])
    assert signal.getsignal(signal.SIGINT) is handler


def test_mappings_and_custom_predictions_are_accepted() -> None:
    class Items(Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
            features, label = data(8, 0)[place]
            return {"features": features, "labels": label}

    class TakesMapping(Model):
        def training_step(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
            return super().training_step([batch["features"], batch["labels"]])

    def game(**options: object) -> TrainerUtility:
        return TrainerUtility(
            TakesMapping, Items(), Items(), metric=BinaryAccuracy(), trainer={"max_epochs": 2}, batch_size=4, **options
        )

    payoff = game()(COALITIONS[:1])[0]
    assert 0.5 < payoff <= 1
    opposite = game(predict=lambda module, batch: (-module(batch["features"]), batch["labels"]))
    assert opposite(COALITIONS[:1])[0] == pytest.approx(1 - payoff)
    with pytest.raises(GameError, match="Pass predict="):
        utility(collate_fn=lambda items: torch.stack([item[0] for item in items]), make_module=Model)(COALITIONS[3:])


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train": data(0, 0)}, "train: got an empty data set"),
        ({"train": Stream()}, "train: got Stream; expected a map-style data set"),
        ({"metric": "accuracy"}, "metric: got 'accuracy'"),
        ({"make_module": lambda: torch.nn.Linear(3, 1)}, "returns Linear"),
        ({"trainer": {"max_epoch": 3}}, "unexpected keyword argument 'max_epoch'"),
        ({"trainer": {"logger": True}}, "got logger"),
        ({"batch_size": 0}, "batch_size: got 0"),
        ({"training_seeds": 0}, "training_seeds: got 0"),
        ({"seed": -1}, "seed: got -1"),
    ],
)
def test_invalid_arguments_raise_input_errors(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        utility(**options)


def test_the_configuration_depends_on_optimizer_data_and_weights() -> None:
    one = utility().configuration()
    assert one == utility().configuration()
    assert one["optimizer"] != utility(make_module=lambda: Model(lr=0.1)).configuration()["optimizer"]
    assert one["train"] != utility(train=data(8, 5)).configuration()["train"]
    assert one["module"] != utility(seed=2).configuration()["module"]


def test_a_long_run_is_announced_by_a_warning() -> None:
    class StopsImmediately(MaxPermutations):
        def is_met(self, _progress: object) -> bool:
            return True

    run = DataShapley(utility(), stop=StopsImmediately(10**6))
    with pytest.warns(
        UserWarning,
        match=r"One evaluation takes .* at most 500000 samples with 1 worker",
    ):
        run.fit()


def test_tensor_data_sets_give_the_same_payoffs_as_other_data_sets() -> None:
    class Items(Dataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, place: int) -> tuple[torch.Tensor, ...]:
            return data(8, 0)[place]

    squares = {"metric": lambda p, t: -((p - t) ** 2).mean()}
    assert (utility(**squares)(COALITIONS[:3]) == utility(train=Items(), **squares)(COALITIONS[:3])).all()


def test_arguments_that_are_no_functions_or_mappings_are_refused() -> None:
    data = TensorDataset(torch.ones(2, 1), torch.zeros(2))
    arguments = {"train": data, "validation": data, "metric": BinaryAccuracy()}
    for name, wrong, expected in [
        ("make_module", pl.LightningModule(), "a function that returns a LightningModule, such as its class"),
        ("make_module", 3, "a function that returns a LightningModule"),
        ("trainer", 5, "a Mapping"),
        ("trainer", {"max_epochs": -5}, "valid keyword arguments of lightning.pytorch.Trainer"),
        ("trainer", {"max_epoch": 5}, "valid keyword arguments of lightning.pytorch.Trainer"),
        ("collate_fn", 5, "a function or None"),
        ("predict", "x", "a function or None"),
    ]:
        with pytest.raises(InputError, match=f"{name}: got .*; expected {expected}"):
            TrainerUtility(**{"make_module": pl.LightningModule, **arguments, name: wrong})
