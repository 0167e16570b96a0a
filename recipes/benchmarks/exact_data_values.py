"""Error and coverage of Data Shapley on games of sentences with known exact values.

Two kinds of games: logistic regression on 12 movie sentences, with exact values from all 4,096 coalitions, and nearest
neighbours among 100 and 1,000 movie sentences, with exact values in closed form. Prints the root mean squared error for
several numbers of permutations, the same relative to the standard deviation of the values, and the coverage of the 95%
intervals. About three minutes on one core.

    python recipes/benchmarks/exact_data_values.py
"""

from __future__ import annotations

import math

import numpy as np
import torch
from data_shapley import movie_features

from lightning_attnflow.shapley import Game, MaxPermutations, exact_shapley
from lightning_attnflow.valuation import DataShapley, FrozenEncoderUtility, knn_game, knn_shapley


def study(name: str, game: Game, exact: np.ndarray, permutations: int, repeats: int) -> None:
    """Print error and coverage of several runs with a number of permutations."""
    errors, covered, evaluations = [], [], 0
    for seed in range(repeats):
        result = DataShapley(game, stop=MaxPermutations(permutations), truncation=None, seed=seed).fit().result
        low, high = result.interval()
        errors.append(((result.values - exact) ** 2).mean())
        covered.append(((low <= exact + 1e-12) & (exact - 1e-12 <= high)).mean())
        evaluations = result.n_evaluations
    rmse = math.sqrt(float(np.mean(errors)))
    counts = f"{name:34} {permutations:12,d} {evaluations:11,d} {repeats:8d}"
    print(f"{counts} {rmse:10.2e} {rmse / exact.std():9.3f} {np.mean(covered):9.3f}", flush=True)


def main() -> None:
    """Print the table."""
    train, labels, held_out, truth = movie_features(1000, 100)
    columns = f"{'permutations':>12} {'evaluations':>11} {'repeats':>8} {'RMSE':>10} {'RMSE/sd':>9} {'coverage':>9}"
    print(f"{'game':34} {columns}")
    chosen = np.r_[np.flatnonzero(labels == 0)[:6], np.flatnonzero(labels == 1)[:6]]
    for metric in ("log_loss", "accuracy"):
        game = FrozenEncoderUtility(train[chosen], labels[chosen], held_out, truth, metric=metric)
        exact = exact_shapley(game).values
        for permutations in (20, 100, 500):
            study(f"12 sentences, logistic, {metric}", game, exact, permutations, repeats=25)
    for n, budgets, repeats in ((100, (20, 100, 500), 5), (1000, (10, 40), 1)):
        data = train[:n], labels[:n], held_out[:20], truth[:20]
        for permutations in budgets:
            study(f"{n} sentences, 5 neighbours", knn_game(*data), knn_shapley(*data), permutations, repeats)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
