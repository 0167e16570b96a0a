"""Held-out accuracy of FrozenEncoderUtility with its default penalty and of cross-validated logistic regression.

Trains on 100, 300 and 1,000 movie sentences, five random subsets each, and scores on 1,500 others. Prints the mean
difference with its standard error. About two minutes on one core.

    python recipes/benchmarks/head_accuracy.py
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from data_shapley import movie_features
from sklearn.linear_model import LogisticRegressionCV

from lightning_attnflow.valuation import FrozenEncoderUtility

SIZES, DRAWS = (100, 300, 1000), 5


def accuracies(
    features: np.ndarray, labels: np.ndarray, held_out: np.ndarray, truth: np.ndarray
) -> tuple[float, float]:
    """Held-out accuracy with the default penalty and of LogisticRegressionCV."""
    game = FrozenEncoderUtility(features, labels, held_out, truth, metric="accuracy")
    ours = game(np.ones((1, len(features)), dtype=bool))[0]
    return ours, LogisticRegressionCV(Cs=10, cv=5, max_iter=500).fit(features, labels).score(held_out, truth)


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


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    main()
