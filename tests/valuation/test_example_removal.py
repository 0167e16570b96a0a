"""Leave-one-out values and influence of frozen features against models trained anew by Newton's method and Ridge."""

from __future__ import annotations

import numpy as np
import pytest
from logistic_reference import SCORES, sentences
from scipy.special import expit, log_expit
from sklearn.linear_model import Ridge

from lightning_attnflow.errors import InputError
from lightning_attnflow.shapley import GroupedGame, leave_one_out
from lightning_attnflow.valuation import FrozenEncoderUtility
from lightning_attnflow.valuation.utilities import logistic_head, ridge_head

N = 120
WEIGHTS = np.random.default_rng(3).uniform(0.2, 3, size=N)
ONE_ROW = np.r_[2, np.arange(N - 1) % 2]  # class 2 has one single row
HELD_OUT_CLASSES = np.arange(50) % 2
GROUPS = [[0, 5, 9, 17], [1], [2, 3], *([i] for i in range(4, N) if i not in (5, 9, 17))]


def reference_outputs(game: FrozenEncoderUtility, members: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Validation outputs (m, C) of the model of some rows, by Newton's method to the precision of the numbers."""
    problem = game._head.problem
    rows, targets = problem.design.rows.numpy()[members], problem.targets.numpy()[members]
    weight = (problem.weights.numpy() if weights is None else weights)[members]
    outputs = []
    for column, offset in enumerate(problem.offset.numpy()):
        w = np.zeros(rows.shape[1])
        for _ in range(60):
            p = expit(offset + rows @ w)
            gradient = rows.T @ (weight * (targets[:, column] - p)) - problem.l2 * w
            if np.linalg.norm(gradient) < 1e-13:
                break
            hessian = (rows.T * (weight * p * (1 - p))) @ rows + problem.l2 * np.eye(len(w))
            w += np.linalg.solve(hessian, gradient)
        assert np.linalg.norm(gradient) < 1e-12
        outputs.append(offset + problem.validation_rows.numpy() @ w)
    return np.stack(outputs, axis=1)


def log_likelihood(outputs: np.ndarray, truth: np.ndarray) -> float:
    """Mean log-likelihood of class indices (m,) or multi-label data (m, k)."""
    if truth.ndim == 2:
        return float(log_expit((2 * truth - 1) * outputs).mean())
    if outputs.shape[1] == 1:
        return float(log_expit((2 * truth - 1) * outputs[:, 0]).mean())
    logits = log_expit(outputs)
    return float((logits[np.arange(len(truth)), truth] - np.logaddexp.reduce(logits, axis=1)).mean())


def removed(groups: list[list[int]]) -> list[np.ndarray]:
    return [np.setdiff1d(np.arange(N), group) for group in groups]


def classes(count: int) -> tuple[np.ndarray, ...]:
    return sentences(n=N, classes=count)


TASKS = {
    "two classes": (classes(2), {}),
    "three classes": (classes(3), {}),
    "a class of one row": ((classes(2)[0], ONE_ROW, classes(2)[2], HELD_OUT_CLASSES), {}),
    "class_weight": (classes(3), {"class_weight": "balanced"}),
    "sample_weight": (classes(2), {"sample_weight": WEIGHTS}),
    "a tiny and a huge weight": (classes(2), {"sample_weight": np.r_[1e-6, 30, WEIGHTS[2:]]}),
    "a small penalty": (classes(2), {"l2": 0.01}),
    "multilabel": (
        (classes(2)[0], np.c_[classes(2)[1], ONE_ROW == 2], classes(2)[2], np.c_[classes(2)[3], HELD_OUT_CLASSES]),
        {"task": "multilabel", "sample_weight": WEIGHTS},
    ),
}


@pytest.mark.parametrize("groups", [[[i] for i in range(N)], GROUPS], ids=["rows", "groups"])
@pytest.mark.parametrize("task", TASKS)
def test_leave_one_out_values_equal_those_of_new_models(
    task: str, groups: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, options = TASKS[task]
    game = FrozenEncoderUtility(*data, **options)
    truth = np.asarray(game.validation_labels)
    expected = [log_likelihood(reference_outputs(game, members), truth) for members in removed(groups)]
    full = log_likelihood(reference_outputs(game, np.arange(N)), truth)
    monkeypatch.setattr(logistic_head, "fit_logistic_regressions", None)  # no model is trained anew
    values = leave_one_out(game if len(groups) == N else GroupedGame(game, groups))
    np.testing.assert_allclose(values, full - np.array(expected), rtol=1e-6, atol=1e-11)
    assert np.ptp(values) > 1e-4


@pytest.mark.parametrize("metric", ["accuracy", "auc", "f1", "balanced_accuracy"])
def test_leave_one_out_values_of_other_metrics(metric: str) -> None:
    data = sentences(n=N, m=1000)  # many sentences, so that the removal of one changes a prediction
    game = FrozenEncoderUtility(*data, metric=metric)
    scores = [
        SCORES[metric](data[3], expit(reference_outputs(game, m)[:, 0])) for m in removed([[i] for i in range(N)])
    ]
    full = SCORES[metric](data[3], expit(reference_outputs(game, np.arange(N))[:, 0]))
    np.testing.assert_allclose(leave_one_out(game), full - np.array(scores), atol=1e-12)
    assert len(set(scores)) > 1


@pytest.mark.parametrize("l2", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("d", [8, 200])  # fewer and more features than rows
def test_leave_one_out_values_of_regressions_equal_those_of_scikit_learn(
    l2: float, weights: np.ndarray | None, d: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    features, held_out = rng.normal(size=(N, d)), rng.normal(size=(50, d))
    targets, truth = features[:, 0] + rng.normal(size=N), held_out[:, 0] + rng.normal(size=50)
    game = FrozenEncoderUtility(
        features, targets, held_out, truth, task="regression", l2=l2, sample_weight=weights, metric="r2"
    )
    problem = game._head.problem
    rows, outside, offset = problem.design.rows.numpy(), problem.validation_rows.numpy(), float(problem.offset)

    def score(members: np.ndarray) -> float:
        own = None if weights is None else weights[members]
        model = Ridge(alpha=l2, fit_intercept=False, solver="svd").fit(rows[members], targets[members] - offset, own)
        return 1 - ((model.predict(outside) + offset - truth) ** 2).mean() / truth.var()

    monkeypatch.setattr(ridge_head.RidgeHead, "train", None)  # no model is trained anew
    for groups in ([[i] for i in range(N)], GROUPS):
        expected = score(np.arange(N)) - np.array([score(members) for members in removed(groups)])
        values = leave_one_out(game if len(groups) == N else GroupedGame(game, groups))
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("l2", [1e-3, 1e-6])
def test_models_of_separable_data_equal_new_ones(l2: float) -> None:
    features, labels, held_out, truth = classes(2)
    features, held_out = (np.c_[part, 4 * own] for part, own in ((features, labels), (held_out, truth)))
    game = FrozenEncoderUtility(features, labels, held_out, truth, l2=l2)
    few = ~np.eye(N, dtype=bool)[:20]
    everyone = np.ones(N, dtype=bool)
    expected = [log_likelihood(reference_outputs(game, np.flatnonzero(c)), truth) for c in (everyone, *few)]
    np.testing.assert_allclose(game(np.r_[everyone[None], few]), expected, atol=1e-6)


def test_models_trained_by_gradient_descent_are_trained_anew() -> None:
    data = classes(2)
    game = FrozenEncoderUtility(*data, epochs=3)
    permutation = np.arange(N)[None]
    without_last = game.prefix_values(permutation)[0, -2]
    assert game((np.arange(N) < N - 1)[None])[0] == pytest.approx(without_last, abs=1e-12)
    with pytest.raises(InputError, match="epochs: got 3; expected None for influence"):
        game.influence()


@pytest.mark.parametrize("task", TASKS)
def test_influence_is_the_derivative_by_the_weight_of_an_example(task: str) -> None:
    data, options = TASKS[task]
    game = FrozenEncoderUtility(*data, **options)
    truth, weights = np.asarray(game.validation_labels), game._head.problem.weights.numpy()
    values, step = game.influence(), 1e-4
    for i in (0, 1, 7, 50):
        payoffs = []
        for factor in (1 + step, 1 - step):
            changed = np.where(np.arange(N) == i, factor * weights, weights)
            payoffs.append(log_likelihood(reference_outputs(game, np.arange(N), changed), truth))
        assert values[i] == pytest.approx((payoffs[0] - payoffs[1]) / (2 * step), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("metric", ["mean_squared_error", "r2"])
def test_influence_of_regressions_is_the_leave_one_out_value_to_first_order(metric: str) -> None:
    features, _, held_out, _ = classes(2)
    targets, truth = features[:, 0] * 3 + WEIGHTS, held_out[:, 0] * 3
    data = (features, targets, held_out, truth)
    tiny = FrozenEncoderUtility(*data, task="regression", metric=metric, sample_weight=np.full(N, 1e-5))
    # With such weights the leverages are below 1e-5, and so is the relative difference of the first order
    np.testing.assert_allclose(tiny.influence(), leave_one_out(tiny), rtol=1e-3, atol=1e-12)
    assert np.ptp(tiny.influence()) > 1e-7


@pytest.mark.parametrize("metric", ["accuracy", np.dot])
def test_influence_needs_a_metric_with_derivatives(metric: object) -> None:
    with pytest.raises(InputError, match=r"metric: got .*; expected one of .*'log_loss'.* leave_one_out takes any"):
        FrozenEncoderUtility(*classes(2), metric=metric).influence()
