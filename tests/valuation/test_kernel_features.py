"""Kernel features against the kernel of scikit-learn, and what they add to `find_label_errors`."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import rbf_kernel

from lightning_attnflow import find_label_errors
from lightning_attnflow.valuation.kernel_features import kernel_features
from lightning_attnflow.valuation.label_scores import design, loo_logits


def rows_of(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d))
    return (rows - rows.mean(axis=0)) / np.sqrt(d)


def test_inner_products_are_the_kernel_of_few_examples_also_if_some_are_equal() -> None:
    rows = rows_of(300)
    rows[7] = rows[8]
    features = kernel_features(rows, 300, seed=0)
    assert features.shape == (300, 300)
    np.testing.assert_allclose(features @ features.T, rbf_kernel(rows, gamma=0.5), rtol=0, atol=1e-5)


def test_inner_products_are_the_nystrom_approximation_from_training_examples_of_many() -> None:
    rows = rows_of(9000, d=4)  # two blocks
    features = kernel_features(rows, 700, seed=3)
    assert features.shape == (9000, 500)
    landmarks = rows[np.sort(np.random.default_rng(3).permutation(700)[:500])]
    some = rows[[0, 699, 8191, 8192, 8999]]
    across = rbf_kernel(some, landmarks, gamma=0.5)
    expected = across @ np.linalg.solve(rbf_kernel(landmarks, gamma=0.5) + 1e-6 * np.eye(500), across.T)
    found = features[[0, 699, 8191, 8192, 8999]]
    np.testing.assert_allclose(found @ found.T, expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.square(found).sum(axis=1), 1, atol=0.1)  # the kernel of a row with itself


def test_wrong_labels_of_classes_that_no_plane_separates_are_found() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 2))
    truth = (np.square(features).sum(axis=1) > 1.4).astype(np.int64)
    wrong = rng.random(400) < 0.1
    labels = np.where(wrong, 1 - truth, truth)
    linear = np.where(labels == 1, 1, -1) * loo_logits(design(features, 400), labels, 2)[:, 0]
    assert roc_auc_score(wrong, -linear) < 0.7
    assert roc_auc_score(wrong, -find_label_errors(features, labels).scores) > 0.9


def test_the_scores_of_many_examples_depend_on_the_seed_and_on_nothing_else_that_is_random() -> None:
    features = rows_of(600)
    labels = (features[:, 0] > 0).astype(np.int64)
    first, again, other = (find_label_errors(features, labels, seed=seed).scores for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()
    few = [find_label_errors(features[:400], labels[:400], seed=seed).scores for seed in (0, 1)]
    np.testing.assert_array_equal(*few)  # the kernel of all examples is used
