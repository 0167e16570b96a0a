"""Cost and accuracy of Data Shapley along a permutation: updated models against models trained to the optimum.

Movie sentences with 10% flipped labels, 400 validation labels, log loss, one thread; after the first 8,700 also
sentences of product reviews. For each number of sentences: CPU seconds of one permutation; the error of the updated
marginals relative to the standard deviation of the exact ones (root mean square, and largest); and the area under the
ROC curve for finding the flipped labels by the mean marginal. Ten minutes, mostly for encoding the sentences once and
for the exact models.

    python recipes/benchmarks/permutation_cost.py
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from lightning_attnflow.valuation import FrozenEncoderUtility, LabelledTexts

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.data_shapley import features_of, movie_features
from movie_reviews import binary_sentences, load_movie_reviews

MOVIES, PRODUCTS = 8700, 1300


def marginals(game: FrozenEncoderUtility, permutations: np.ndarray) -> tuple[np.ndarray, float]:
    """Marginals (m, n) by player, and CPU seconds for each permutation."""
    began = time.process_time()
    steps = np.diff(game.prefix_values(permutations), axis=1)
    seconds = (time.process_time() - began) / len(permutations)
    return np.take_along_axis(steps, np.argsort(permutations, axis=1), axis=1), seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[300, 1000, 3000, 8700, 10_000])
    parser.add_argument("--exact", type=int, default=3000, help="largest size that is also trained to the optimum")
    parser.add_argument("--permutations", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    features, labels, held_out, truth = movie_features(MOVIES, 400)
    if max(options.sizes) > MOVIES:
        products = binary_sentences(load_movie_reviews(source="amazonReviewSnippets"))
        part = LabelledTexts(products.texts[:PRODUCTS], products.labels[:PRODUCTS], products.classes)
        others, their_labels = features_of([part])
        features, labels = np.concatenate([features, others]), np.concatenate([labels, their_labels])
    print(
        f"{'n':>6} {'updated s':>10} {'exact s':>9} {'ratio':>6} {'RMS error':>10} {'largest':>8}  AUC updated, exact"
    )
    for size in options.sizes:
        rng = np.random.default_rng(size)
        flipped = rng.random(size) < 0.1
        data = features[:size], np.where(flipped, 1 - labels[:size], labels[:size]), held_out, truth
        orders = np.array([rng.permutation(size) for _ in range(options.permutations)])
        found, seconds = marginals(FrozenEncoderUtility(*data), orders)
        row = f"{size:6} {seconds:10.2f}"
        areas = f"{roc_auc_score(flipped, -found.mean(axis=0)):.3f}"
        if size <= options.exact:
            trained, cost = marginals(FrozenEncoderUtility(*data, prefixes="exact"), orders)
            error = (found - trained) / trained.std()
            row += f" {cost:9.2f} {cost / seconds:6.1f} {np.sqrt((error**2).mean()):10.4f} {np.abs(error).max():8.3f}"
            areas += f", {roc_auc_score(flipped, -trained.mean(axis=0)):.3f}"
        print(f"{row:54}  {areas}", flush=True)


if __name__ == "__main__":
    main()
