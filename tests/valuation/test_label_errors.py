"""find_label_errors: scores against retraining and cleanlab, labels of any kind, share of wrong labels, bad input."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from cleanlab.rank import get_label_quality_scores
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit

from lightning_attnflow import find_label_errors
from lightning_attnflow._ranks import spearman
from lightning_attnflow.errors import InputError
from lightning_attnflow.valuation import LabelErrors
from lightning_attnflow.valuation.label_noise import estimate_noise
from lightning_attnflow.valuation.label_scores import (
    blended,
    design,
    head_scores,
    kernel_design,
    loo_logits,
    probabilities,
)


def examples(n: int = 60, classes: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features with a class signal, and labels of which a tenth is wrong."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % classes)
    features = rng.normal(size=(n, 4))
    features[:, :classes] += 2.0 * np.eye(classes)[labels]
    labels[: n // 10] = (labels[: n // 10] + 1) % classes
    return features, labels


def trained(rows: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Coefficients of the regularised optimum, by a general optimiser."""

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        logits = rows @ w
        loss = -log_expit(np.where(targets > 0, logits, -logits)).sum() + w @ w / 2
        return loss, rows.T @ (expit(logits) - targets) + w

    found = minimize(objective, np.zeros(rows.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-9})
    return found.x


@pytest.mark.parametrize("classes", [2, 3])
def test_the_margin_is_that_of_a_model_retrained_without_the_example(classes: int) -> None:
    features, labels = examples(classes=classes)
    rows = design(features, len(features))
    expected = np.empty(len(labels))
    for left_out in range(len(labels)):
        kept = np.arange(len(labels)) != left_out
        logits = np.array([rows[left_out] @ trained(rows[kept], labels[kept] == c) for c in range(classes)])
        if classes == 2:
            logits[0] = 0.0
        expected[left_out] = logits[labels[left_out]] - np.delete(logits, labels[left_out]).max()
    margin = find_label_errors(features, labels).components["margin"]
    np.testing.assert_allclose(margin, expected, atol=0.1)  # one Newton step instead of retraining
    assert spearman(margin, expected) > 0.999
    assert expected.std() > 1


def test_the_margin_is_exactly_that_of_one_newton_step_without_the_example() -> None:
    features, labels = examples()
    rows = design(features, len(features))
    optimum, expected = trained(rows, labels), np.empty(len(labels))
    for left_out in range(len(labels)):
        kept = rows[np.arange(len(labels)) != left_out]
        probability = expit(kept @ optimum)
        gradient = kept.T @ (np.delete(labels, left_out) - probability) - optimum
        hessian = (kept * (probability * (1 - probability))[:, None]).T @ kept + np.eye(rows.shape[1])
        logit_without = rows[left_out] @ (optimum + np.linalg.solve(hessian, gradient))
        expected[left_out] = logit_without if labels[left_out] else -logit_without
    np.testing.assert_allclose(find_label_errors(features, labels).components["margin"], expected, atol=1e-5)


def test_validation_examples_are_trained_on_but_not_ranked() -> None:
    features, labels = examples()
    both = find_label_errors(features, labels)
    errors = find_label_errors(features[:40], labels[:40], features[40:], labels[40:])
    assert len(errors) == 40
    shift = design(features, 60) - design(features, 40)  # the features are centred and scaled on the training set
    assert np.abs(shift).max() < 0.2
    assert spearman(errors.scores, both.scores[:40]) > 0.97
    assert spearman(errors.scores, find_label_errors(features[:40], labels[:40]).scores) < 0.97


def test_weighted_leave_one_out_is_one_newton_step_without_the_example() -> None:
    features, labels = examples(classes=3)
    rows, weight = design(features, len(features)), np.random.default_rng(1).uniform(0.05, 1, len(labels))
    expected = np.empty((len(labels), 3))
    for label in range(3):
        targets = (labels == label).astype(np.float64)

        def gradient_of(w: np.ndarray, targets: np.ndarray = targets) -> np.ndarray:
            return rows.T @ (weight * (expit(rows @ w) - targets)) + w

        def loss_of(w: np.ndarray, targets: np.ndarray = targets) -> float:
            return float(-weight @ log_expit(np.where(targets > 0, 1, -1) * (rows @ w)) + w @ w / 2)

        optimum = minimize(loss_of, np.zeros(5), jac=gradient_of, method="BFGS", options={"gtol": 1e-9}).x
        for left_out in range(len(labels)):
            kept = np.where(np.arange(len(labels)) == left_out, 0.0, weight)
            probability = expit(rows @ optimum)
            gradient = rows.T @ (kept * (targets - probability)) - optimum
            hessian = (rows * (kept * probability * (1 - probability))[:, None]).T @ rows + np.eye(5)
            expected[left_out, label] = expit(rows[left_out] @ (optimum + np.linalg.solve(hessian, gradient)))
    found = probabilities(loo_logits(rows, labels, 3, weight))
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), atol=1e-5)


def test_training_again_with_weights_finds_more_wrong_labels() -> None:
    gains = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(400, 20))
        truth = (features[:, 0] + 0.3 * rng.normal(size=400) > 0).astype(np.int64)
        wrong = rng.random(400) < 0.2
        labels = np.where(wrong, 1 - truth, truth)
        rows = design(features, 400)
        logits = [loo_logits(part, labels, 2) for part in (rows, kernel_design(rows, 400, 0))]
        once = estimate_noise(probabilities(blended(*logits)), labels, 400).log_odds
        areas = [(x[wrong][:, None] < x[~wrong]).mean() for x in (find_label_errors(features, labels).scores, once)]
        gains.append(areas[0] - areas[1])
    assert np.mean(gains) > 2 * np.std(gains) / np.sqrt(len(gains)) > 0


def test_different_sizes_of_classes_show_in_the_logits_of_a_few_hundred_examples() -> None:
    rng = np.random.default_rng(0)
    labels = (np.arange(300) < 210).astype(np.int64)
    shift = loo_logits(design(rng.normal(size=(300, 200)), 300), labels, 2).mean() / logit(0.7)
    assert 0.5 < shift < 0.9  # shrunk, since the sizes may be due to wrong labels


def test_self_influence_and_influence_are_the_changes_of_losses_by_infinitesimal_weights() -> None:
    features, labels = examples()
    rows, n_train = design(features, 40), 40
    scores = head_scores(rows, labels, 2, n_train=n_train)
    own, validation = np.empty(n_train), np.empty(n_train)

    def losses(weight: np.ndarray) -> np.ndarray:
        def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
            logits = rows @ w
            signs = np.where(labels > 0, 1, -1)
            return float(-weight @ log_expit(signs * logits) + w @ w / 2), rows.T @ (
                weight * (expit(logits) - labels)
            ) + w

        w = minimize(objective, np.zeros(rows.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-10}).x
        return -log_expit(np.where(labels > 0, 1, -1) * (rows @ w))

    for index in range(0, n_train, 8):
        change = np.zeros(len(rows))
        change[index] = 1e-3
        difference = (losses(np.ones(len(rows)) + change) - losses(np.ones(len(rows)) - change)) / 2e-3
        own[index], validation[index] = difference[index], -difference[n_train:].mean()
    chosen = slice(0, n_train, 8)
    np.testing.assert_allclose(scores.self_influence[:n_train][chosen], own[chosen], atol=1e-5)
    assert scores.influence is not None
    np.testing.assert_allclose(scores.influence[chosen], validation[chosen], atol=1e-6)


def test_aum_is_the_mean_margin_of_the_steps_of_gradient_descent() -> None:
    features, labels = examples()
    rows = design(features, len(features))
    rate = min(16.0, 4 / np.linalg.eigvalsh(rows.T @ rows / len(rows))[-1])
    w, total = np.zeros(rows.shape[1]), np.zeros(len(rows))
    for _ in range(60):
        w += rate * rows.T @ (labels - expit(rows @ w)) / len(rows)
        total += np.where(labels == 1, 1, -1) * (rows @ w)
    np.testing.assert_allclose(find_label_errors(features, labels).components["aum"], total / 60, rtol=1e-3)


def test_the_order_within_a_class_is_that_of_cleanlab_with_the_same_probabilities() -> None:
    features, labels = examples()
    rows = design(features, 60)
    heads = rows, kernel_design(rows, 60, 0)
    first = probabilities(blended(*(loo_logits(head, labels, 2) for head in heads)))
    weights = estimate_noise(first, labels, 60).correct
    predicted = probabilities(blended(*(loo_logits(head, labels, 2, weights) for head in heads)))
    peer = get_label_quality_scores(labels, predicted, method="normalized_margin")
    scores = find_label_errors(features, labels).scores
    for label in (0, 1):
        chosen = labels == label
        assert np.argsort(scores[chosen]).tolist() == np.argsort(peer[chosen], kind="stable").tolist()


@pytest.mark.parametrize(
    "names",
    [
        ["neg", "pos"],
        np.array([-1, 1]),
        np.array([1, 2]),
        [False, True],
        torch.tensor([0.0, 1.0]),
        pd.Series(["a", "b"], dtype="category", index=[7, 3]),
    ],
)
def test_labels_of_any_kind_give_the_same_scores(names: Any) -> None:
    features, labels = examples()
    expected = find_label_errors(features, labels)
    given = names.iloc[labels] if isinstance(names, pd.Series) else [names[label] for label in labels]
    if isinstance(names, torch.Tensor):
        given = torch.stack(given)
    errors = find_label_errors(pd.DataFrame(features, index=range(100, 160)), given)
    np.testing.assert_array_equal(errors.scores, expected.scores)
    names, given = (column.tolist() if hasattr(column, "tolist") else column for column in (names, given))
    whole = {0.0: 0, 1.0: 1} if isinstance(names[0], float) else {}  # whole floats are shown as integers
    assert {str(value) for value in errors.suggested} == {str(whole.get(value, value)) for value in names}
    assert [str(value) for value in errors.labels] == [str(whole.get(value, value)) for value in given]


def test_the_tables_show_ids_texts_and_rows(tmp_path: Path) -> None:
    features, labels = examples()
    names = np.array(["neg", "pos"])[labels]
    errors = find_label_errors(
        features, names, ids=[f"id{i}" for i in range(60)], texts=[f"text {i}" for i in range(60)], rows=range(2, 62)
    )
    worst = int(errors.order[0])
    with errors.to_csv(tmp_path / "errors.csv").open(encoding="utf-8", newline="") as file:
        first = next(csv.DictReader(file))
    assert (first["row"], first["id"], first["text"]) == (str(worst + 2), f"id{worst}", f"text {worst}")
    assert (first["label"], float(first["score"])) == (names[worst], errors.scores[worst])
    assert first["suggested"] != first["label"]
    assert errors.to_pandas()["aum"].tolist() == errors.components["aum"][errors.order].tolist()


@pytest.mark.parametrize("n", [2, 400])
def test_without_information_the_share_is_unknown_in_all_outputs(n: int) -> None:
    errors = find_label_errors(np.random.default_rng(0).normal(size=(n, 1)), np.arange(n) % 2)
    assert "share of wrong labels unknown, too few examples or features that hardly predict" in errors.summary()
    assert "by given label unknown" in errors.summary()
    assert errors.expected_errors == 0
    assert not errors.plot().get_legend()


def test_the_share_of_each_class_is_shown_with_the_number_of_its_examples() -> None:
    features, labels = examples(n=300)
    errors = find_label_errors(features, np.where(np.arange(300) == 299, 2, labels))
    assert re.search(r"by given label .*% of 2 \(1 example\)", errors.summary())
    counts = np.bincount(labels[:299])
    assert all(re.search(rf"% of {label} \({counts[label]} examples\)", errors.summary()) for label in (0, 1))
    assert errors.expected_errors == round(300 * errors.share) > 0
    assert "unknown" not in errors.summary()


def test_examples_with_two_labels_are_reported() -> None:
    features, labels = examples()
    features[1], labels[:2] = features[0], [0, 1]
    features[2], labels[2] = features[0], 1
    summary = find_label_errors(features, labels).summary()
    assert "2 examples repeat the features of another" in summary
    assert "1 of the repeated examples occurs with different labels" in summary
    features[2] += 1
    assert "1 example repeats the features of another" in find_label_errors(features, labels).summary()
    assert "repeat" not in find_label_errors(*examples()).summary()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": [[1.0]], "labels": [0]}, "labels: got 1 of class 0 only; expected at least two classes"),
        ({"labels": [1] * 60}, "labels: got 60 of class 1 only"),
        ({"labels": ["a"] * 59}, "labels: got 59; expected 60"),
        ({"labels": np.eye(2)[examples()[1]]}, r"labels: got shape \(60, 2\)"),
        ({"labels": [None, *examples()[1][1:]]}, "labels, index 0: got None; expected a label"),
        ({"labels": [0.0, float("nan")] * 30}, "labels, index 1: got nan, and 29 more without a label"),
        ({"labels": [["a"], *examples()[1][1:]]}, r"labels, index 0: got \['a'\]; expected a label that is a string"),
        ({"labels": [0, "0", *[1] * 58]}, "labels: got both 0 and '0'; expected labels of one type"),
        ({"features": ["a text"] * 60}, "features: got list of dtype <U6; .*use find_text_label_errors"),
        ({"features": np.full((60, 2), np.nan)}, "features: got NaN or infinity in 60 rows"),
        ({"features": np.ones((60, 2))}, "features: got the same row for every example"),
        ({"ids": [0] * 60}, "ids: got 0 more than once"),
        ({"ids": [0]}, "ids: got 1; expected 60"),
        ({"texts": ["a"]}, "texts: got 1; expected 60"),
        ({"validation_features": np.ones((2, 4))}, "validation_labels: got None"),
        ({"validation_labels": [0, 1]}, "validation_features: got None"),
        ({"validation_features": np.ones((2, 4)), "validation_labels": [0, 0]}, "validation_labels: got 2 of class 0"),
        ({"validation_features": np.ones((2, 4)), "validation_labels": [0, 7]}, "validation_labels: got 7; .* 0, 1"),
        ({"validation_features": np.ones((2, 3)), "validation_labels": [0, 1]}, "validation_features: got 3 features"),
        ({"seed": -1}, "seed"),
    ],
)
def test_invalid_input_raises_an_error_that_names_it(change: dict[str, Any], message: str) -> None:
    features, labels = examples()
    with pytest.raises(InputError, match=message):
        find_label_errors(**{"features": features, "labels": labels, **change})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scores": "ab"}, "scores: got str"),
        ({"scores": [[0.5], [0.1]]}, r"scores: got shape \(2, 1\)"),
        ({"rows": 3}, "rows: got int"),
        ({"texts": "ab"}, "texts: got str"),
        ({"texts": ["a", "\ud800"]}, r"texts\[1\]: got the lone surrogate"),
        ({"suggested": ["\ud800", None]}, r"suggested\[0\]: got the lone surrogate"),
    ],
)
def test_fields_that_cannot_be_shown_or_written_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LabelErrors(**{"scores": np.array([0.5, 0.1])} | fields)


@pytest.mark.parametrize("k", [None, 0, "3"])
def test_tables_of_no_number_of_rows_are_refused(k: object) -> None:
    errors = LabelErrors(np.array([0.5, 0.1]))
    for table in (errors.table, errors.markdown):
        with pytest.raises(InputError, match="k: got"):
            table(k)
