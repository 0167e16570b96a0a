"""Estimated label noise: share of wrong labels, calibration, and the posterior of the rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.special import expit

from lightning_attnflow.valuation.label_noise import _grouped, _negative_log_posterior, estimate_noise


@pytest.mark.parametrize(("classes", "trusted"), [(2, 0), (2, 2000), (4, 0), (4, 2000)])
def test_the_share_of_random_wrong_labels_is_in_its_interval(classes: int, trusted: int) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(scale=3, size=(6000 + trusted, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(classes, p=row) for row in probabilities])
    wrong = rng.random(6000) < 0.2
    labels[:6000][wrong] = (labels[:6000][wrong] + rng.integers(1, classes, size=wrong.sum())) % classes
    noise = estimate_noise(probabilities, labels, 6000)
    low, high = noise.interval
    assert low <= wrong.mean() <= high
    assert high - low < 0.06
    assert noise.share == pytest.approx(wrong.mean(), abs=0.03)
    assert (1 - noise.correct).sum() == pytest.approx(wrong.sum(), rel=0.2)
    assert noise.correct[wrong].mean() < noise.correct[~wrong].mean() - 0.2


def test_the_probability_that_a_label_is_correct_is_calibrated() -> None:
    rng = np.random.default_rng(2)
    positive = expit(rng.normal(scale=3, size=20000))
    labels = (rng.random(20000) < positive).astype(np.int64)
    wrong = rng.random(20000) < 0.1
    labels[wrong] = 1 - labels[wrong]
    correct = estimate_noise(np.array([1 - positive, positive]).T, labels, 20000).correct
    for low, high in ((0.2, 0.4), (0.4, 0.6), (0.6, 0.8), (0.8, 0.9)):
        chosen = (correct >= low) & (correct < high)
        assert (~wrong[chosen]).mean() == pytest.approx(correct[chosen].mean(), abs=0.06)


@pytest.mark.parametrize("flipped", [0.3, 0.02])
def test_small_differences_of_noise_between_classes_change_the_scores_little(flipped: float) -> None:
    rng = np.random.default_rng(4)
    positive = expit(rng.normal(scale=4, size=20000))
    labels = (rng.random(20000) < positive).astype(np.int64)
    wrong = (labels == 0) & (rng.random(20000) < flipped)
    labels[wrong] = 1
    noise = estimate_noise(np.array([1 - positive, positive]).T, labels, 20000)
    share = wrong.sum() / (labels == 1).sum()
    np.testing.assert_allclose(noise.by_class, [0, share], atol=0.03)
    logit = np.where(labels == 1, 1, -1) * np.log(positive / (1 - positive))
    unclear = np.abs(logit) < 0.2  # nothing but the class and its noise tells correct from wrong
    contrast = noise.log_odds[unclear & (labels == 0)].mean() - noise.log_odds[unclear & (labels == 1)].mean()
    low, high = (1.0, 3.0) if flipped == 0.3 else (-0.1, 0.5)
    assert low < contrast < high


@pytest.mark.parametrize(("classes", "replaced"), [(2, 0.1), (2, 0.0), (3, 0.3)])
def test_the_gradient_of_the_posterior_of_the_noise_is_that_of_finite_differences(
    classes: int, replaced: float
) -> None:
    rng = np.random.default_rng(classes)
    groups = _grouped(rng.normal(size=(90, classes)), rng.integers(classes, size=90), n_train=60)
    parameters = np.r_[rng.normal(size=2 * classes), 0.8, 0.05]  # rates, intercepts, slope, wrong validation labels
    _, gradient = _negative_log_posterior(parameters, replaced, groups)
    expected = approx_fprime(parameters, lambda at: _negative_log_posterior(at, replaced, groups)[0], 1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-4)


def test_the_interval_contains_every_share_if_nothing_is_known() -> None:
    noise = estimate_noise(np.full((4, 2), 0.5), np.array([0, 1, 0, 1]), 4)
    assert noise.interval == (0.0, 0.5)
