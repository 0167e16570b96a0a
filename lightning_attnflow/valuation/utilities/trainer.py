"""Data valuation of any LightningModule: one ``Trainer.fit`` for each coalition."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
import torchmetrics
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from lightning_attnflow._checks import check_instance, check_integer, check_seed
from lightning_attnflow._state import seeded_rng
from lightning_attnflow.errors import GameError, InputError
from lightning_attnflow.valuation.data import fingerprint
from lightning_attnflow.valuation.utilities.direct_training import can_train_directly, train_directly
from lightning_attnflow.valuation.utilities.metrics import compute_torchmetric, is_torchmetric, metric_name
from lightning_attnflow.valuation.utilities.trainer_fit import TRAINING_LOCK, fit, make_trainer, quiet, training_loader

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]
Predict = Callable[[pl.LightningModule, Any], tuple[torch.Tensor, torch.Tensor]]


class TrainerUtility:
    """A game whose payoff is the validation score of a LightningModule trained on the examples of a coalition.

    Every training starts from the same initial weights. Its randomness (shuffling, dropout) depends on the seed and the
    coalition only; the global random number generators are restored. The payoff of the empty coalition is the score of
    the initial weights. Coalitions of one class are trained like all others.

    A module with one optimizer, no schedule and no hooks besides ``training_step`` is trained without ``Trainer.fit``,
    whose overhead is larger than a step of a small model. The first training is done in both ways; if the weights or
    scores differ in any bit, or the module asks for its Trainer, ``Trainer.fit`` trains all coalitions. ``self.log``
    has no effect.

    Args:
        make_module: returns the LightningModule. It is called once; each coalition trains a copy.
        train: map-style data set; each item is a player.
        validation: map-style data set. It is read once.
        metric: a ``torchmetrics.Metric``, or a function of the predictions and targets of the whole validation set that
            returns a number. A metric with ``higher_is_better = False`` is negated.
        trainer: keyword arguments of the Trainer, default ``{"max_epochs": 3}``. Logging, checkpoints, progress bar,
            model summary and validation are disabled.
        batch_size: examples of a training step.
        seed: seed of the initial weights and of every training.
        training_seeds: trainings for each coalition. The payoff is their mean; with two or more, the result contains
            the variance that is due to the training seed.
        collate_fn: ``collate_fn`` of the data loaders.
        predict: function from (module, batch) to (predictions, targets). The default accepts a pair (inputs, targets)
            or a mapping with "labels", and uses the ``logits`` of the output if it has any.

    Raises:
        InputError: a data set is empty or not map-style, or an argument is invalid.

    Source: Ghorbani & Zou (2019), Data Shapley.

    Example:
        >>> class Model(pl.LightningModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear = torch.nn.Linear(1, 2)
        ...     def forward(self, inputs):
        ...         return self.linear(inputs)
        ...     def training_step(self, batch):
        ...         return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])
        ...     def configure_optimizers(self):
        ...         return torch.optim.SGD(self.parameters(), lr=1.0)
        >>> inputs, targets = torch.tensor([[-2.0], [-1.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
        >>> data = torch.utils.data.TensorDataset(inputs, targets)
        >>> metric = torchmetrics.classification.MulticlassAccuracy(num_classes=2)
        >>> utility = TrainerUtility(Model, data, data, metric=metric)
        >>> utility(np.array([[True, True, True, True]])).tolist()
        [1.0]

        With a function as the metric:

        >>> def mean_margin(logits, targets):
        ...     return (logits[:, 1] - logits[:, 0]).mul(2 * targets - 1).mean()
        >>> utility = TrainerUtility(Model, data, data, metric=mean_margin)
        >>> bool(utility(np.array([[True, True, True, True]])) > 0)
        True
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
        if not callable(make_module) or isinstance(make_module, torch.nn.Module):
            raise InputError(
                "make_module",
                got=type(make_module).__name__,
                expected="a function that returns a LightningModule, such as its class",
            )
        if not callable(metric):
            raise InputError(
                "metric", got=repr(metric), expected="a torchmetrics.Metric or a function of predictions and targets"
            )
        self.train, self.validation, self.metric, self.seed = train, validation, metric, check_seed(seed)
        if trainer is not None:
            check_instance("trainer", trainer, Mapping)
        for name, function in {"collate_fn": collate_fn, "predict": predict}.items():
            if function is not None and not callable(function):
                raise InputError(name, got=repr(function), expected="a function or None")
        self.trainer = {"max_epochs": 3} if trainer is None else dict(trainer)
        self.batch_size = check_integer("batch_size", batch_size)
        self.training_seeds = check_integer("training_seeds", training_seeds)
        self.collate_fn, self._predict = collate_fn, predict or _predict
        with seeded_rng(np.random.SeedSequence(seed)):
            self._initial = make_module()
            if not isinstance(self._initial, pl.LightningModule):
                raise InputError(
                    "make_module",
                    got=f"a function that returns {type(self._initial).__name__}",
                    expected="a function that returns a lightning.pytorch.LightningModule",
                    remedy="Note that pytorch_lightning is a different package.",
                )
            # A copy for each coalition costs less than a new Trainer and carries over no state of the callbacks.
            self._initial_trainer = make_trainer(self.trainer)
        # True, False, or "unchecked": the first training is done in both ways and compared
        is_possible = can_train_directly(self._initial_trainer, self.trainer, self._initial)
        self._is_direct: bool | Literal["unchecked"] = "unchecked" if is_possible else False
        self._validation_batches: list[Any] | None = None
        self._variance_sum, self._variance_count = 0.0, 0

    def __call__(self, coalitions: NDArray[np.bool_]) -> FloatArray:
        """Payoffs float64 (m,) of coalitions bool (m, n).

        Raises:
            GameError: a training or the metric raises an exception or returns NaN; the error names the coalition.
        """
        return np.array([self._payoff(np.flatnonzero(coalition)) for coalition in coalitions])

    def pop_training_variance(self) -> tuple[float, int]:
        """Return and reset the sum of the payoffs' variances due to the training seed, and their number."""
        popped = self._variance_sum, self._variance_count
        self._variance_sum, self._variance_count = 0.0, 0
        return popped

    def configuration(self) -> dict[str, object]:
        """Everything the payoffs depend on, as JSON values."""
        try:
            optimizer = repr(copy.deepcopy(self._initial).configure_optimizers())
        except Exception as error:  # for example, it needs the number of steps, which only a Trainer knows
            optimizer = f"unknown before training: {type(error).__name__}"
        return {
            "utility": "TrainerUtility",
            "module": fingerprint((repr(self._initial), dict(self._initial.hparams), self._initial.state_dict())),
            "optimizer": optimizer,
            "train": fingerprint(self.train),
            "validation": fingerprint(self.validation),
            "metric": metric_name(self.metric),
            "trainer": {name: repr(value) for name, value in self.trainer.items()},
            "batch_size": self.batch_size,
            "seed": self.seed,
            "training_seeds": self.training_seeds,
        }

    def _payoff(self, members: IntArray) -> float:
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
                expected="training and metric without an exception",
                remedy="Call the utility with this coalition to reproduce the error.",
            ) from error
        if trainings > 1:
            self._variance_sum += float(np.var(scores, ddof=1)) / trainings
            self._variance_count += 1
        return float(np.mean(scores))

    def _train_and_score(self, members: IntArray, number: int) -> float:
        with TRAINING_LOCK:
            if not len(members) or not self._is_direct:
                return self._score_with(fit, members, number)[0]
            is_unchecked = self._is_direct == "unchecked"
            if is_unchecked and len(members) < min(self.n_players, self.batch_size + 1):  # one batch would show little
                return self._score_with(fit, members, number)[0]
            try:
                score, module = self._score_with(train_directly, members, number)
            except Exception:  # the Trainer raises it again, unless only train_directly fails
                self._is_direct = False
                return self._score_with(fit, members, number)[0]
            if is_unchecked:
                expected, its_module = self._score_with(fit, members, number)
                hashes = [fingerprint(trained.state_dict()) for trained in (module, its_module)]
                self._is_direct = score == expected and hashes[0] == hashes[1]
                return expected
            return score

    def _score_with(
        self, train: Callable[[pl.Trainer, pl.LightningModule, DataLoader[Any]], None], members: IntArray, number: int
    ) -> tuple[float, pl.LightningModule]:
        """Score of a trained module, and the module."""
        sequence = np.random.SeedSequence([self.seed, number, *members.tolist()])
        with seeded_rng(sequence), quiet():
            module = copy.deepcopy(self._initial)
            if len(members):
                loader = training_loader(self.train, members, self.batch_size, self.collate_fn)
                trainer = self._initial_trainer if train is train_directly else copy.deepcopy(self._initial_trainer)
                train(trainer, module, loader)
            invalid = [name for name, weight in module.named_parameters() if not torch.isfinite(weight).all()]
            if invalid:
                raise _not_finite("weights after training", members, f"NaN or infinity in {invalid[0]}")
            score = self._score(module)
        if not math.isfinite(score):
            raise _not_finite("metric", members, score)
        return score, module

    def _score(self, module: pl.LightningModule) -> float:
        predictions, targets = [], []
        module.eval()
        with torch.no_grad():
            for batch in self._batches():
                prediction, target = self._predict(module, batch)
                predictions.append(prediction.detach())
                targets.append(target)
        everything = torch.cat(predictions), torch.cat(targets)
        if is_torchmetric(self.metric):
            return compute_torchmetric(self.metric, *everything)
        return float(self.metric(*everything))

    def _batches(self) -> list[Any]:
        """The validation batches, collated on the first call."""
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
            expected="a pair (inputs, targets) or a mapping with 'labels'",
            remedy="Pass predict=, a function from (module, batch) to (predictions, targets).",
        )
    return getattr(output, "logits", output), targets


def _not_finite(what: str, members: IntArray, got: object) -> GameError:
    return GameError.of_coalition(
        what,
        members.tolist(),
        got=got,
        expected="finite numbers",
        remedy="Reduce the learning rate or clip the gradients.",
    )


def _length(name: str, data: Any) -> int:
    try:
        length = len(data)
        data.__getitem__  # noqa: B018  an iterable data set has none
    except (TypeError, AttributeError) as error:
        raise InputError(
            name, got=type(data).__name__, expected="a map-style data set", remedy="It needs __len__ and __getitem__."
        ) from error
    if length < 1:
        raise InputError(name, got="an empty data set", expected="at least one example")
    return length
