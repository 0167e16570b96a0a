"""Data valuation of linear models on frozen features, trained in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from lightning_attnflow._checks import (
    check_choice,
    check_integer,
    check_nonnegative,
    check_positive,
    check_seed,
    is_number,
)
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation.data import check_features, check_validation_features, fingerprint
from lightning_attnflow.valuation.utilities.design import Design, Problem
from lightning_attnflow.valuation.utilities.logistic_head import GradientDescent, LogisticHead
from lightning_attnflow.valuation.utilities.logistic_regression import SMALLEST_L2
from lightning_attnflow.valuation.utilities.metrics import metric_name
from lightning_attnflow.valuation.utilities.ridge_head import RidgeHead
from lightning_attnflow.valuation.utilities.tasks import TASKS, TaskArguments

FloatArray = NDArray[np.float64]


class FrozenEncoderUtility:
    """A game whose payoff is the validation score of a linear model trained on the sentences of a coalition.

    The model is a logistic regression; with ``task="multilabel"`` an independent one for each label; with
    ``task="regression"`` a ridge regression.

    By default, the regularised log-likelihood ``sum_S log-loss + l2/2 |w|^2`` is minimised to its unique optimum, which
    depends on no seed, starting point or step size. Features are centred and scaled to a mean square norm of 1 on the
    whole training set. The logits have a fixed offset, the base rate of each class in the training set, shrunk to equal
    rates where the difference is not significant; in place of an intercept there is a constant feature of 0.1. With a
    free intercept, models of small coalitions would predict their majority class. More than two classes are trained
    one against the rest. Coalitions of one class are trained like all others. The empty coalition predicts the base
    rates.

    Ridge regressions minimise ``sum_S (y - mean - w x)^2 + l2 |w|^2`` on the same features; the empty coalition
    predicts the mean of the training set.

    ``log_loss`` finds wrong labels with the fewest permutations, because its marginals are rarely 0: on 300 movie
    sentences with 10% (20%) wrong labels and 400 validation sentences, the area under the ROC curve is .79 (.81) with
    log loss after 20 permutations, .78 (.80) with AUC, and .77 (.79) with accuracy after some hundred permutations.

    Along a permutation, models of up to 256 examples are trained together. Larger ones are updated by one example at a
    time and retrained whenever the training set has grown by a fifth; the difference is distributed over the prefixes
    between. On movie sentences, marginals differ from those of exact training by about 2% of their standard deviation
    (``recipes/benchmarks/permutation_cost.py``); ``prefixes="exact"`` trains every model to the optimum.

    Models that miss at most a twentieth of the examples, as for leave-one-out values, are computed from the model of
    all: ridge regressions in closed form, logistic regressions by closed-form steps that are repeated to the optimum.

    Args:
        features: float (n, d), one row for each training sentence.
        labels: n labels: strings, integers or booleans, in a list, array, tensor or pandas column; for a regression n
            numbers; for multi-label data zeros and ones (n, k), one column for each label.
        validation_features: float (m, d).
        validation_labels: m labels, of the classes of ``labels``, or numbers, or (m, k).
        task: "classification", "multilabel" or "regression".
        metric: for classification log_loss (negated, the default), accuracy, balanced_accuracy, f1 (mean over classes)
            or auc; for multi-label data log_loss (negated mean over labels, the default), accuracy, f1 or auc (means
            over labels); for a regression mean_squared_error (negated, the default) or r2. Or a ``torchmetrics.Metric``
            of predictions and labels, negated if ``higher_is_better`` is False. Or a function of labels and
            predictions, NumPy arrays, that returns a number, larger for a better model. Labels are class indices in
            the order of ``classes``, int64 (m,), and predictions are probabilities (m, C); with two classes, metrics
            of torchmetrics without ``num_classes`` are given the probabilities of the second one, (m,). For multi-label
            data both are (m, k), for a regression (m,).
        sample_weight: float (n,), weights of the training examples in the loss, default 1.
        class_weight: "balanced" weights each class by the inverse of its share in the training set, as in scikit-learn;
            or a dictionary of weights by class. Only for classification.
        prefixes: "updated" or "exact", see above; with ``epochs`` all models are trained, and updated ridge
            regressions are exact.
        epochs: None trains to the optimum, a number by that many epochs of gradient descent from weights 0. None for
            a regression.
        lr: step size of gradient descent, default 1.0; only with ``epochs``.
        batch_size: sentences of a gradient step, default all; only with ``epochs``. The batches are the same for all
            coalitions.
        l2: penalty, at least 1e-6, because separable data has no finite optimum without a penalty; with ``epochs`` at
            least 0. With the default of 1.0, the accuracy is within one percentage point of cross-validated logistic
            regression on 100 to 1,000 movie sentences.
        chunk_size: models trained together. The memory needed is about ``100 * n * chunk_size`` bytes.
        seed: seed of the batches; only used with ``batch_size``.

    Raises:
        InputError: a set is empty, has one class only or values that are not finite, a label is missing or is none of
            the training classes, or an argument is invalid.

    Source: Ghorbani & Zou (2019), Data Shapley.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> features, labels = rng.normal(size=(40, 3)), np.arange(40) % 2
        >>> features[:, 0] += 2 * labels
        >>> game = FrozenEncoderUtility(features[:20], labels[:20], features[20:], labels[20:])
        >>> empty_and_full = np.array([[False] * 20, [True] * 20])
        >>> game(empty_and_full).round(4).tolist()
        [-0.6931, -0.5391]

        With a metric of your own, here the negative Brier score:

        >>> def brier(labels, probabilities):
        ...     return -((probabilities[:, 1] - labels) ** 2).mean()
        >>> game = FrozenEncoderUtility(features[:20], labels[:20], features[20:], labels[20:], metric=brier)
        >>> game(empty_and_full).round(4).tolist()
        [-0.25, -0.1872]

        A regression:

        >>> game = FrozenEncoderUtility(
        ...     features[:20], features[:20, 0], features[20:], features[20:, 0], task="regression", metric="r2"
        ... )
        >>> game(empty_and_full).round(4).tolist()
        [-0.0813, 0.9925]
    """

    def __init__(
        self,
        features: ArrayLike,
        labels: ArrayLike,
        validation_features: ArrayLike,
        validation_labels: ArrayLike,
        *,
        task: Literal["classification", "multilabel", "regression"] = "classification",
        metric: str | Callable[[Any, Any], Any] | None = None,
        sample_weight: ArrayLike | None = None,
        class_weight: Literal["balanced"] | Mapping[Any, float] | None = None,
        prefixes: Literal["updated", "exact"] = "updated",
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | None = None,
        l2: float = 1.0,
        chunk_size: int = 64,
        seed: int = 0,
    ) -> None:
        train = check_features("features", features)
        validation = check_validation_features(validation_features, train.shape[1])
        self.n_players = n = len(train)
        check_choice("task", task, tuple(TASKS))
        check_choice("prefixes", prefixes, ("updated", "exact"))
        self.task, self.prefixes = task, prefixes
        given = TaskArguments(labels, validation_labels, n, len(validation), metric, sample_weight, class_weight)
        self._task = TASKS[task](given)
        self.labels, self.validation_labels = self._task.labels, self._task.validation_labels
        self.classes, self.metric = self._task.classes, self._task.scorer.metric
        self.chunk_size, self.seed = check_integer("chunk_size", chunk_size), check_seed(seed)
        self.l2 = check_nonnegative("l2", l2) if epochs is not None else _penalty(l2)
        self.epochs, self.lr, self.batch_size = _descent(epochs, lr, batch_size, n)
        design = Design.of(torch.from_numpy(train))
        validation_rows, weights = design.apply(torch.from_numpy(validation)), self._task.weights
        problem = Problem(
            design, validation_rows, self._task.targets, torch.from_numpy(weights), self._task.offset, self.l2
        )
        self._head = self._make_head(problem)
        self._data_hash = fingerprint((train, self.labels, validation, self.validation_labels, weights))

    def _make_head(self, problem: Problem) -> LogisticHead | RidgeHead:
        if self.task == "regression":
            if self.epochs is not None:
                raise InputError("epochs", got=self.epochs, expected="None with task='regression'")
            return RidgeHead(problem)
        descent = None
        if self.epochs is not None:
            assert self.lr is not None
            descent = GradientDescent(self.epochs, self.lr, self.batch_size, self.seed)
        return LogisticHead(problem, prefixes=self.prefixes, chunk_size=self.chunk_size, descent=descent)

    @classmethod
    def from_model(
        cls,
        model: Any,
        tokenizer: Any,
        texts: Sequence[str],
        labels: ArrayLike,
        validation_texts: Sequence[str],
        validation_labels: ArrayLike,
        *,
        cache_dir: str | Path | None = None,
        pooling: str = "mean",
        max_length: int = 128,
        encode_batch_size: int = 32,
        **options: Any,
    ) -> FrozenEncoderUtility:
        """Encode the sentences with :func:`encode_texts` and create the utility of their features.

        Args:
            model: see :func:`encode_texts`, as the following arguments.
            tokenizer: tokenizer of the model.
            texts: n training sentences.
            labels: n labels, see the class.
            validation_texts: m validation sentences.
            validation_labels: m labels.
            cache_dir: folder of the cache of features.
            pooling: ``mean`` or ``first``.
            max_length: maximum number of tokens of a text.
            encode_batch_size: sentences encoded together.
            options: keyword arguments of the class.
        """
        from lightning_attnflow.valuation.features import encode_texts

        encoding: dict[str, Any] = {"cache_dir": cache_dir, "pooling": pooling, "max_length": max_length}
        encoding["batch_size"] = encode_batch_size
        train = encode_texts(model, tokenizer, texts, **encoding)
        validation = encode_texts(model, tokenizer, validation_texts, **encoding)
        return cls(train, labels, validation, validation_labels, **options)

    def __call__(self, coalitions: NDArray[np.bool_]) -> FloatArray:
        """Payoffs float64 (m,) of coalitions bool (m, n)."""
        scores = [self._scores(outputs) for outputs in self._head.outputs(coalitions)]
        return np.concatenate(scores) if scores else np.empty(0)

    def prefix_chunks(self, permutation: NDArray[np.intp], sizes: Sequence[int]) -> Iterator[FloatArray]:
        """Payoffs of prefixes of a permutation with the given sizes (ascending, > 0), in chunks.

        Iteration may stop after any chunk.
        """
        index = torch.from_numpy(np.ascontiguousarray(permutation))
        return map(self._scores, self._head.prefix_outputs(index, sizes))

    def prefix_values(self, permutations: NDArray[np.intp]) -> FloatArray:
        """Payoffs (m, n + 1) of all prefixes of permutations (m, n); column 0 is the empty value."""
        empty = self(np.zeros((1, self.n_players), dtype=bool))
        sizes = range(1, self.n_players + 1)
        return np.array([np.concatenate([empty, *self.prefix_chunks(row, sizes)]) for row in permutations])

    def influence(self) -> FloatArray:
        """First-order leave-one-out values, in closed form: how the payoff depends on the weight of each example.

        The derivative of the payoff of all examples by the relative weight of an example in the training loss. Exact
        values, for any metric, are those of :func:`~lightning_attnflow.shapley.leave_one_out`, which needs a time
        proportional to the square of the number of examples.

        Returns:
            float64 (n,), in the unit of the metric; positive: the example improves the model.

        Raises:
            InputError: the metric is none of log_loss, mean_squared_error and r2, or ``epochs`` is given.

        Source: Koh & Liang (2017), Understanding black-box predictions via influence functions.

        Example:
            >>> rng = np.random.default_rng(0)
            >>> features, labels = rng.normal(size=(400, 3)), np.arange(400) % 2
            >>> features[:, 0] += 2 * labels
            >>> game = FrozenEncoderUtility(features[:200], labels[:200], features[200:], labels[200:])
            >>> from lightning_attnflow.shapley import leave_one_out
            >>> exact = leave_one_out(game)
            >>> (game.influence()[:3] * 1e4).round(2).tolist(), (exact[:3] * 1e4).round(2).tolist()
            ([8.76, 2.47, -15.11], [8.88, 2.51, -15.13])
        """
        if self.epochs is not None:
            raise InputError("epochs", got=self.epochs, expected="None for influence, models trained to the optimum")
        models, rows = self._head.full_models, self._head.problem.validation_rows
        outputs = rows @ torch.stack([model.coefficients for model in models], dim=1) + self._head.problem.offset
        slopes = (rows.T @ self._task.derivatives(outputs)).T  # (C, d + 1), derivatives by the weights of each model
        parts = [model.influence(slope) for model, slope in zip(models, slopes, strict=True)]
        values: FloatArray = torch.stack(parts).sum(dim=0).numpy()
        return values

    def configuration(self) -> dict[str, object]:
        """Everything the payoffs depend on, as JSON values: a hash of the data and the arguments."""
        names = ("task", "epochs", "lr", "batch_size", "l2", "chunk_size", "seed", "prefixes")
        return {
            "utility": "FrozenEncoderUtility",
            "data": self._data_hash,
            "metric": metric_name(self.metric),
            **{name: getattr(self, name) for name in names},
        }

    def _scores(self, outputs: Tensor) -> FloatArray:
        """Scores (H,) of models with outputs (m, H, C)."""
        return self._task.scores(outputs)


def _penalty(l2: object) -> float:
    if not is_number(l2) or l2 < SMALLEST_L2:
        raise InputError(
            "l2",
            got=repr(l2),
            expected=f"a number >= {SMALLEST_L2}",
            remedy="Separable data has no finite optimum without a penalty.",
        )
    return float(l2)


def _descent(
    epochs: int | None, lr: float | None, batch_size: int | None, n: int
) -> tuple[int | None, float | None, int | None]:
    if epochs is None:
        for name, value in (("lr", lr), ("batch_size", batch_size)):
            if value is not None:
                raise InputError(name, got=value, expected="None without epochs", remedy="Pass epochs too.")
        return None, None, None
    size = None if batch_size is None else min(check_integer("batch_size", batch_size), n)
    return check_integer("epochs", epochs), check_positive("lr", 1.0 if lr is None else lr), size
