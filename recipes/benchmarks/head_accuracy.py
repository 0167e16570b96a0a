"""Held-out accuracy of FrozenEncoderUtility with its default penalty and of logistic regression by scikit-learn.

Trains on 100, 300 and 1,000 movie sentences, five random subsets each, and scores on 1,500 others. Prints the mean
difference with its standard error; then the balanced accuracy of models trained on 1,000 negative and 20 positive
sentences, with and without balanced class weights. About two minutes on one core.

    python recipes/benchmarks/head_accuracy.py
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from data_shapley import movie_features
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.metrics import balanced_accuracy_score

from lightning_attnflow.valuation import FrozenEncoderUtility

SIZES, DRAWS = (100, 300, 1000), 5


def accuracies(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray
) -> tuple[float, float]:
    """Held-out accuracy with the default penalty and of LogisticRegressionCV."""
    game = FrozenEncoderUtility(features, labels, held_out, truth, metric="accuracy")
    ours = game(np.ones((1, len(features)), dtype=bool))[0]
    return ours, LogisticRegressionCV(Cs=10, cv=5, max_iter=500).fit(features, labels).score(held_out, truth)


def balanced_accuracies(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """Balanced held-out accuracy of each method."""
    everyone, found = np.ones((1, len(features)), dtype=bool), {}
    for weight in (None, "balanced"):
        game = FrozenEncoderUtility(features, labels, held_out, truth, metric="balanced_accuracy", class_weight=weight)
        found[f"FrozenEncoderUtility, {weight}"] = game(everyone)[0]
        model = LogisticRegression(max_iter=1000, class_weight=weight).fit(features, labels)
        found[f"LogisticRegression, {weight}"] = balanced_accuracy_score(truth, model.predict(held_out))
    chosen = LogisticRegressionCV(Cs=10, cv=5, max_iter=500, class_weight="balanced", scoring="balanced_accuracy").fit(
        features, labels
    )
    found["LogisticRegressionCV, balanced"] = balanced_accuracy_score(truth, chosen.predict(held_out))
    return found


def main() -> None:
    """Print the table."""
    features, labels, held_out, truth = movie_features(3000, 1500)
    print(f"{'held-out accuracy, 1,500 sentences':36} {'default':>8} {'CV':>8} {'difference (SE)':>18}")
    for size in SIZES:
        pairs = []
        for draw in range(DRAWS):
            rows = np.random.default_rng(draw).permutation(3000)[:size]
            pairs.append(accuracies(features[rows], labels[rows], held_out, truth))
        ours, theirs = np.transpose(pairs)
        difference = 100 * (ours - theirs)
        spread = difference.std(ddof=1) / np.sqrt(DRAWS)
        name = f"{size} sentences, mean of {DRAWS} draws"
        print(f"{name:36} {ours.mean():8.4f} {theirs.mean():8.4f} {difference.mean():+9.2f} ({spread:.2f}) points")
    drawn = []
    for draw in range(DRAWS):
        rng = np.random.default_rng(draw)
        rows = [rng.permutation(np.flatnonzero(labels == label))[:size] for label, size in enumerate((1000, 20))]
        rows = np.concatenate(rows)
        drawn.append(balanced_accuracies(features[rows], labels[rows], held_out, truth))
    print(f"balanced accuracy, 1,000 negative and 20 positive sentences, mean of {DRAWS} draws; class_weight")
    for name in drawn[0]:
        print(f"    {name:42} {np.mean([found[name] for found in drawn]):.4f}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main()
