"""Data valuation of any LightningModule: one bare ``Trainer.fit`` a coalition."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
import torchmetrics
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from lightning_attnflow._state import seeded_rng
from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.valuation.checks import positive_integer
from lightning_attnflow.valuation.fingerprint import fingerprint
from lightning_attnflow.valuation.utilities.trainer_fit import ONE_AT_A_TIME, fit, make_trainer, quiet, training_loader

FloatArray = NDArray[np.float64]
Predict = Callable[[pl.LightningModule, Any], tuple[torch.Tensor, torch.Tensor]]


class TrainerUtility:
    """A game: the validation score of a LightningModule trained on the examples of a coalition.

    Every training starts from the same initial weights. Its randomness (the order of the examples, dropout) comes
    from the seed and the coalition alone, and the global generators of Python, NumPy and torch are left as found. The
    empty coalition gets the score of the untrained weights; a coalition of one class is trained like any other.

    Args:
        make_module: returns the LightningModule; called once, and the module it returns is copied for each coalition.
        train: map-style data set, one player an item.
        validation: map-style data set; read once, so its items must not change.
        metric: a ``torchmetrics.Metric``, or a function of (predictions, targets) of the whole validation set. A
            metric that says of itself that lower is better is negated.
        trainer: keyword arguments of the Trainer, such as ``{"max_epochs": 3}``, which is the default; they go
            beside the ones that make it bare (no logger, checkpoint, bar, summary, validation).
        batch_size: examples a training step.
        seed: of the initial weights and of every training.
        training_seeds: trainings a coalition; the payoff is their mean, and with two or more their variance is
            reported apart from the one of the orders.
        collate_fn: of the data loaders, default torch's.
        predict: (module, batch) to (predictions, targets). The default takes a pair (inputs, targets), or a mapping
            with "labels", and the ``logits`` of what the module returns, if there are any.

    Raises:
        InputError: if a data set is empty or not map-style, or an argument is out of range.

    Source: Ghorbani & Zou (2019), Data Shapley.
    """

    def __init__(
        self,
        make_module: Callable[[], pl.LightningModule],
        train: Dataset[Any],
        validation: Dataset[Any],
        *,
        metric: torchmetrics.Metric | Callable[[torch.Tensor, torch.Tensor], Any],
        trainer: Mapping[str, Any] | None = None,
        batch_size: int = 32,
        seed: int = 0,
        training_seeds: int = 1,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        predict: Predict | None = None,
    ) -> None:
        self.n_players = _length("train", train)
        _length("validation", validation)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise InputError("seed", got=repr(seed), expected="an integer >= 0", remedy="Pass seed=0.")
        if not callable(metric):
            raise InputError(
                "metric",
                got=repr(metric),
                expected="a torchmetrics.Metric or a function",
                remedy="Pass BinaryAccuracy().",
            )
        self.train, self.validation, self.metric, self.seed = train, validation, metric, seed
        self.trainer = {"max_epochs": 3} if trainer is None else dict(trainer)
        self.batch_size = positive_integer("batch_size", batch_size)
        self.training_seeds = positive_integer("training_seeds", training_seeds)
        self.collate_fn, self._predict = collate_fn, predict or _predict
        with seeded_rng(np.random.SeedSequence(seed)):
            self._initial = make_module()
            if not isinstance(self._initial, pl.LightningModule):
                raise InputError(
                    "make_module",
                    got=f"a function that returns {type(self._initial).__name__}",
                    expected="one that returns a lightning.pytorch.LightningModule",
                    remedy="Return the module itself; lightning and pytorch_lightning are two different packages.",
                )
            # Copied for each coalition, with its callbacks: that costs half of making one, and no state is carried on.
            self._untouched_trainer = make_trainer(self.trainer)
        self._validation_batches: list[Any] | None = None
        self._noise_sum, self._noise_count = 0.0, 0

    def __call__(self, coalitions: NDArray[np.bool_]) -> FloatArray:
        """Payoffs float64 (m,) of coalitions bool (m, n).

        Raises:
            GameError: if a training or the metric fails or gives NaN; it carries the coalition.
        """
        return np.array([self._payoff(np.flatnonzero(coalition)) for coalition in coalitions])

    def pop_training_variance(self) -> tuple[float, int]:
        """Sum of the variances of the payoffs due to the training seed, and their number, since the last call."""
        drained = self._noise_sum, self._noise_count
        self._noise_sum, self._noise_count = 0.0, 0
        return drained

    def configuration(self) -> dict[str, object]:
        """What the payoffs depend on, for a ledger."""
        try:
            optimizer = repr(copy.deepcopy(self._initial).configure_optimizers())
        except Exception as error:  # one that asks for the number of steps, which only a training knows
            optimizer = f"not known before a training: {type(error).__name__}"
        return {
            "utility": "TrainerUtility",
            "module": fingerprint((repr(self._initial), dict(self._initial.hparams), self._initial.state_dict())),
            "optimizer": optimizer,
            "train": fingerprint(self.train),
            "validation": fingerprint(self.validation),
            "metric": repr(self.metric) if isinstance(self.metric, torchmetrics.Metric) else _name(self.metric),
            "trainer": {name: repr(value) for name, value in self.trainer.items()},
            "batch_size": self.batch_size,
            "seed": self.seed,
            "training_seeds": self.training_seeds,
        }

    def _payoff(self, members: NDArray[np.intp]) -> float:
        trainings = self.training_seeds if len(members) else 1
        try:
            scores = [self._train_and_score(members, number) for number in range(trainings)]
        except GameError:
            raise
        except Exception as error:
            raise GameError.of_coalition(
                "training",
                members.tolist(),
                got=f"{type(error).__name__}: {error}",
                expected="a training and a metric that run through",
                remedy="Train on these examples alone to see the whole traceback.",
            ) from error
        if trainings > 1:
            self._noise_sum += float(np.var(scores, ddof=1)) / trainings
            self._noise_count += 1
        return float(np.mean(scores))

    def _train_and_score(self, members: NDArray[np.intp], number: int) -> float:
        sequence = np.random.SeedSequence([self.seed, number, *members.tolist()])
        with ONE_AT_A_TIME, seeded_rng(sequence), quiet():
            module = copy.deepcopy(self._initial)
            if len(members):
                loader = training_loader(self.train, members, self.batch_size, self.collate_fn)
                fit(copy.deepcopy(self._untouched_trainer), module, loader)
            broken = [name for name, weight in module.named_parameters() if not torch.isfinite(weight).all()]
            if broken:
                raise _not_finite("weights after training", members, f"NaN or infinity in {broken[0]}")
            score = self._score(module)
        if not math.isfinite(score):
            raise _not_finite("metric", members, score)
        return score

    def _score(self, module: pl.LightningModule) -> float:
        predictions, targets = [], []
        module.eval()
        with torch.no_grad():
            for batch in self._batches():
                prediction, target = self._predict(module, batch)
                predictions.append(prediction.detach())
                targets.append(target)
        metric = copy.deepcopy(self.metric)
        whole = torch.cat(predictions), torch.cat(targets)
        if isinstance(metric, torchmetrics.Metric):  # calling it would compute it twice
            metric.update(*whole)
            score = float(metric.compute())
        else:
            score = float(metric(*whole))
        return -score if getattr(metric, "higher_is_better", True) is False else score

    def _batches(self) -> list[Any]:
        """The validation batches, put together once."""
        if self._validation_batches is None:
            loader = DataLoader(self.validation, max(self.batch_size, 64), collate_fn=self.collate_fn)
            self._validation_batches = list(loader)
        return self._validation_batches


def _predict(module: pl.LightningModule, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(batch, Mapping) and "labels" in batch:
        output, targets = module(**{name: value for name, value in batch.items() if name != "labels"}), batch["labels"]
    elif isinstance(batch, (tuple, list)) and len(batch) == 2:
        output, targets = module(batch[0]), batch[1]
    else:
        raise InputError(
            "batch",
            got=f"{type(batch).__name__}",
            expected="a pair (inputs, targets), or a mapping with 'labels'",
            remedy="Pass predict=, a function from module and batch to predictions and targets.",
        )
    return getattr(output, "logits", output), targets


def _not_finite(what: str, members: NDArray[np.intp], got: object) -> GameError:
    return GameError.of_coalition(
        what, members.tolist(), got=got, expected="finite numbers", remedy="Lower the learning rate or clip gradients."
    )


def _length(name: str, data: Any) -> int:
    try:
        length = len(data)
        data.__getitem__  # noqa: B018  an iterable data set has none
    except (TypeError, AttributeError) as error:
        raise InputError(
            name, got=type(data).__name__, expected="a map-style data set", remedy="Give it __len__ and __getitem__."
        ) from error
    if length < 1:
        raise InputError(
            name, got="no example", expected="at least one", remedy=f"Pass a {name} set that is not empty."
        )
    return length


def _name(function: Any) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
