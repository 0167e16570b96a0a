"""Ridge regression, multi-label heads and metrics of FrozenEncoderUtility against scikit-learn and torchmetrics."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import logit
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import f1_score, log_loss, r2_score, roc_auc_score
from sklearn.multiclass import OneVsRestClassifier
from torchmetrics import MeanSquaredError
from torchmetrics.classification import AUROC, BinaryF1Score, MulticlassAccuracy, MultilabelF1Score

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import MaxPermutations
from lightning_attnflow.valuation import DataShapley, FrozenEncoderUtility

RNG = np.random.default_rng(0)
FEATURES, HELD_OUT = RNG.normal(size=(60, 8)), RNG.normal(size=(50, 8))
WEIGHTS = RNG.uniform(0.2, 3, size=60)
SLOPES = RNG.normal(size=(8, 3))
TARGETS, TRUTH = (part @ SLOPES[:, 0] + 5 + RNG.normal(size=len(part)) for part in (FEATURES, HELD_OUT))
LABELS, LABELS_TRUTH = (
    (part @ SLOPES + RNG.normal(size=(len(part), 3)) > 0.3).astype(int) for part in (FEATURES, HELD_OUT)
)
COALITIONS = RNG.random((12, 60)) < RNG.random((12, 1))  # fewer and more members than features


def design() -> tuple[np.ndarray, np.ndarray]:
    """Rows of both sets, as the utility documents them."""
    centre = FEATURES.mean(axis=0)
    scale = np.sqrt(((FEATURES - centre) ** 2).sum(axis=1).mean())
    return tuple(np.c_[(part - centre) / scale, np.full(len(part), 0.1)] for part in (FEATURES, HELD_OUT))


def regression(**options: object) -> FrozenEncoderUtility:
    return FrozenEncoderUtility(FEATURES, TARGETS, HELD_OUT, TRUTH, task="regression", **options)


def multilabel(**options: object) -> FrozenEncoderUtility:
    return FrozenEncoderUtility(FEATURES, LABELS, HELD_OUT, LABELS_TRUTH, task="multilabel", **options)


@pytest.mark.parametrize("metric", ["mean_squared_error", "r2"])
@pytest.mark.parametrize(("l2", "weights"), [(1.0, None), (0.01, WEIGHTS)])
def test_regressions_equal_those_of_scikit_learn(metric: str, l2: float, weights: np.ndarray | None) -> None:
    rows, outside = design()
    mean = np.average(TARGETS, weights=weights)
    expected = []
    for members in COALITIONS:
        own = None if weights is None else weights[members]
        model = Ridge(alpha=l2, fit_intercept=False).fit(rows[members], TARGETS[members] - mean, sample_weight=own)
        prediction = model.predict(outside) + mean
        expected.append(r2_score(TRUTH, prediction) if metric == "r2" else -((prediction - TRUTH) ** 2).mean())
    game = regression(metric=metric, l2=l2, sample_weight=weights)
    np.testing.assert_allclose(game(COALITIONS), expected, atol=1e-10)
    assert np.ptp(expected) > 0.1


@pytest.mark.parametrize("l2", [1.0, 1e-3, 1e-6])
def test_updated_regressions_equal_trained_ones(l2: float) -> None:
    game = regression(l2=l2, sample_weight=WEIGHTS)
    permutation = np.random.default_rng(1).permutation(60)
    prefixes = np.argsort(permutation) < np.arange(61)[:, None]
    np.testing.assert_allclose(game.prefix_values(permutation[None])[0], game(prefixes), rtol=1e-6)
    np.testing.assert_allclose(
        np.concatenate(list(game.prefix_chunks(permutation, [3, 20, 60]))), game(prefixes)[[3, 20, 60]], rtol=1e-6
    )


def test_the_empty_coalition_of_a_regression_predicts_the_mean() -> None:
    empty = np.zeros((1, 60), dtype=bool)
    assert regression()(empty)[0] == pytest.approx(-((TRUTH - TARGETS.mean()) ** 2).mean())


def test_multilabel_payoffs_equal_those_of_one_against_the_rest() -> None:
    # Labels whose base rates do not differ from one half have an offset of 0, as the models of scikit-learn
    labels = (np.median(FEATURES @ SLOPES, axis=0) < FEATURES @ SLOPES).astype(int)
    rows, outside = design()
    coalitions = np.array(
        [members for members in COALITIONS if labels[members].mean(axis=0).min() > 0 and members.sum() > 9]
    )
    coalitions = coalitions[[(labels[members].mean(axis=0) < 1).all() for members in coalitions]]
    assert len(coalitions) > 4
    scores = {
        "log_loss": lambda p: -np.mean([log_loss(LABELS_TRUTH[:, j], p[:, j]) for j in range(3)]),
        "accuracy": lambda p: ((p > 0.5) == LABELS_TRUTH).mean(),
        "f1": lambda p: f1_score(LABELS_TRUTH, p > 0.5, average="macro"),
        "auc": lambda p: roc_auc_score(LABELS_TRUTH, p, average="macro"),
    }
    model = OneVsRestClassifier(LogisticRegression(C=1.0, fit_intercept=False, tol=1e-12, max_iter=10_000))
    chances = [model.fit(rows[members], labels[members]).predict_proba(outside) for members in coalitions]
    for metric, score in scores.items():
        game = FrozenEncoderUtility(FEATURES, labels, HELD_OUT, LABELS_TRUTH, task="multilabel", metric=metric)
        np.testing.assert_allclose(game(coalitions), [score(chance) for chance in chances], atol=1e-6)


def test_a_multilabel_payoff_is_the_mean_of_the_binary_ones() -> None:
    binary = [FrozenEncoderUtility(FEATURES, LABELS[:, j], HELD_OUT, LABELS_TRUTH[:, j]) for j in range(3)]
    together = multilabel()
    np.testing.assert_allclose(together(COALITIONS), np.mean([game(COALITIONS) for game in binary], axis=0), atol=1e-7)
    permutation = np.random.default_rng(1).permutation(60)[None]
    np.testing.assert_allclose(
        together.prefix_values(permutation),
        np.mean([game.prefix_values(permutation) for game in binary], axis=0),
        atol=1e-6,
    )
    one = multilabel(epochs=3, batch_size=16)
    assert one(COALITIONS[:1])[0] == pytest.approx(
        np.mean(
            [
                FrozenEncoderUtility(FEATURES, LABELS[:, j], HELD_OUT, LABELS_TRUTH[:, j], epochs=3, batch_size=16)(
                    COALITIONS[:1]
                )[0]
                for j in range(3)
            ]
        )
    )


def test_the_empty_coalition_of_multilabel_data_predicts_the_base_rates() -> None:
    rare = np.c_[np.arange(60) < 6, np.arange(60) % 2].astype(int)
    game = FrozenEncoderUtility(FEATURES, rare, HELD_OUT, LABELS_TRUTH[:, :2], task="multilabel")
    np.testing.assert_allclose(game._task.offset, [logit(7 / 62), 0.0], rtol=0.05)


@pytest.mark.parametrize(
    ("make", "metric", "same"),
    [
        ("binary", BinaryF1Score(), lambda t, p: f1_score(t, p[:, 1] > 0.5, zero_division=0)),
        ("binary", BinaryF1Score(threshold=0.3), lambda t, p: f1_score(t, p[:, 1] > 0.3, zero_division=0)),
        ("binary", AUROC(task="binary"), lambda t, p: roc_auc_score(t, p[:, 1])),
        ("binary", MulticlassAccuracy(num_classes=2, average="micro"), lambda t, p: (p.argmax(axis=1) == t).mean()),
        ("binary", MeanSquaredError(), lambda t, p: -((p[:, 1] - t) ** 2).mean()),
        ("three", MulticlassAccuracy(num_classes=3, average="micro"), lambda t, p: (p.argmax(axis=1) == t).mean()),
        (
            "multilabel",
            MultilabelF1Score(num_labels=3),
            lambda t, p: f1_score(t, p > 0.5, average="macro", zero_division=0),
        ),
        ("regression", MeanSquaredError(), lambda t, p: -((p - t) ** 2).mean()),
    ],
)
def test_metrics_of_torchmetrics_equal_functions(make: str, metric: object, same: object) -> None:
    three = [np.abs(part @ SLOPES).argmax(axis=1) for part in (FEATURES, HELD_OUT)]
    makers = {
        "binary": lambda **o: FrozenEncoderUtility(FEATURES, LABELS[:, 0], HELD_OUT, LABELS_TRUTH[:, 0], **o),
        "three": lambda **o: FrozenEncoderUtility(FEATURES, three[0], HELD_OUT, three[1], **o),
        "multilabel": multilabel,
        "regression": regression,
    }
    game, function = makers[make](metric=metric), makers[make](metric=same)
    np.testing.assert_allclose(game(COALITIONS), function(COALITIONS), rtol=1e-5)
    assert np.ptp(game(COALITIONS)) > 0


def test_the_state_of_a_metric_is_neither_used_nor_changed() -> None:
    metric = MeanSquaredError()
    metric.update(torch.tensor([100.0]), torch.tensor([0.0]))
    assert regression(metric=metric)(COALITIONS).tolist() == regression(metric=MeanSquaredError())(COALITIONS).tolist()
    assert float(metric.compute()) == 10_000


def test_the_configuration_contains_task_and_settings_of_the_metric() -> None:
    half = FrozenEncoderUtility(FEATURES, LABELS[:, 0], HELD_OUT, LABELS_TRUTH[:, 0], metric=BinaryF1Score())
    third = FrozenEncoderUtility(FEATURES, LABELS[:, 0], HELD_OUT, LABELS_TRUTH[:, 0], metric=BinaryF1Score(0.3))
    assert half.configuration()["metric"] != third.configuration()["metric"]
    assert regression().configuration()["task"] == "regression"


@pytest.mark.parametrize("make", [regression, multilabel])
def test_data_shapley_values_of_all_tasks_sum_to_the_gain(make) -> None:
    frame = (
        [pd.DataFrame(LABELS), pd.DataFrame(LABELS_TRUTH)]
        if make is multilabel
        else [pd.Series(TARGETS), pd.Series(TRUTH)]
    )
    game = FrozenEncoderUtility(FEATURES, frame[0], pd.DataFrame(HELD_OUT), frame[1], task=make().task)
    run = DataShapley(pickle.loads(pickle.dumps(game)), stop=MaxPermutations(4)).fit()
    gain = np.diff(make()(np.array([[False] * 60, [True] * 60])))[0]
    assert run.result.values.sum() == pytest.approx(gain)
    table = run.ranking(ids=[f"row {i}" for i in range(60)]).to_pandas()
    assert set(table["id"]) == {f"row {i}" for i in range(60)}


def test_read_only_features_are_accepted() -> None:
    features = FEATURES.copy()
    features.flags.writeable = False
    game = FrozenEncoderUtility(features, TARGETS, HELD_OUT, TRUTH, task="regression")
    assert (game(COALITIONS) == regression()(COALITIONS)).all()


@pytest.mark.parametrize(
    ("task", "labels", "truth", "options", "message"),
    [
        ("ranking", TARGETS, TRUTH, {}, "task: got 'ranking'"),
        ("regression", LABELS, TRUTH, {}, r"labels: got shape \(60, 3\); expected shape \(60,\)"),
        ("regression", ["a"] * 60, TRUTH, {}, "labels: got list of dtype <U1; expected numbers"),
        ("regression", np.r_[np.nan, TARGETS[1:]], TRUTH, {}, "labels: got 1 NaN or infinite; first at index 0"),
        ("regression", TARGETS, np.ones(50), {"metric": "r2"}, "equal numbers"),
        ("regression", TARGETS, TRUTH, {"metric": "log_loss"}, "expected one of .*'mean_squared_error', 'r2'"),
        ("regression", TARGETS, TRUTH, {"class_weight": "balanced"}, "class_weight: .* None with task='regression'"),
        ("regression", TARGETS, TRUTH, {"epochs": 3}, "epochs: got 3; expected None with task='regression'"),
        ("regression", TARGETS, TRUTH, {"sample_weight": -WEIGHTS}, "sample_weight: got a smallest value"),
        ("multilabel", LABELS[:, 0], LABELS_TRUTH, {}, r"labels: got shape \(60,\); expected zeros and ones of shape"),
        ("multilabel", LABELS, LABELS_TRUTH[:, :2], {}, r"got shape \(50, 2\); expected zeros and ones .* \(50, 3\)"),
        ("multilabel", LABELS + 1, LABELS_TRUTH, {}, "labels: got 2.0 in row"),
        ("multilabel", LABELS, 0 * LABELS_TRUTH, {"metric": "auc"}, "label 0 with the same value in all rows"),
        ("multilabel", LABELS, LABELS_TRUTH, {"class_weight": "balanced"}, "None with task='multilabel'"),
        ("classification", LABELS, LABELS_TRUTH, {}, "with task='multilabel'"),
        ("classification", TARGETS, TRUTH, {}, "with task='regression'"),
    ],
)
def test_invalid_arguments_raise_input_errors(
    task: str, labels: object, truth: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        FrozenEncoderUtility(FEATURES, labels, HELD_OUT, truth, task=task, **options)
